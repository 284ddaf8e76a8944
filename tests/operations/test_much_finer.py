"""Previews and validation of training stay small for large upscale factors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.core.volume import Volume
from napari_geosr.learning.sampling.patches import TrainingSubject
from napari_geosr.learning.sampling.splits import Split
from napari_geosr.learning.statistics import GreyScale
from napari_geosr.learning.training.preview import TrainingPreview
from napari_geosr.operations.train.figures.blocks import validation_block

AS_IT_IS = GreyScale(0.0, 1.0)


def patches_of(factor: int, ndim: int, shape: tuple[int, ...]) -> Any:
    """Patches of a large pair of volumes that uses no memory."""
    fine = tuple(
        n if len(shape) - axis > ndim else n * factor for axis, n in enumerate(shape)
    )
    volumes = {
        role: Volume(np.broadcast_to(np.float32(0), size), "ZYX"[-len(shape) :])
        for role, size in (("source", shape), ("target", fine))
    }
    scene = TrainingSubject(volumes, Split(2, ((0, 1),), (0, shape[2] // 2)))
    return SimpleNamespace(
        config=SimpleNamespace(ndim=ndim, planes=1),
        scenes=[scene],
        factors={"source": 1, "target": factor},
        grey={"source": AS_IT_IS, "target": AS_IT_IS},
    )


@pytest.mark.parametrize(
    ("factor", "ndim", "slab", "edge"),
    [
        (1, 3, 16, 384),
        (2, 3, 16, 384),
        (4, 3, 8, 192),
        (8, 3, 8, 96),
        (8, 2, 1, 96),
        (2, 2, 1, 384),
    ],
)
def test_the_slice_that_is_shown(factor: int, ndim: int, slab: int, edge: int) -> None:
    patches = patches_of(factor, ndim, (40, 500, 600))
    preview = TrainingPreview(patches, "source", AS_IT_IS, factor, None)
    depth = (slab,) if ndim == 3 else ()
    assert preview.input.shape == (1, 1, *depth, edge, edge)

    class Repeats(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x[..., :2, :3]  # of any size, because a corner is sufficient
            for axis in range(2, x.ndim):
                x = x.repeat_interleave(factor, axis)
            return x

    shown = preview(Repeats())
    assert shown.shape == (1, 2 * factor, 3 * factor)
    deep = 1.0 / factor if ndim == 3 else 1.0
    assert shown.voxel_size == (deep, 1 / factor, 1 / factor)
    assert shown.origin[0] == pytest.approx(20 - (1 - deep) / 2)


@pytest.mark.parametrize(
    ("factor", "ndim", "expected"),
    [
        (2, 3, (8, 64, 64)),
        (4, 3, (8, 64, 64)),
        (8, 3, (8, 32, 32)),
        (8, 2, (8, 32, 32)),
    ],
)
def test_the_blocks_that_are_judged(
    factor: int, ndim: int, expected: tuple[int, ...]
) -> None:
    patches = patches_of(factor, ndim, (60, 400, 900))
    sizes = {
        role: validation_block(patches.scenes[0], patches, role, 8).shape
        for role in ("source", "target")
    }
    times = (1 if ndim == 2 else factor, factor, factor)
    assert sizes["target"] == tuple(
        n * t for n, t in zip(sizes["source"], times, strict=True)
    )
    assert sizes["source"][1:] >= expected[1:]
    if ndim == 3:
        assert sizes["source"] == expected
