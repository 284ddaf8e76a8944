"""Networks on sparse tensors: convolutions that only visit occupied voxels.

Their memory use scales with the surface of a shape, not with its bounding box. Modules
with a leading underscore contain the layers; the other modules are architectures, found
by name as in `napari_geosr.networks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from napari_geosr.core.registry import Registry
from napari_geosr.networks.sparse._presets import PRESETS

if TYPE_CHECKING:
    from napari_geosr.networks.sparse._features import masked_voxels
    from napari_geosr.networks.sparse._gather import gather_bytes, sparse_convolution
    from napari_geosr.networks.sparse._layers import (
        GenerativeConvolution,
        RowBatchNorm,
        StridedConvolution,
        SubmanifoldConvolution,
        UpConvolution,
    )
    from napari_geosr.networks.sparse._maps import RowPairs
    from napari_geosr.networks.sparse._spconv import sparse_backend
    from napari_geosr.networks.sparse._tensor import SparseTensor, union_add
    from napari_geosr.networks.sparse.shell_atlas import ShellAtlas

__all__ = [
    "PRESETS",
    "SPARSE_NETWORKS",
    "GenerativeConvolution",
    "RowBatchNorm",
    "RowPairs",
    "ShellAtlas",
    "SparseTensor",
    "StridedConvolution",
    "SubmanifoldConvolution",
    "UpConvolution",
    "gather_bytes",
    "masked_voxels",
    "sparse_backend",
    "sparse_convolution",
    "union_add",
]

SPARSE_NETWORKS = Registry(
    package="napari_geosr.networks.sparse",
    group="napari_geosr.sparse_networks",
    noun="sparse network",
)

# These modules import torch, so they are loaded on first use.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "_features": ["masked_voxels"],
        "_gather": ["gather_bytes", "sparse_convolution"],
        "_layers": [
            "GenerativeConvolution",
            "RowBatchNorm",
            "StridedConvolution",
            "SubmanifoldConvolution",
            "UpConvolution",
        ],
        "_maps": ["RowPairs"],
        "_spconv": ["sparse_backend"],
        "_tensor": ["SparseTensor", "union_add"],
        "shell_atlas": ["ShellAtlas"],
    },
)
