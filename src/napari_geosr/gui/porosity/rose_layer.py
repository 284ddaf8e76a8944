"""Mean intercept lengths by direction (a rose plot) as a Vectors layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.types import AnyDict
from napari_geosr.gui.layers import geometry, helper_metadata

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Vectors

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.measure import PorosityReport

#: Length of the longest vector relative to the shortest edge of the volume.
_LONGEST = 0.45
_KIND = "rose"


def add_rose(
    viewer: ViewerModel,
    report: PorosityReport,
    volume: Volume,
    *,
    place: AnyDict | None = None,
    visible: bool = True,
) -> Vectors | None:
    """Draw one line per direction from the middle of the volume, as long as the MIL.

    An earlier one of the same volume is replaced.

    Parameters
    ----------
    viewer : ViewerModel
    report : PorosityReport
    volume : Volume
        The volume measured.
    place : dict, optional
        Attributes of the layer beyond the volume's geometry.
    visible : bool

    Returns
    -------
    Vectors or None
        None if the anisotropy was not measured.
    """
    name, record = f"{volume.name} · anisotropy", helper_metadata(_KIND)
    active = viewer.layers.selection.active
    for earlier in list(viewer.layers):
        if earlier.name == name and earlier.metadata == record:
            viewer.layers.remove(earlier)
    found = report.morphometry.get("anisotropy")
    curve = None if found is None else found.curves.get("rose")
    if curve is None:
        return None
    rates = np.array(curve["changes_per_voxel"], float)
    known = rates > 0
    sizes = np.array(report.voxel_size, float)
    ndim = len(sizes)
    lengths = min(sizes) / rates[known]
    directions = np.stack([curve[axis] for axis in "zyx"[-ndim:]], axis=1)[known]
    # In both directions, in voxels of the volume.
    both = np.concatenate([directions, -directions]) * np.tile(lengths, 2)[:, None]
    shortest = float((sizes * report.shape[-ndim:]).min())
    both *= _LONGEST * shortest / lengths.max() / sizes
    centre = (np.array(report.shape[-ndim:], float) - 1) / 2
    data = np.stack([np.broadcast_to(centre, both.shape), both], axis=1)
    options = geometry(volume) | (place or {"affine": np.eye(ndim + 1)})
    layer = viewer.add_vectors(
        data,
        name=name,
        features={"MIL": np.tile(lengths, 2)},
        edge_color="MIL",
        edge_colormap="viridis",
        edge_width=max(0.3, 0.004 * min(report.shape[-ndim:])),
        vector_style="line",
        metadata=record,
        visible=visible,
        **options,
    )
    if active is not None and active in viewer.layers:
        viewer.layers.selection.active = active
    return layer
