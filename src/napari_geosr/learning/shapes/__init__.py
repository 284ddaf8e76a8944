"""Learning methods for shapes, one per file, found by file name.

They learn from binary volumes (inside or outside a shape) or from simulated shapes.
Their modules provide the same names as those of `napari_geosr.learning.methods`.
"""

from __future__ import annotations

from napari_geosr.core.registry import Registry

SHAPE_METHODS = Registry(
    package="napari_geosr.learning.shapes",
    group="napari_geosr.shape_methods",
    noun="learning method for shapes",
    not_entries=frozenset({"data", "filled_cells", "grey_scale", "scan_values"}),
)
