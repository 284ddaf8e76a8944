"""Predicts the effect of a run on a scan from a few blocks."""

from __future__ import annotations

from napari_geosr.operations.restore.outlook.steps import (
    looked_steps,
    outlook_steps,
    removed_steps,
)
from napari_geosr.operations.restore.outlook.verdict import Outlook

__all__ = ["Outlook", "looked_steps", "outlook_steps", "removed_steps"]
