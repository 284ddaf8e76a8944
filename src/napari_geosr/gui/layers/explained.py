"""The scan and the settings of a restored layer, as recorded in the restoration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.provenance import array_checksum
from napari_geosr.gui.layers import METADATA, provenance_of, volume_from_layer
from napari_geosr.operations.explain import ExplainConfig, described_input

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_geosr.core.types import AnyDict, AnyMapping

#: Settings of a run that must be the same for its explanation.
_REPEATED = ("device", "nonfinite", "strength", "sharpness")

#: While the window waits, a checksum is computed from at most this many bytes, which
#: takes about 10 ms.
_MOST_BYTES = 2**24
#: The corresponding maximum for arrays that are not in C order; their checksum takes
#: longer, because the voxels are rearranged.
_MOST_REARRANGED = 2**21
#: Metadata keys of the name and the identifier of the layer that was restored. The
#: identifier is unique in a session, and remains the same when the layer is renamed.
_SOURCE, _SOURCE_ID = "source_layer", "source_id"


def source_entry(source: Layer) -> AnyDict:
    """Return the entry in a result's metadata that identifies its source."""
    return {_SOURCE: source.name, _SOURCE_ID: str(source.unique_id)}


def source_of(layer: Layer, viewer: ViewerModel) -> Layer | None:
    """Return the open layer that a layer was restored from; None if there is none.

    If that layer was closed, an open layer with its name is returned only if it has the
    recorded shape and voxel size, and was read from the recorded file. If there is no
    file, the recorded checksum is compared, except for large volumes, which are not
    returned.
    """
    record = layer.metadata.get(METADATA, {})
    known, name = record.get(_SOURCE_ID), record.get(_SOURCE)
    if name is None:
        return None
    others = [each for each in viewer.layers if each is not layer]
    same = (each for each in others if str(each.unique_id) == known)
    named = (each for each in others if each.name == name)
    return next(same, None) or next((la for la in named if _fits(la, layer)), None)


def _fits(scan: Layer, result: Layer) -> bool:
    """Whether a layer seems to be the recorded input of a result; a quick check."""
    made = provenance_of(result)
    facts = described_input(made[-1]) if made else None
    if facts is None:
        return False
    position = result.metadata.get(METADATA, {}).get("position")
    try:
        volume = volume_from_layer(
            scan, position=position or {}, whole=bool(made[-1].get("series"))
        )
    except GeoSRError:
        return False
    found = [list(volume.shape), list(volume.voxel_size), volume.unit]
    if found != [facts.get(name) for name in ("shape", "voxel_size", "unit")]:
        return False
    if facts.get("path"):
        return volume.source is not None and str(volume.source) == str(facts["path"])
    data = volume.data
    if not isinstance(data, np.ndarray):
        return False
    most = _MOST_BYTES if data.flags.c_contiguous else _MOST_REARRANGED
    return data.nbytes <= most and array_checksum(data) == facts.get("checksum")


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
