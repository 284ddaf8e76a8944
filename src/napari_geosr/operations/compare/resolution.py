"""Fourier correlation of two halves of a scan, of two scans, or of single scans."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, WarningIssued
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.fourier import (
    FourierCorrelation,
    checkerboard_correlation,
    fourier_correlation,
)
from napari_geosr.measure.comparison.frame import FrameVolume, on_common_frame
from napari_geosr.measure.comparison.sweep import FrameVolumes, known_block
from napari_geosr.measure.noise import noise_steps
from napari_geosr.operations.compare.config import FscSource
from napari_geosr.operations.compare.independence import (
    refuse_correlated,
    refuse_outputs,
    refuse_same_source,
)
from napari_geosr.operations.measure.grey_levels import one_volume

#: Number of slices below which only rings within slices are correlated, not shells.
_FEW_SLICES = 16
#: Anisotropy of the voxels above which rings within slices are correlated as well.
_ANISOTROPIC = 1.5
#: Minimum edge length of a block within slices, in voxels; smaller blocks have too few
#: rings.
_MIN_EDGE = 16
Warn = Callable[[str], WarningIssued]


def resolution_steps(
    placed: Mapping[str, FrameVolume],
    noise: Mapping[str, Noise | None],
    source: FscSource,
    halves: tuple[Volume, Volume] | None,
    *,
    most_voxels: int,
    remarks: list[str],
    warn: Warn,
    should_stop: ShouldStop,
) -> Generator[Step, None, dict[str, FourierCorrelation]]:
    """Compute the Fourier correlation that `source` selects.

    Raises
    ------
    VolumeError
        If the correlation is impossible or would not be meaningful.
    Cancelled
        If `should_stop` returns True.
    """
    if source == "none":
        return {}
    yield StageStarted(message="Finding the resolution by Fourier correlation")
    if should_stop():
        raise Cancelled("The comparison was cancelled.")
    if source == "single":
        return (yield from _single_steps(placed, noise, most_voxels, remarks, warn))
    one, other = halves or [p.volume for p in placed.values()][:2]
    pair = on_common_frame({"one": one, "other": other})
    _refuse_resampled(pair)
    values, _ = _block(FrameVolumes(pair, "one"), most_voxels, remarks)
    if np.array_equal(values["one"], values["other"]):
        raise VolumeError(
            f"{one.title} and {other.title} contain the same voxels: Fourier "
            "correlation needs two scans with independent noise, or two halves of one "
            "scan."
        )
    name = f"{one.name} and {other.name}"
    frame = pair["one"].frame
    return {
        label: fourier_correlation(
            values["one"],
            values["other"],
            frame.voxel_size,
            unit=frame.length_unit,
            planes=planes,
        )
        for label, planes in _kinds(name, values["one"].shape, frame.voxel_size)
    }


def refuse_by_record(
    volumes: Mapping[str, Volume],
    source: FscSource,
    halves: tuple[Volume, Volume] | None,
) -> tuple[Volume, Volume] | None:
    """Refuse volumes unsuitable for Fourier correlation; return the halves to use.

    Raises
    ------
    VolumeError
        If, according to their records, volumes were restored or resampled, or come from
        the same projections.
    """
    if halves is not None:
        halves = one_volume(halves[0]), one_volume(halves[1])
    if source in ("pair", "halves"):
        one, other = halves or list(volumes.values())[:2]
        refuse_outputs(one, other)
        refuse_same_source(one, other)
    elif source == "single":
        refused = []
        for volume in volumes.values():
            try:
                refuse_outputs(volume)
            except VolumeError as error:
                refused.append(error)
        if len(refused) == len(volumes):
            raise refused[0]
    return halves


def _single_steps(
    placed: Mapping[str, FrameVolume],
    noise: Mapping[str, Noise | None],
    most_voxels: int,
    remarks: list[str],
    warn: Warn,
) -> Generator[Step, None, dict[str, FourierCorrelation]]:
    """Correlate checkerboard halves of suitable volumes; refuse if none is suitable."""
    found: dict[str, FourierCorrelation] = {}
    refused: list[VolumeError] = []
    for key, one in placed.items():
        try:
            refuse_outputs(one.volume)
            if one.is_averaged:
                # Measure the noise on the original voxels, because averaging changes
                # it.

                measured = yield from noise_steps(one.volume)
                refuse_correlated(one.volume, measured)
            else:
                refuse_correlated(one.volume, noise.get(key))
        except VolumeError as error:
            refused.append(error)
            continue
        own = on_common_frame({key: one.cropped()})
        values, _ = _block(FrameVolumes(own, key), most_voxels, remarks)
        frame = own[key].frame
        shape = values[key].shape
        for label, planes in _kinds(one.volume.name, shape, frame.voxel_size):
            found[label] = checkerboard_correlation(
                values[key], frame.voxel_size, unit=frame.length_unit, planes=planes
            )
    if not found:
        raise refused[0]
    for reason in refused:
        yield warn(str(reason))
    return found


def _refuse_resampled(pair: Mapping[str, FrameVolume]) -> None:
    for one in pair.values():
        if not one.is_whole:
            raise VolumeError(
                f"{one.volume.title} is not on the same voxel grid as the other half "
                "and would have to be resampled; Fourier correlation would mistake "
                "the effect of interpolation for signal. Use two halves on the same "
                "voxel grid."
            )


def _block(
    group: FrameVolumes, most_voxels: int, remarks: list[str]
) -> tuple[AnyDict, tuple[slice, ...]]:
    values, box = known_block(group, most_voxels)
    shape = tuple(s.stop - s.start for s in box)
    if min(shape[-2:]) < _MIN_EDGE:
        raise VolumeError(
            f"Fourier correlation needs slices of at least {_MIN_EDGE} × {_MIN_EDGE} "
            f"voxels; only {' × '.join(map(str, shape))} voxels are valid in all "
            "volumes."
        )
    if math.prod(shape) < math.prod(group.shape):
        part = " × ".join(map(str, shape))
        remarks.append(
            f"The Fourier correlation of {group.placed[group.base].volume.title} was "
            f"computed in its central block of {part} voxels, the largest that fits "
            "into memory and contains no unknown voxels."
        )
    return values, box


def _kinds(
    name: str, shape: tuple[int, ...], voxel_size: tuple[float, ...]
) -> list[tuple[str, bool]]:
    """Return the kinds of correlation, by name: shells, rings in slices, or both."""
    if len(shape) == 2:
        return [(name, True)]
    if shape[0] < _FEW_SLICES:
        return [(f"{name}, in slices", True)]
    if max(voxel_size) > _ANISOTROPIC * min(voxel_size):
        return [(name, False), (f"{name}, in slices", True)]
    return [(name, False)]
