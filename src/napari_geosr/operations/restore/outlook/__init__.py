"""What a run would do to a scan, found on a few blocks before it is started."""

from __future__ import annotations

from napari_geosr.operations.restore.outlook.steps import (
    looked_steps,
    outlook_steps,
    removed_steps,
)
from napari_geosr.operations.restore.outlook.verdict import Outlook

__all__ = ["Outlook", "looked_steps", "outlook_steps", "removed_steps"]
