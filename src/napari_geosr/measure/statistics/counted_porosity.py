"""Counted porosity: the porosity from pores that are large enough to be counted."""

from __future__ import annotations

from napari_geosr.measure.statistic import VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def counted_porosity(totals: SweepTotals) -> float:
    """Return the voxels of pores of at least the minimum size ÷ sample voxels."""
    counted = totals.pore_voxels - totals.small_pore_voxels
    return counted / totals.sample_voxels


STATISTICS = (VolumeStatistic("counted_porosity", counted_porosity, order=70),)
