"""Counted porosity: the porosity due to pores of at least the minimum size."""

from __future__ import annotations

from napari_geosr.measure.statistic import VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def counted_porosity(totals: SweepTotals) -> float:
    """Return the fraction of the sample in pores of at least the minimum size."""
    counted = totals.pore_voxels - totals.small_pore_voxels
    return counted / totals.sample_voxels


STATISTICS = (VolumeStatistic("counted_porosity", counted_porosity, order=70),)
