"""Restore a volume with a model: preparation, previews, tiled run.

Names are loaded on first use, so that settings can be imported alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.operations.restore.average import restore_average_steps
    from napari_geosr.operations.restore.config import RestoreConfig
    from napari_geosr.operations.restore.consistency import (
        NOTHING_FOUND,
        ConsistencyCheck,
        consistency_steps,
        refuse_check,
        residual_path,
    )
    from napari_geosr.operations.restore.plan import (
        RestorePlan,
        outline_steps,
        plan_steps,
    )
    from napari_geosr.operations.restore.preparation import (
        PreparedRestoration,
        prepare_steps,
        with_noise,
        with_strength,
    )
    from napari_geosr.operations.restore.preview import estimate_steps, preview_steps
    from napari_geosr.operations.restore.repair import Repair, repair_steps
    from napari_geosr.operations.restore.resume import (
        deviation_path,
        find_unfinished_deviation,
    )
    from napari_geosr.operations.restore.run import (
        RestorationResult,
        find_finished_part,
        run_steps,
    )
    from napari_geosr.operations.restore.series.plan import (
        Point,
        is_series,
        refuse_series_check,
    )
    from napari_geosr.operations.restore.series.preparation import (
        PreparedSeries,
        prepare_series_steps,
    )
    from napari_geosr.operations.restore.series.run import (
        estimate_series_steps,
        run_series_steps,
    )
    from napari_geosr.operations.restore.shards import restore_blocks_steps
    from napari_geosr.operations.restore.steps import (
        restore_steps,
    )
    from napari_geosr.operations.restore.verdict.duration import verdict_seconds
    from napari_geosr.operations.restore.verdict.steps import (
        removed_steps,
        verdict_steps,
    )

__all__ = [
    "NOTHING_FOUND",
    "ConsistencyCheck",
    "Point",
    "PreparedRestoration",
    "PreparedSeries",
    "Repair",
    "RestorationResult",
    "RestoreConfig",
    "RestorePlan",
    "consistency_steps",
    "deviation_path",
    "estimate_series_steps",
    "estimate_steps",
    "find_finished_part",
    "find_unfinished_deviation",
    "is_series",
    "outline_steps",
    "plan_steps",
    "prepare_series_steps",
    "prepare_steps",
    "preview_steps",
    "refuse_check",
    "refuse_series_check",
    "removed_steps",
    "repair_steps",
    "residual_path",
    "restore_average_steps",
    "restore_blocks_steps",
    "restore_steps",
    "run_series_steps",
    "run_steps",
    "verdict_seconds",
    "verdict_steps",
    "with_noise",
    "with_strength",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "average": ["restore_average_steps"],
        "shards": ["restore_blocks_steps"],
        "config": ["RestoreConfig"],
        "consistency": [
            "NOTHING_FOUND",
            "ConsistencyCheck",
            "consistency_steps",
            "refuse_check",
            "residual_path",
        ],
        "resume": ["find_unfinished_deviation", "deviation_path"],
        "verdict.duration": ["verdict_seconds"],
        "verdict.steps": ["verdict_steps", "removed_steps"],
        "preparation": [
            "PreparedRestoration",
            "prepare_steps",
            "with_noise",
            "with_strength",
        ],
        "plan": ["RestorePlan", "outline_steps", "plan_steps"],
        "repair": ["Repair", "repair_steps"],
        "preview": ["estimate_steps", "preview_steps"],
        "run": ["RestorationResult", "find_finished_part", "run_steps"],
        "series.plan": ["Point", "is_series", "refuse_series_check"],
        "series.preparation": ["PreparedSeries", "prepare_series_steps"],
        "series.run": ["estimate_series_steps", "run_series_steps"],
        "steps": ["restore_steps"],
    },
)
