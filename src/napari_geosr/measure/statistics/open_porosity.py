"""Open porosity (pores that reach the border) and closed porosity (all other pores).

The border is that of the volume or of the sample. Pores of any size are included, so
the two values add up to the porosity.
"""

from __future__ import annotations

from napari_geosr.measure.number_text import percent_text
from napari_geosr.measure.statistic import Row, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def open_porosity(totals: SweepTotals) -> float:
    """Return the fraction of the sample in pores that reach the border."""
    return _open_voxels(totals) / totals.sample_voxels


def closed_porosity(totals: SweepTotals) -> float:
    """Return the fraction of the sample in pores that do not reach the border."""
    return (totals.pore_voxels - _open_voxels(totals)) / totals.sample_voxels


def _open_voxels(totals: SweepTotals) -> int:
    large = totals.pores.voxels[totals.pores.touches_border].sum()
    return int(large) + totals.small.open_voxels


STATISTICS = (
    VolumeStatistic(
        "open_porosity",
        open_porosity,
        order=80,
        row=Row(
            "Open porosity",
            order=50,
            text=percent_text,
            file_unit="%",
            help="Porosity due to pores that reach the border.",
        ),
    ),
    VolumeStatistic(
        "closed_porosity",
        closed_porosity,
        order=90,
        row=Row(
            "Closed porosity",
            order=60,
            text=percent_text,
            file_unit="%",
            help="Porosity due to pores that do not reach the border.",
        ),
    ),
)
