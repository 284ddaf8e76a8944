"""Settings for explaining a restored layer, as recorded when it was restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.layers import provenance_of
from napari_geosr.operations.explain import ExplainConfig

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_geosr.core.types import AnyMapping

#: Settings of a run that must be the same for its explanation.
_REPEATED = ("device", "nonfinite", "strength", "sharpness")


def explain_settings(layer: Layer, methods: Sequence[str]) -> ExplainConfig | None:
    """Return the settings for explaining a layer, taken from its provenance record.

    Returns None for layers that were not restored by a single network.
    """
    records = provenance_of(layer)
    if not records or records[-1].get("operation") != "restore":
        return None
    record: AnyMapping = records[-1]
    used = record.get("settings") or {}
    model = used.get("model")
    if model in (None, "auto"):
        model = (record.get("model") or {}).get("name")
    if model is None:
        return None
    repeated = {name: used[name] for name in _REPEATED if name in used}
    try:
        return ExplainConfig.create(model=model, method=tuple(methods), **repeated)
    except GeoSRError:
        return None
