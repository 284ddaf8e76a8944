"""Estimates the blur of a scan, with which a network's filter is compared."""

from __future__ import annotations

import numpy as np

from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.edge_blur import ScanBlur, edge_blur
from napari_geosr.operations.restore.upscaling.sample_boxes import structured_boxes

#: Edge length, in voxels by number of axes, of the boxes from which the blur is
#: estimated, and number of these boxes.
_EDGE = {2: 256, 3: 64}
_COUNT = 3


def scan_blur(volume: Volume) -> ScanBlur:
    """Estimate the width of a scan's point-spread function, from a few boxes."""
    n = len(volume.axes)
    boxes = structured_boxes(volume, [_EDGE[n]] * n, _COUNT)
    size = (min(volume.voxel_size), *volume.voxel_size)[-3:]
    blocks = [np.asarray(volume.data[box], dtype=np.float32) for box in boxes]
    planes = [block[None] if n == 2 else block for block in blocks]
    return edge_blur(planes, (size[0], size[1], size[2]))
