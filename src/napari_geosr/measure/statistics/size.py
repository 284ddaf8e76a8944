"""Volume (image: area) of each pore, of all pores and of the sample."""

from __future__ import annotations

from collections.abc import Callable

from napari_geosr.measure.statistic import (
    Colour,
    PoreStatistic,
    Row,
    VolumeStatistic,
)
from napari_geosr.measure.sums import FloatArray, Pores, SweepTotals


def size(pores: Pores) -> FloatArray:
    """Return the volume (image: area) of each pore."""
    return pores.size


def sample_size(totals: SweepTotals) -> float | None:
    """Return the sample's volume (image: area); None if the voxel size is unknown."""
    return totals.sample_size


def pore_size(totals: SweepTotals) -> float | None:
    """Return the volume (image: area) of all pores; None without a voxel size."""
    return totals.size_of(totals.pore_voxels)


def _quantile(column: str, which: str) -> Callable[[SweepTotals], float | None]:
    """Return a function that computes the mean, median or maximum of a column."""
    return lambda totals: totals.quantiles(column)[which]


def _statistics(
    name: str, power: int, *, flat: bool
) -> tuple[PoreStatistic | VolumeStatistic, ...]:
    def of_volume(
        key: str,
        function: Callable[[SweepTotals], object],
        order: float,
        *,
        unit_key: str = "",
        in_json: bool = True,
        row: Row | None = None,
    ) -> VolumeStatistic:
        """Create a statistic with a value that is a volume (image: an area)."""
        return VolumeStatistic(
            key, function, power, unit_key, flat, order, in_json, row
        )

    unit = f"{name}_unit"
    return (
        PoreStatistic(
            name,
            size,
            power=power,
            flat=flat,
            order=20,
            colour=Colour(logarithmic=True, order=10),
        ),
        of_volume(f"sample_{name}", sample_size, 250, unit_key=unit),
        of_volume(f"pore_{name}", pore_size, 260, unit_key=unit),
        of_volume(f"pore_{name}_quantiles", lambda t: t.quantiles(name), 330),
        of_volume(
            f"mean_{name}",
            _quantile(name, "mean"),
            340,
            row=Row(f"Mean pore {name}", order=90),
        ),
        of_volume(
            f"median_{name}",
            _quantile(name, "median"),
            350,
            row=Row(f"Median pore {name}", order=100),
        ),
        of_volume(
            f"largest_{name}",
            _quantile(name, "max"),
            355,
            in_json=False,
            row=Row(f"Largest pore {name}", order=110),
        ),
    )


STATISTICS = (
    *_statistics("volume", 3, flat=False),
    *_statistics("area", 2, flat=True),
)
