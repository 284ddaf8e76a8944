"""Ranks models for a scan; one candidate leaves it unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.operations.restore.ranking.config import AUTO, NONE, RankConfig
    from napari_geosr.operations.restore.ranking.rank import rank_steps
    from napari_geosr.operations.restore.ranking.result import Ranking, RankingEntry

__all__ = ["AUTO", "NONE", "RankConfig", "Ranking", "RankingEntry", "rank_steps"]

# Loaded on first use, so that settings can be imported without the engine.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["AUTO", "NONE", "RankConfig"],
        "rank": ["rank_steps"],
        "result": ["RankingEntry", "Ranking"],
    },
)
