"""Shape completion: learn to fill in missing parts, using artificial defects.

The network marks voxels as occupied level by level, from coarse to fine. At each level,
it learns which candidate voxels belong to the complete shape. Voxels of the complete
shape are kept during training even if they are not predicted yet, so that finer levels
can learn.

References
----------
.. [1] Li et al. Sparse convolutional neural network for high-resolution skull shape
   completion and shape super-resolution. Sci. Rep. 13, 20229 (2023).
   doi:10.1038/s41598-023-47437-6
.. [2] Wodzinski et al. Automatic skull reconstruction by deep learnable symmetry
   enforcement. Comput. Methods Programs Biomed. (2024). arXiv:2411.17342
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
from pydantic import Field, model_validator

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray
from napari_geosr.learning.config import MULTIPLE_FILES, NO_NEGATIVE, TrainingConfig
from napari_geosr.learning.method import Batch, Losses
from napari_geosr.learning.shapes.data import (
    ShapeConfig,
    ShapeMethod,
    ShapeSet,
    moved,
    random_solid,
)
from napari_geosr.networks.sparse import PRESETS
from napari_geosr.physics.shapes import (
    DEFECTS,
    coarsened,
    defect,
    sampled,
    vault_direction,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.core.volume import Volume
    from napari_geosr.networks.sparse.sparse_unet import SparseUNet

PURPOSE = "Complete shapes"
NEEDS = "complete shapes (label volumes), or simulated ones"

#: Largest fraction of a shape that a defect may remove.
_MAX_REMOVED = 0.35
_MAX_TRIES = 20
#: Maximum memory for the shapes that are kept on the grid of the network, in bytes;
#: other shapes are read again in each step.
_KEPT_BYTES = 2**30


class Config(ShapeConfig):
    """Settings of shape completion."""

    network: str = Field(
        "sparse_unet", title="Network", description="Network architecture."
    )
    channels: Annotated[tuple[int, ...], MULTIPLE_FILES] = Field(
        (8, 8, 16, 16, 32),
        title="Channels",
        description="Number of feature maps at each level, from the finest to the "
        "coarsest.",
    )
    preset: Literal["completion", "medium", "super-resolution"] | None = Field(
        None,
        title="Preset",
        description="Named sets of channels: completion and super-resolution are "
        "those of the published networks (16,563 and 434,695 parameters); medium "
        "has 109,047 parameters. By default, the setting “channels” is used.",
        json_schema_extra={"unset": "channels"},
    )
    patch: int = Field(
        64,
        ge=16,
        le=512,
        title="Grid",
        description="Edge length of the grid on which whole shapes are completed, in "
        "voxels.",
    )
    defects: Literal[
        "mixed", "sphere", "cube", "cylinder", "irregular", "bilateral"
    ] = Field(
        "mixed",
        title="Defects",
        description="Kind of artificial defects.",
    )
    missing_weight: float = Field(
        10.0,
        ge=1,
        le=1000,
        title="Missing weight",
        description="Weight of the missing voxels in the loss; the other voxels, "
        "which are far more numerous, have a weight of 1.",
    )
    scales: Annotated[tuple[float, float], NO_NEGATIVE] = Field(
        (0.55, 1.0),
        title="Scales",
        description="Range of sizes of the simulated shapes, relative to the grid.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_channels(cls, values: object) -> object:
        """Use the channels of the preset if none are given."""
        if not isinstance(values, Mapping) or values.get("channels") is not None:
            return values
        preset = values.get("preset")
        if not isinstance(preset, str) or preset not in PRESETS:
            return values  # the validation of `preset` rejects unknown presets
        return {**values, "channels": PRESETS[preset]}

    @model_validator(mode="after")
    def _check_channels(self) -> Config:
        if self.preset is not None and self.channels != PRESETS[self.preset]:
            raise ValueError("give either channels or a preset, not both")
        return self


class Method(ShapeMethod):
    """Predicts the complete shape, from coarse to fine."""

    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        #: Shapes on the grid of the network, by the index of the volume.
        self._on_grid: dict[int, AnyArray] = {}

    @classmethod
    def check_shape(cls, shapes: ShapeSet, volume: Volume, inside: AnyArray) -> None:
        """Raise `VolumeError` if nothing is left of a shape on the grid."""
        if not on_grid(inside, shapes.config.patch).any():
            raise VolumeError(
                f"Nothing is left of {volume.title} on a grid of "
                f"{shapes.config.patch} voxels, because its parts are too thin. Choose "
                "a larger grid (--patch), or thicker shapes."
            )

    def inspect(self, volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
        """Add a note if there is only one shape, because then none is held out."""
        notes = super().inspect(volumes)
        if len(volumes["source"]) != 1:
            return notes
        return [
            *notes,
            "There is only one shape, so none is held out: the validation loss is "
            "computed for the same shape, with other defects, and does not show how "
            "well the model completes other shapes. Give several shapes (--source).",
        ]

    def pair(
        self, shapes: ShapeSet, rng: np.random.Generator
    ) -> tuple[AnyArray, AnyArray]:
        """Draw an incomplete shape and the complete one."""
        edge = self.config.patch
        complete = self._complete(shapes, rng, edge)
        if not complete.any():
            return complete, complete
        places = np.argwhere(complete)
        for _ in range(_MAX_TRIES):
            kind = self.config.defects
            if kind == "mixed":
                kind = DEFECTS[int(rng.integers(len(DEFECTS)))]
            at = self._centre(places, rng, edge)
            extent = float(np.ptp(places, 0).max()) / edge
            hole = defect(rng, kind, at, extent * rng.uniform(0.15, 0.45))
            left = complete & ~sampled(hole, (edge,) * 3)
            removed = 1 - left.sum() / complete.sum()
            if 0 < removed < _MAX_REMOVED:
                return left, complete
        return complete, complete

    def _complete(
        self, shapes: ShapeSet, rng: np.random.Generator, edge: int
    ) -> AnyArray:
        if not shapes.volumes:
            assert self.config.simulated is not None
            _, solid = random_solid(rng, self.config.simulated)
            scale = rng.uniform(*self.config.scales)
            shift = rng.uniform(-1, 1, 3) * (1 - scale)
            return sampled(moved(solid, scale, shift), (edge,) * 3)
        inside = self._coarse(shapes, shapes.volume(rng))
        before = [int(rng.integers(edge - n + 1)) for n in inside.shape]
        pads = [(b, edge - n - b) for b, n in zip(before, inside.shape, strict=True)]
        padded: AnyArray = np.pad(inside, pads)
        return padded

    def _coarse(self, shapes: ShapeSet, volume: Volume) -> AnyArray:
        """Return a shape on the grid; it is kept for later steps if memory allows."""
        number = shapes.number_of(volume)
        if (known := self._on_grid.get(number)) is not None:
            return known
        coarse = on_grid(shapes.mask_of(volume), self.config.patch)
        if coarse.nbytes + sum(a.nbytes for a in self._on_grid.values()) <= _KEPT_BYTES:
            self._on_grid[number] = coarse
        return coarse

    @staticmethod
    def _centre(places: AnyArray, rng: np.random.Generator, edge: int) -> AnyArray:
        """Draw the position of a voxel (−1 … 1), mostly at the top of the shape."""
        middle = places.mean(0)
        if rng.random() < 0.7:
            along = (places - middle) @ vault_direction(rng)
            place = places[int(along.argmax())]
        else:
            place = places[int(rng.integers(len(places)))]
        centre: AnyArray = (place + 0.5 - edge / 2) / (edge / 2)
        return centre

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the binary cross-entropy of the candidates, summed over all levels."""
        import torch
        from torch.nn import functional as F  # noqa: N812

        from napari_geosr.networks.sparse import SparseTensor

        network = cast("SparseUNet", self.modules[self.result])
        dense, given = batch["target"].float(), batch["source"].float()
        source, targets, sources = SparseTensor.from_dense(given), [], []
        for _ in range(len(self.config.channels) - 1):
            targets.append(SparseTensor.from_dense(dense))
            sources.append(SparseTensor.from_dense(given))
            dense = F.max_pool3d(dense, 2, ceil_mode=True)
            given = F.max_pool3d(given, 2, ceil_mode=True)
        final, levels = network(source, targets)
        total = torch.zeros((), device=dense.device)
        more = self.config.missing_weight - 1
        for i, found in enumerate([final, *levels]):
            if not len(found):
                continue
            level = max(0, i - 1)
            wanted = targets[level].contains(found)
            missing = wanted & ~sources[level].contains(found)
            error = F.binary_cross_entropy_with_logits(
                found.features[:, 0],
                wanted.to(found.features.dtype),
                1 + more * missing.to(found.features.dtype),
                reduction="mean",
            )
            total = total + error
        return total, {"loss": total}


def on_grid(inside: AnyArray, edge: int) -> AnyArray:
    """Return the bounding box of a shape, coarsened so that it fits into a cube.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
        Not empty.
    edge : int
        Edge length of the cube, in voxels.
    """
    inside = inside[bounding_box(inside)]
    factor = math.ceil(max(inside.shape) / edge)
    lack = [-n % factor for n in inside.shape]
    return coarsened(np.pad(inside, [(0, n) for n in lack]), factor)


def bounding_box(inside: AnyArray) -> tuple[slice, ...]:
    """Return the smallest box that contains a shape; empty for an empty shape."""
    box = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        where = np.flatnonzero(inside.any(others))
        box.append(slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0))
    return tuple(box)
