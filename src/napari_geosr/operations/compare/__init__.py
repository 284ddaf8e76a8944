"""Compare volumes of one object: grey values, noise, resolution and pores."""

from __future__ import annotations

from napari_geosr.measure.comparison.report import QualityReport
from napari_geosr.operations.compare.config import CompareConfig, CompareFields
from napari_geosr.operations.compare.run import compare_steps

__all__ = ["CompareConfig", "CompareFields", "QualityReport", "compare_steps"]
