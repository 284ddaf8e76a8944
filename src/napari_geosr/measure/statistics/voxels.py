"""Sizes in voxels: of each pore, of all pores and of the sample."""

from __future__ import annotations

from napari_geosr.measure.statistic import PoreStatistic, VolumeStatistic
from napari_geosr.measure.sums import IntArray, Pores, SweepTotals


def voxels(pores: Pores) -> IntArray:
    """Return the number of voxels of each pore."""
    return pores.voxels


def sample_voxels(totals: SweepTotals) -> int:
    """Return the number of voxels of the sample, including pores."""
    return totals.sample_voxels


def pore_voxels(totals: SweepTotals) -> int:
    """Return the number of voxels of all pores, whatever their size."""
    return totals.pore_voxels


def quantiles(totals: SweepTotals) -> dict[str, float | None]:
    """Return mean, 10th, 50th and 90th percentiles, and maximum of sizes in voxels."""
    return totals.quantiles("voxels")


STATISTICS = (
    PoreStatistic("voxels", voxels, unit="voxel", order=10),
    VolumeStatistic("sample_voxels", sample_voxels, order=210),
    VolumeStatistic("pore_voxels", pore_voxels, order=220),
    VolumeStatistic("pore_size_voxels", quantiles, order=320),
)
