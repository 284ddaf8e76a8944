"""Statistics of pores: one module each, found by file name.

The module of a statistic defines ``STATISTICS``, a tuple of `PoreStatistic` (a column
of the pore table) and `VolumeStatistic` (a value of the whole volume), both from
`napari_geosr.measure.statistic`. Their functions take the results of the single sweep
over the volume: `Pores`, the sums of each pore, or `SweepTotals`
(`napari_geosr.measure.sums`); they read no voxels. Modules of other packages that
cannot be used are ignored, with a logged warning. The table, CSV and JSON files, HTML
page, dock and colours are generated from these statistics.

The sums, and the rules for merging the sums of two blocks, are defined by the columns
in `napari_geosr.measure.kernels.columns`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.registry import Registry
from napari_geosr.measure.statistic import PoreStatistic, VolumeStatistic

STATISTICS = Registry(
    package="napari_geosr.measure.statistics",
    group="napari_geosr.statistics",
    noun="statistic",
)
Kind = TypeVar("Kind", PoreStatistic, VolumeStatistic)


def pore_statistics(*, flat: bool) -> list[PoreStatistic]:
    """Return the columns of the table of a volume, or of an image, in their order.

    Raises
    ------
    ConfigError
        If two statistics have the same name.
    """
    return _of_kind(PoreStatistic, flat)


def volume_statistics(*, flat: bool) -> list[VolumeStatistic]:
    """Return the values of a volume, or of an image, in the order of the JSON file.

    Raises
    ------
    ConfigError
        As in `pore_statistics`.
    """
    return _of_kind(VolumeStatistic, flat)


def _of_kind(kind: type[Kind], flat: bool) -> list[Kind]:
    modules = STATISTICS.load_all(STATISTICS=tuple)
    available = [statistic for module in modules for statistic in module.STATISTICS]
    fitting = [s for s in available if isinstance(s, kind) and s.flat in (None, flat)]
    _refuse_duplicates(s.name for s in fitting)
    return sorted(fitting, key=lambda statistic: statistic.order)


def _refuse_duplicates(names: Iterable[str]) -> None:
    known: set[str] = set()
    for name in names:
        if name in known:
            raise ConfigError(
                f"Two statistics are called {name!r}. Uninstall the package that adds "
                "one of them."
            )
        known.add(name)
