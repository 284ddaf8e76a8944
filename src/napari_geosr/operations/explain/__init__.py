"""Explain which parts of a scan determine a region of its restoration.

Names are loaded on first use, so that settings can be imported alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.operations.explain.columns import (
        pores_of_report,
        with_explanations,
    )
    from napari_geosr.operations.explain.config import (
        ExplainConfig,
        methods,
        with_training_patches,
    )
    from napari_geosr.operations.explain.files import check_files, write_steps
    from napari_geosr.operations.explain.recorded import (
        checked_scan_steps,
        described_input,
        recorded_input,
        recorded_scan_steps,
    )
    from napari_geosr.operations.explain.run import (
        ExplainResult,
        PreparedExplanation,
        explain_place_steps,
        explain_pores_steps,
        explain_steps,
        prepare_steps,
    )
    from napari_geosr.operations.explain.targets import Explanation

__all__ = [
    "ExplainConfig",
    "ExplainResult",
    "Explanation",
    "PreparedExplanation",
    "check_files",
    "checked_scan_steps",
    "described_input",
    "explain_place_steps",
    "explain_pores_steps",
    "explain_steps",
    "methods",
    "pores_of_report",
    "prepare_steps",
    "recorded_input",
    "recorded_scan_steps",
    "with_explanations",
    "with_training_patches",
    "write_steps",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "columns": ["pores_of_report", "with_explanations"],
        "config": ["ExplainConfig", "methods", "with_training_patches"],
        "files": ["check_files", "write_steps"],
        "recorded": [
            "checked_scan_steps",
            "described_input",
            "recorded_input",
            "recorded_scan_steps",
        ],
        "run": [
            "ExplainResult",
            "PreparedExplanation",
            "explain_place_steps",
            "explain_pores_steps",
            "explain_steps",
            "prepare_steps",
        ],
        "targets": ["Explanation"],
    },
)
