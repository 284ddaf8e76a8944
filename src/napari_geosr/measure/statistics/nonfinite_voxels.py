"""Voxels that are NaN or infinite: neither pore nor sample."""

from __future__ import annotations

from napari_geosr.measure.statistic import VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def nonfinite_voxels(totals: SweepTotals) -> int:
    """Return the number of voxels that are NaN or infinite."""
    return totals.nonfinite_voxels


STATISTICS = (VolumeStatistic("nonfinite_voxels", nonfinite_voxels, order=240),)
