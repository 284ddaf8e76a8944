"""The minimum pore size that is kept for the next session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from napari_geosr.core.errors import GeoSRError
from napari_geosr.operations.measure import MeasureConfig

if TYPE_CHECKING:
    from napari_geosr.operations.measure import PorosityReport


class RememberedMinimum:
    """Keeps settings, except a minimum pore size that leaves no pores.

    Parameters
    ----------
    minimum : int
        Minimum pore size of the previous session, in voxels.
    remember : callable
        Stores settings for the next session; may raise `GeoSRError`.
    """

    def __init__(self, minimum: int, remember: Callable[[MeasureConfig], None]) -> None:
        self._good, self._remember = minimum, remember
        self._config = MeasureConfig(min_voxels=minimum)

    def begin(self, config: MeasureConfig) -> None:
        """Keep the settings of a measurement, with a minimum size that leaves pores.

        Raises
        ------
        GeoSRError
            If the settings cannot be written.
        """
        self._config = config
        self._remember(config.model_copy(update={"min_voxels": self._good}))

    def end(self, reports: Iterable[PorosityReport]) -> None:
        """Keep the minimum as well, unless all pores were smaller."""
        found = list(reports)
        tried = self._config.min_voxels
        if any(report.pore_count for report in found):
            self._good = tried
        elif tried == self._good and any(r.small_pore_count for r in found):
            self._good = MeasureConfig().min_voxels
        with suppress(GeoSRError):  # reported when the measurement began
            self._remember(self._config.model_copy(update={"min_voxels": self._good}))
