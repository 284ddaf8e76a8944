"""Find the two phases of the targets, such as pores and solid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.learning.statistics import GreyScale, sample_planes

Phase = Literal["dark", "bright"]

#: Maximum number of volumes from which the phases and their widths are determined.
_MAX_VOLUMES = 16
#: Approximate edge of the subsampled planes, in voxels.
_PLANE_EDGE = 128
#: Maximum number of planes per volume in which the width of a phase is measured.
_MEASURED_PLANES = 4
#: Percentiles between which Otsu's threshold is sought: if hot voxels were included,
#: nearly all other values would be in one bin of the histogram.
_PERCENTILES = (0.1, 99.9)
#: Number of bins of the histogram for Otsu's threshold.
_BINS = 256


@dataclass(frozen=True)
class GreyPhases:
    """Dark and bright phase, separated by Otsu's threshold over all targets.

    Attributes
    ----------
    threshold : float
        Grey value between the phases.
    dark, bright : float
        Means of the grey values on both sides.
    dark_share : float
        Fraction of the sampled voxels in the dark phase.
    """

    threshold: float
    dark: float
    bright: float
    dark_share: float

    def share(self, phase: Phase) -> float:
        """Return the fraction of the voxels in `phase`."""
        return self.dark_share if phase == "dark" else 1 - self.dark_share

    def mask(self, values: AnyArray, phase: Phase) -> Any:
        """Return the Boolean mask of the voxels in `phase`."""
        return (values <= self.threshold) == (phase == "dark")

    def standardised(self, grey: GreyScale) -> GreyPhases:
        """Convert the phases to standardised grey values, as used by losses."""

        def scaled(value: float) -> float:
            return (value - grey.mean) / grey.std

        return GreyPhases(
            scaled(self.threshold),
            scaled(self.dark),
            scaled(self.bright),
            self.dark_share,
        )


def find_phases(targets: Sequence[Volume]) -> GreyPhases:
    """Find the phases of up to 16 targets, from up to 64 planes of each.

    At the optimum of Otsu's criterion, the threshold is midway between the means of the
    phases. If the histogram has a gap, all thresholds in the gap are equivalent, but
    soft phases require its midpoint.

    Raises
    ------
    VolumeError
        If all grey values are the same.
    """
    from skimage.filters import threshold_otsu

    samples = []
    for target in _spread_sample(targets):
        for plane in sample_planes(target):
            step = [max(1, n // _PLANE_EDGE) for n in plane.shape]
            values = plane[:: step[0], :: step[1]]
            samples.append(values[np.isfinite(values)].astype(np.float64))
    values = np.concatenate(samples)
    low, high = np.percentile(values, _PERCENTILES) if values.size else (0.0, 0.0)
    if not low < high:  # one phase has less than 0.1 % of the voxels
        low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    if not low < high:
        names = ", ".join(target.title for target in targets)
        raise VolumeError(
            f"{names}: all grey values are equal, so there are no phases to separate. "
            "Check the file."
        )
    values = np.clip(values, low, high)
    is_dark = values <= threshold_otsu(values, nbins=_BINS)
    dark, bright = float(values[is_dark].mean()), float(values[~is_dark].mean())
    threshold = (dark + bright) / 2
    return GreyPhases(threshold, dark, bright, float((values <= threshold).mean()))


def widest_radius(targets: Sequence[Volume], phases: GreyPhases, phase: Phase) -> int:
    """Count the erosions (face neighbours) that the widest part of `phase` survives.

    Finding the centreline of the widest part takes the same number of erosions. The
    count is taken in a few planes; if parts are thinner across the planes, it is larger
    than necessary.

    Parameters
    ----------
    targets : sequence of Volume
    phases : GreyPhases
        Grey values of the phases.
    phase : str
        Phase in which the widths are measured.
    """
    from scipy.ndimage import distance_transform_cdt

    widest = 1
    for target in _spread_sample(targets):
        flat = target.axes == "YX"
        for z in (
            [...] if flat else _spread_sample(range(target.shape[0]), _MEASURED_PLANES)
        ):
            mask = phases.mask(np.asarray(target.data[z]), phase)
            if mask.all() or not mask.any():
                continue
            depth = distance_transform_cdt(mask, metric="taxicab")
            widest = max(widest, int(depth.max()) - 1)
    return widest


def _spread_sample(items: Sequence[Any], n_max: int = _MAX_VOLUMES) -> list[Any]:
    """Return up to `n_max` items, evenly spaced over the whole sequence."""
    indices = np.linspace(0, len(items) - 1, min(n_max, len(items)))
    return [items[i] for i in np.unique(indices.round().astype(int))]
