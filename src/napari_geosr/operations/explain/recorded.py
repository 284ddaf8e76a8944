"""Reopens the scan from which a result was restored, using the result's record."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.addresses import as_address
from napari_geosr.core.errors import FileError, GeoSRError, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume


def described_input(record: AnyMapping) -> AnyMapping | None:
    """Return the description of the scan in the record of a restoration, if any."""
    inputs = record.get("inputs")
    facts = inputs.get("input") if isinstance(inputs, Mapping) else None
    return facts if isinstance(facts, Mapping) else None


def recorded_input(record: AnyMapping) -> AnyMapping | None:
    """Return the description of the scan in the record, if the scan can be reopened.

    Returns None if the scan was not a file with one volume or image.
    """
    facts = described_input(record)
    if facts is None or not facts.get("path"):
        return None
    return facts if facts.get("axes") in ("ZYX", "YX") else None


def checked_scan_steps(
    scan: Volume, facts: AnyMapping | None, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, Volume]:
    """Return an open scan if it is the one that a result was restored from.

    Parameters
    ----------
    scan : Volume
    facts : mapping or None
        The result of `described_input`. Without this description, or if it lacks a
        checksum, the voxels cannot be checked.
    should_stop : callable

    Raises
    ------
    VolumeError
        If the scan is another one, or was edited since the restoration.
    """
    expected = None if facts is None else facts.get("checksum")
    if facts is None or not expected:
        return scan
    is_same = list(scan.shape) == list(facts.get("shape", scan.shape))
    if is_same and str(expected).startswith("crc32"):  # a checksum of the voxels
        is_same = provenance.array_checksum(scan.data) == expected
    elif is_same:
        found = yield from provenance.describe_steps(scan, should_stop)
        is_same = found["checksum"] == expected
    if not is_same:
        raise VolumeError(
            f"{scan.title} is not the scan that was restored, or was edited since, so "
            "it cannot explain the result. Restore it again, or open the original scan."
        )
    return scan


def recorded_scan_steps(
    facts: AnyMapping,
    *,
    beside: Path | None = None,
    position: Mapping[str, int] | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Volume]:
    """Open the scan that a result was restored from.

    Parameters
    ----------
    facts : mapping
        The result of `recorded_input`.
    beside : Path, optional
        File of the result. If the scan is no longer at its recorded path, a file of the
        same name next to the result is used.
    position : mapping, optional
        Time point and channel that were restored (``"time"``, ``"channel"``), if the
        file has several.
    should_stop : callable

    Returns
    -------
    Volume
        The scan, with the voxel size of the record.

    Raises
    ------
    FileError
        If the file is missing, or has changed since the restoration.
    VolumeError
        If the file has several time points or channels, and `position` is missing.
    """
    path = _place(str(facts["path"]), beside)
    title = Path(str(facts["path"])).name
    yield StageStarted(message=f"Opening {title}")
    stored = io.read(path)
    found = yield from provenance.describe_steps(stored, should_stop)
    volume = _chosen(stored, facts, position or {}, title)
    expected = str(facts.get("checksum"))
    actual = str(found["checksum"])
    if expected.startswith("crc32"):  # a checksum of the voxels, not of the file
        actual = provenance.array_checksum(volume.data)
    if expected != actual or list(volume.shape) != list(facts.get("shape", ())):
        raise FileError(
            f"{path} is not the scan that was restored: it was changed or replaced "
            "later, so it cannot explain the result. Restore it again, or open the "
            "original scan and restore that."
        )
    sizes = [float(size) for size in facts.get("voxel_size", ())]
    if len(sizes) == len(volume.axes) and facts.get("unit"):
        return volume.with_geometry(sizes, str(facts["unit"]))
    return volume


def _place(recorded: str, beside: Path | None) -> str | Path:
    """Return the recorded path, or a file of the same name next to the result."""
    if as_address(recorded) is not None or Path(recorded).exists():
        return recorded
    if beside is not None and (near := beside.parent / Path(recorded).name).exists():
        return near
    raise FileError(
        f"{recorded}, the scan that was restored, no longer exists. Put the "
        "file back, or copy it next to the result."
    )


def _chosen(
    volume: Volume, facts: AnyMapping, position: AnyMapping, title: str
) -> Volume:
    """Return the restored time point and channel of a file."""
    axes = str(facts["axes"])
    if list(volume.shape) == list(facts.get("shape", ())):
        return volume if volume.axes == axes else volume.replace(axes=axes)
    try:
        return volume.select(time=position.get("time"), channel=position.get("channel"))
    except GeoSRError as error:
        raise VolumeError(
            f"{title} has several time points or channels, and the record of the "
            "result does not state which one was restored. Open the scan in napari "
            "and restore the one that you want to explain."
        ) from error
