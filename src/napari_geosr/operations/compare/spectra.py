"""Power spectra, and size of the finest detail, in the central block of volumes."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.units import convert_length
from napari_geosr.measure.comparison.decorrelation import finest_detail
from napari_geosr.measure.comparison.fourier import PowerSpectrum, power_spectrum
from napari_geosr.measure.comparison.frame import FrameVolume, on_common_frame
from napari_geosr.measure.comparison.sweep import FrameVolumes, known_block
from napari_geosr.operations.compare.groups import own_places

#: Bytes per voxel of a block during a Fourier transform.
_TRANSFORM_BYTES = 40
#: Maximum number of voxels of a block for spectra and decorrelation analysis.
_SPECTRUM_VOXELS = 1 << 24
#: Number of slices used for decorrelation analysis.
_SLICES = 9


def transformed_voxels(budget: int) -> int:
    """Return how many voxels can be Fourier-transformed at once within `budget`."""
    return max(1 << 15, budget // _TRANSFORM_BYTES)


def spectrum_steps(
    groups: Sequence[FrameVolumes],
    titles: dict[str, str],
    budget: int,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[dict[str, float | None], dict[str, PowerSpectrum]]]:
    """Find the finest detail of volumes, and spectra of volumes and their differences.

    Parameters
    ----------
    groups : sequence of FrameVolumes
        Groups, starting with the finest frame, in which the base is evaluated.
    titles : dict of str
        Name of each volume, in the order of the results.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    yield StageStarted(message="Computing spectra")
    detail: dict[str, float | None] = {}
    spectra: dict[str, PowerSpectrum] = {}
    differences: dict[str, PowerSpectrum] = {}
    places = own_places(groups)
    for group in groups:
        if should_stop():
            raise Cancelled("The comparison was cancelled.")
        share = transformed_voxels(budget) // (len(group.placed) + 1)
        share = min(share, _SPECTRUM_VOXELS)
        new = [key for key in group.placed if key not in detail]
        try:
            values, _ = known_block(group, share)
            found = {key: _detail(places[key], share) for key in new}
        except VolumeError:  # only scattered voxels are valid
            continue
        detail |= found
        frame = group.placed[group.base].frame
        size, unit = frame.voxel_size, frame.length_unit
        for key in new:
            spectra[key] = power_spectrum(values[key], size, unit=unit)
        for key in group.others:
            residual = values[key] - values[group.base]
            name = f"{titles[key]} − {titles[group.base]}"
            differences[name] = power_spectrum(residual, size, unit=unit)
    keys = [key for key in titles if key in detail]
    return (
        {key: detail[key] for key in keys},
        {**{key: spectra[key] for key in keys}, **differences},
    )


def _detail(placed: FrameVolume, most_voxels: int) -> float | None:
    """Return the size of the finest detail, in the frame's unit; None if unreliable."""
    own = on_common_frame({"it": placed.cropped()})
    values, _ = known_block(FrameVolumes(own, "it"), most_voxels)
    block = values["it"]
    planes = block.reshape(-1, *block.shape[-2:])
    places = np.unique(np.linspace(0, len(planes) - 1, _SLICES).astype(int))
    size = own["it"].frame.voxel_size[-2:]
    found = [finest_detail(planes[z], size) for z in places]
    periods = [f for f in found if f is not None]
    # If most slices give no result, the results of the others are not reliable.
    if 2 * len(periods) <= len(found):
        return None
    own_unit, unit = own["it"].frame.unit, placed.frame.unit
    return float(np.median(periods)) * convert_length(1.0, own_unit, unit)
