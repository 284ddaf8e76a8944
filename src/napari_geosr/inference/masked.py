"""Predict labels for the voxels of a mask, block by block; skip all other voxels.

Blocks are read with the halo of the network and begin at multiples of its stride, so
that the result does not depend on the blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from napari_geosr.core.array_parts.packed_mask import MaskVoxels
from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.grey_values.standardised import standardised
from napari_geosr.core.interruption import interruptible
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    TileDone,
    never_stop,
    run_to_end,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.inference.box_counts import (
    box_count_steps,
    count_bytes,
    network_bytes,
)
from napari_geosr.inference.compute import exact_settings, frugal_if_tight
from napari_geosr.inference.shapes import (
    MAX_SPARSE,
    block_edges,
    block_grid,
    widened,
)
from napari_geosr.networks.sparse._features import masked_voxels

if TYPE_CHECKING:
    from napari_geosr.networks.sparse import SparseTensor
    from napari_geosr.networks.spec import NetworkSpec

#: Candidate edge lengths of blocks in voxels, largest first; see `block_edges`.
_EDGES = (160, 128, 96, 64, 48, 32, 16)
#: Bytes for each voxel of a window while the network's input is prepared: grey values,
#: and their means over neighbourhoods, in float32.
_WINDOW_BYTES = 40
#: Bytes for each voxel of a window that are still held while the network computes.
_INPUT_BYTES = 12


class VoxelClassifier(Protocol):
    """A network that predicts the logits of labels for given voxels."""

    spec: NetworkSpec

    def __call__(self, voxels: SparseTensor) -> SparseTensor: ...

    def dense_forward(self, voxels: SparseTensor) -> SparseTensor:
        """Return the same logits as `__call__`, computed with dense convolutions."""
        ...


@dataclass(frozen=True)
class MaskPlan:
    """Plan for labelling the voxels of a mask.

    Attributes
    ----------
    edge : int
        Edge length of the blocks, in voxels.
    blocks : tuple of tuple of slice
    busy : tuple of bool
        Whether each block contains voxels of the mask.
    n_active : int
        Number of voxels of the mask.
    n_bytes : int
        Bytes of memory for the mask itself and for the fullest block.
    dense : bool
        Whether dense convolutions are used.
    budget : int
        Bytes of memory that may be used.
    """

    edge: int
    blocks: tuple[tuple[slice, ...], ...]
    busy: tuple[bool, ...]
    n_active: int
    n_bytes: int
    dense: bool
    budget: int


def plan_mask(
    inside: MaskVoxels,
    spec: NetworkSpec,
    features: int,
    budget: int,
    reading: int = 0,
    held: int = 0,
) -> MaskPlan:
    """Choose the largest blocks that fit into the budget; see `plan_mask_steps`."""
    return run_to_end(plan_mask_steps(inside, spec, features, budget, reading, held))


def plan_mask_steps(
    inside: MaskVoxels,
    spec: NetworkSpec,
    features: int,
    budget: int,
    reading: int = 0,
    held: int = 0,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, MaskPlan]:
    """Choose the largest blocks that fit into a memory budget, given in bytes.

    Parameters
    ----------
    inside : ndarray of bool or PackedMask, shape (Z, Y, X)
    spec : NetworkSpec
    features : int
        Number of feature maps at the finest level.
    budget : int
    reading : int
        Bytes needed, in addition to the mask, to measure the grey scale beforehand.
    held : int
        Bytes of decoded blocks of the scan that are kept during the run.
    should_stop : callable

    Raises
    ------
    DeviceMemoryError
        If not even the smallest block fits; nothing has been computed at that point.
    Cancelled
        If `should_stop` returns True.
    """
    yield StageStarted(message="Counting the voxels of the mask")
    (counts,) = yield from box_count_steps(
        inside.shape, lambda planes: [inside[planes]], should_stop
    )
    n_active = counts.total
    dense = n_active > MAX_SPARSE * inside.size
    counting = count_bytes(inside.shape, 0)
    needed = 0
    for edge in block_edges(_EDGES, spec.stride[0]):
        blocks = tuple(block_grid(inside.shape, edge))
        busy = tuple(counts.in_box(block) > 0 for block in blocks)
        passes = [counting, reading]
        for block in itertools.compress(blocks, busy):
            if should_stop():
                raise Cancelled("Stopped; no file was written.")
            window = widened(block, spec.halo[0], inside.shape)
            size = math.prod(p.stop - p.start for p in window)
            n_computed = size if dense else counts.in_box(window)
            network = network_bytes(n_computed, features, dense)
            prepared = size * _WINDOW_BYTES + network_bytes(n_computed, 0, dense)
            passes += [size * _INPUT_BYTES + network, prepared]
        needed = inside.nbytes + held + max(passes)
        if needed <= budget:
            return MaskPlan(edge, blocks, busy, n_active, needed, dense, budget)
    raise DeviceMemoryError(
        f"The mask has {n_active:,} voxels; even the smallest blocks need "
        f"{format_enough(needed)}, but the memory budget is "
        f"{format_available(budget)}. Increase it (--memory)."
    )


def label_steps(
    grey: Any,
    inside: MaskVoxels,
    scale: tuple[float, float],
    network: VoxelClassifier,
    plan: MaskPlan,
    device: str = "cpu",
    *,
    threads: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Label the voxels of a mask; yield each block as a `TileDone` with uint8 labels.

    Parameters
    ----------
    grey : array-like, shape (Z, Y, X)
        Grey values; only the blocks with voxels of the mask are read.
    inside : ndarray of bool or PackedMask, shape (Z, Y, X)
    scale : (float, float)
        Mean and standard deviation of the grey values inside the mask.
    network : VoxelClassifier
        Network in evaluation mode, on `device`.
    plan : MaskPlan
    device : str
    threads : int, optional
        CPU threads; by default the number of cores minus one.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    halo, total = network.spec.halo[0], len(plan.blocks)
    with frugal_if_tight(device, plan.budget):
        for i, (block, busy) in enumerate(zip(plan.blocks, plan.busy, strict=True)):
            if should_stop():
                raise Cancelled("Stopped; no file was written.")
            labels: AnyArray = np.zeros([p.stop - p.start for p in block], np.uint8)
            if busy:
                window = widened(block, halo, inside.shape)
                values = standardised(np.asarray(grey[window]), scale)
                mask = inside[window]
                with exact_settings(threads), interruptible(should_stop):
                    found = _labels_of(values, mask, network, device, plan.dense)
                labels = found[
                    tuple(
                        slice(b.start - w.start, b.stop - w.start)
                        for b, w in zip(block, window, strict=True)
                    )
                ]
            yield TileDone(i + 1, total, block, labels)


def _labels_of(
    values: AnyArray,
    inside: AnyArray,
    network: VoxelClassifier,
    device: str,
    dense: bool,
) -> AnyArray:
    grey = torch.from_numpy(np.ascontiguousarray(values)).to(device)[None, None]
    mask = torch.from_numpy(np.ascontiguousarray(inside)).to(device)[None]
    voxels = masked_voxels(grey, mask)
    logits = network.dense_forward(voxels) if dense else network(voxels)
    found: AnyArray = np.zeros(inside.shape, np.uint8)
    _, z, y, x = logits.coords.long().cpu().unbind(1)
    chosen = logits.features.argmax(1).cpu().numpy().astype(np.uint8) + 1
    found[z.numpy(), y.numpy(), x.numpy()] = chosen
    return found
