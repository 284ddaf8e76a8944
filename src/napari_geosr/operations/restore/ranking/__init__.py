"""Which model restores this scan best, or whether it is best left as it is."""

from __future__ import annotations

from napari_geosr.operations.restore.ranking.config import AUTO, NONE, RankConfig
from napari_geosr.operations.restore.ranking.rank import rank_steps
from napari_geosr.operations.restore.ranking.result import Ranked, Ranking

__all__ = ["AUTO", "NONE", "RankConfig", "Ranked", "Ranking", "rank_steps"]
