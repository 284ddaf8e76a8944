"""Refine a shape block by block; blocks without a surface are not computed.

Blocks are read with the halo of all stages, so that the result does not depend on the
blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, TileDone, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.inference.compute import exact_settings

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.networks.spec import NetworkSpec

#: Edges of blocks in coarse voxels, from the largest; multiples of all strides.
_EDGES = (128, 96, 64, 48, 32, 16)
#: Bytes for each fine voxel of a window in the last stage: phase, features and
#: interpolation in float32.
_DENSE_BYTES = 24
#: Number of copies of the features of each active fine voxel in the last stage.
_COPIES = 8
#: Number of such copies for each fine voxel of a window, with dense convolutions.
_DENSE_COPIES = 4
#: Fraction of occupied voxels above which dense convolutions are used.
MAX_SPARSE = 0.25


class ShapeRefiner(Protocol):
    """A network that doubles the resolution of a shape."""

    spec: NetworkSpec

    def refined(
        self, occupied: Tensor, *, is_last: bool = True, dense: bool = False
    ) -> Tensor:
        """Return the shape at twice the resolution: (N, 1, Z, Y, X), zeros and ones.

        `is_last` is False if the result will be refined again; `dense` chooses dense
        convolutions instead of sparse tensors.
        """
        ...


@dataclass(frozen=True)
class RefinementPlan:
    """Plan for refining a shape.

    Attributes
    ----------
    edge : int
        Edge of the blocks, in coarse voxels.
    halos : tuple of int
        Margin of the input of each stage, in voxels of this stage.
    blocks : tuple of tuple of slice
        The blocks of the coarse shape.
    busy : tuple of bool
        Whether a block has a surface.
    n_active : int
        Number of coarse voxels next to a surface.
    n_bytes : int
        Bytes of memory that the fullest block needs.
    dense : tuple of bool
        Whether dense convolutions are used, for each stage. The choice depends on the
        whole shape, so that all blocks are computed in the same way.
    """

    edge: int
    halos: tuple[int, ...]
    blocks: tuple[tuple[slice, ...], ...]
    busy: tuple[bool, ...]
    n_active: int
    n_bytes: int
    dense: tuple[bool, ...]


def plan_refinement(
    inside: AnyArray,
    stages: int,
    spec: NetworkSpec,
    features: int,
    budget: int,
) -> RefinementPlan:
    """Choose the largest blocks that fit into the budget.

    The voxels next to a surface are counted before anything is computed.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    stages : int
        Number of doublings.
    spec : NetworkSpec
    features : int
        Feature maps of the network at the finest level.
    budget : int
        Bytes.

    Raises
    ------
    DeviceMemoryError
        If not even the smallest block fits.
    """
    surface = surface_mask(inside)
    n_active = int(surface.sum())
    halos = stage_halos(stages, spec)
    # The surface of a shape has four times as many voxels after each doubling, and the
    # box eight times as many.
    share = n_active / inside.size
    dense = tuple(share / 2**stage > MAX_SPARSE for stage in range(stages))
    needed = 0
    for edge in _EDGES:
        blocks = tuple(block_grid(inside.shape, edge))
        counts = [int(surface[widened(b, 1, inside.shape)].sum()) for b in blocks]
        fine = [
            (2 * min((edge << i) + 2 * halo + (2 << i), max(inside.shape) << i)) ** 3
            for i, halo in enumerate(halos)
        ]
        active = max(counts, default=0) * 4 ** (stages - 1) * 8
        needed = fine[-1] * _DENSE_BYTES + active * features * 4 * _COPIES
        each = _DENSE_BYTES + features * 4 * _DENSE_COPIES
        needed = max(needed, *(n * each * d for n, d in zip(fine, dense, strict=True)))
        if needed <= budget:
            busy = tuple(count > 0 for count in counts)
            return RefinementPlan(edge, halos, blocks, busy, n_active, needed, dense)
    raise DeviceMemoryError(
        f"The shape has {n_active:,} voxels next to its surface; even the smallest "
        f"blocks need {format_enough(needed)}, but the memory budget is "
        f"{format_available(budget)}. Increase it (--memory), or refine by a smaller "
        "factor."
    )


def surface_mask(inside: AnyArray) -> AnyArray:
    """Return the voxels with both phases in their 3 × 3 × 3 neighbourhood."""
    from scipy.ndimage import maximum_filter, minimum_filter

    values = inside.view(np.uint8) if inside.dtype == bool else inside
    found: AnyArray = maximum_filter(values, 3) != minimum_filter(values, 3)
    return found


def stage_halos(stages: int, spec: NetworkSpec) -> tuple[int, ...]:
    """Margin of each stage's input so that the last stage gets a correct margin.

    The margin of a stage is computed by the previous stage. The input of the previous
    stage therefore needs half of this margin plus the previous stage's own halo. All
    margins are multiples of the stride.
    """
    halo, stride = spec.halo[0], spec.stride[0]
    halos = [halo]
    for _ in range(stages - 1):
        needed = math.ceil(halos[0] / 2) + halo
        halos.insert(0, math.ceil(needed / stride) * stride)
    return tuple(halos)


def block_grid(shape: Sequence[int], edge: int) -> list[tuple[slice, ...]]:
    """Return the blocks of this edge that cover a box."""
    starts = [range(0, n, edge) for n in shape]
    return [
        tuple(slice(a, min(a + edge, n)) for a, n in zip(corner, shape, strict=True))
        for corner in itertools.product(*starts)
    ]


def widened(
    box: Sequence[slice], margin: int, shape: Sequence[int]
) -> tuple[slice, ...]:
    """Return a block widened by a margin and clipped to the box."""
    return tuple(
        slice(max(0, part.start - margin), min(n, part.stop + margin))
        for part, n in zip(box, shape, strict=True)
    )


def refine_steps(
    inside: AnyArray,
    refiner: ShapeRefiner,
    plan: RefinementPlan,
    device: str = "cpu",
    *,
    threads: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Refine a shape; each `TileDone` holds a finished block of bool.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    refiner : ShapeRefiner
        In evaluation mode and on `device`.
    plan : RefinementPlan
    device : str
    threads : int, optional
        CPU threads; by default the number of cores minus one.

    Raises
    ------
    Cancelled
        If `should_stop` returns true.
    """
    factor = 2 ** len(plan.halos)
    total = len(plan.blocks)
    for i, (block, busy) in enumerate(zip(plan.blocks, plan.busy, strict=True)):
        if should_stop():
            raise Cancelled("Stopped; no file was written.")
        place = tuple(slice(p.start * factor, p.stop * factor) for p in block)
        if busy:
            with exact_settings(threads):
                fine = _refined_block(inside, block, refiner, plan, device)
        else:
            value = bool(inside[tuple(p.start for p in block)])
            fine = np.full([p.stop - p.start for p in place], value)
        yield TileDone(i + 1, total, place, fine)
    yield BlockDone(total, total)


def _refined_block(
    inside: AnyArray,
    block: tuple[slice, ...],
    refiner: ShapeRefiner,
    plan: RefinementPlan,
    device: str,
) -> AnyArray:
    """One block after all stages; margins are cut down to what each stage needs."""
    import torch

    shape, halos = inside.shape, plan.halos
    window = widened(block, halos[0], shape)
    part = np.ascontiguousarray(inside[window])
    values = torch.from_numpy(part).to(device)[None, None].float()
    stages = [*halos[1:], 0]
    for i, halo in enumerate(stages, 1):
        fine = refiner.refined(
            values, is_last=i == len(stages), dense=plan.dense[i - 1]
        )
        shape = tuple(2 * n for n in shape)
        block = tuple(slice(2 * p.start, 2 * p.stop) for p in block)
        wanted = widened(block, halo, shape)
        cut: tuple[slice, ...] = tuple(
            slice(w.start - 2 * old.start, w.stop - 2 * old.start)
            for w, old in zip(wanted, window, strict=True)
        )
        window, values = wanted, fine[:, :, cut[0], cut[1], cut[2]].float()
    found: AnyArray = values[0, 0].cpu().numpy() > 0
    return found
