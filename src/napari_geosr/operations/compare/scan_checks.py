"""Checks restored volumes against their scans, if both are being compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping

from napari_geosr.core import provenance
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, WarningIssued
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.scan_check import ScanCheck
from napari_geosr.operations.restore.consistency import consistency_figures_steps
from napari_geosr.operations.restore.consistency_verdict import verdict_of

#: Prefix of checksums that are computed from voxels instead of files.
_OF_VOXELS = "crc32-sampled:"


def scan_check_steps(
    given: Mapping[str, Volume],
    placed: Mapping[str, Volume],
    remarks: list[str],
    warn: Callable[[str], WarningIssued],
    should_stop: ShouldStop,
) -> Generator[Step, None, dict[str, ScanCheck]]:
    """Check each restored volume against the scan named in its record.

    A volume is skipped if it has no such record, or if its scan is not among the other
    volumes.

    Parameters
    ----------
    given : mapping of Volume
        The volumes as opened, to which the records refer.
    placed : mapping of Volume
        The same volumes with spatial axes and positions.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    found: dict[str, ScanCheck] = {}
    for key, volume in placed.items():
        recorded = _restored_from(given[key])
        if recorded is None:
            continue
        others = {k: v for k, v in given.items() if k != key}
        scan = yield from _scan_steps(recorded, others, should_stop)
        if scan is None:
            continue
        yield StageStarted(message=f"Checking {volume.title} against its scan")
        try:
            figures = yield from consistency_figures_steps(
                placed[scan], volume, should_stop=should_stop
            )
        except VolumeError:  # the volume has since been cropped or moved
            continue
        verdict = verdict_of(figures, math.prod(placed[scan].shape))
        noise = figures.noise_rms
        found[key] = ScanCheck(
            scan=scan,
            level=verdict.level,
            sentence=verdict.sentence,
            residual=figures.residual_rms / noise if noise > 0 else None,
            contrast=figures.slope,
            contrast_error=figures.slope_error,
            regions=len(figures.places),
        )
        sentence = (
            f"Consistency of {volume.title} with its scan {placed[scan].title}: "
            f"{verdict.sentence}"
        )
        if verdict.level == "harmful":
            yield warn(sentence)
        else:
            remarks.append(sentence)
    return found


def _restored_from(volume: Volume) -> AnyMapping | None:
    """Return the recorded description of a volume's scan; None if unknown."""
    entry: AnyMapping = volume.provenance[-1] if volume.provenance else {}
    inputs = entry.get("inputs")
    if entry.get("operation") != "restore" or not isinstance(inputs, Mapping):
        return None
    # If the mean of several scans was restored, the inputs have other names.
    scan = inputs.get("input")
    return scan if isinstance(scan, Mapping) and scan.get("checksum") else None


def _scan_steps(
    recorded: AnyMapping, volumes: Mapping[str, Volume], should_stop: ShouldStop
) -> Generator[Step, None, str | None]:
    """Return the key of the volume with the recorded checksum; None if none has it."""
    checksum = str(recorded["checksum"])
    for key, volume in volumes.items():
        if list(volume.shape) != list(recorded.get("shape", ())):
            continue
        if checksum.startswith(_OF_VOXELS):
            same = provenance.array_checksum(volume.data) == checksum
        else:
            described = yield from provenance.describe_steps(volume, should_stop)
            same = described["checksum"] == checksum
        if same:
            return key
    return None
