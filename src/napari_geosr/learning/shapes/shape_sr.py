"""Shape super-resolution: learn the position of the surface within coarse voxels.

Fine shapes are made coarse by averaging and thresholding, as in the segmentation of a
scan with voxels twice as wide. The network predicts the fine voxels next to the surface
of the coarse shape. The network is applied again to its own result for factors of 4 and
8. It learns either the phase of the fine voxels, or their signed distance from the
surface [2]_, truncated far from it [3]_; in both cases, the sign of its output is the
phase.

References
----------
.. [1] Li et al. Sparse convolutional neural network for high-resolution skull shape
   completion and shape super-resolution. Sci. Rep. 13, 20229 (2023).
   doi:10.1038/s41598-023-47437-6
.. [2] Park et al. DeepSDF: learning continuous signed distance functions for shape
   representation. CVPR 2019. arXiv:1901.05103
.. [3] Curless and Levoy. A volumetric method for building complex models from range
   images. SIGGRAPH 1996, 303-312. doi:10.1145/237170.237269
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
from cyclopts import Parameter
from pydantic import Field

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.learning.shapes.data import (
    ShapeConfig,
    ShapeMethod,
    ShapeSet,
    moved,
    random_solid,
)
from napari_geosr.learning.shapes.filled_cells import surface_cells
from napari_geosr.physics.shapes import coarsened, sampled

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.core.volume import Volume
    from napari_geosr.networks.sparse.surface_unet import SurfaceUNet

PURPOSE = "Refine shapes"
NEEDS = "shapes at high resolution (label volumes), or simulated ones"

#: Range of sizes of each kind of simulated solid, relative to half the edge of a block.
_SCALES = {
    "ellipsoid": (0.4, 1.3),
    "pores": (0.6, 1.6),
    "skull": (1.5, 4.0),
    "trabeculae": (0.7, 1.6),
    "tree": (0.9, 1.6),
}
#: Description of each head, for the card.
_HEADS = {
    "occupancy": "Head: occupancy (predicts which fine voxels are inside the shape).",
    "distance": "Head: distance (predicts the signed distance of fine voxels from the "
    "surface).",
}
#: Minimum number of fine voxels of each phase in a block.
_MIN_VOXELS = 200
#: Maximum number of blocks drawn until one contains a surface.
_MAX_TRIES = 20
#: Error of the distance, in fine voxels, above which the loss is linear. Half a voxel
#: is the smallest distance of a voxel from the surface.
_LINEAR_ABOVE = 0.5
#: Distance from the surface, in voxels, at which signed distances are truncated.
TRUNCATION = 3.0
#: Distance between the centre of a voxel and its faces, in voxels. Distances are
#: measured between centres, but the surface runs along the faces.
_HALF_VOXEL = 0.5


class Config(ShapeConfig):
    """Settings of shape super-resolution."""

    network: str = Field(
        "surface_unet", title="Network", description="Network architecture."
    )
    patch: int = Field(
        32,
        ge=8,
        le=256,
        title="Patch",
        description="Edge length of a training block, in low-resolution voxels.",
    )
    noise: Annotated[float, Parameter(name=["--noise-level", "--noise"])] = Field(
        0.1,
        ge=0,
        le=1,
        title="Noise",
        description="Maximum standard deviation of the scanner noise, relative to "
        "the contrast. Noise is added to a quarter of the low-resolution shapes.",
    )
    head: Literal["occupancy", "distance"] = Field(
        "occupancy",
        title="Head",
        description="What the network predicts for each high-resolution voxel next to "
        "the surface: whether it is inside the shape (occupancy), or its signed "
        "distance from the surface (distance).",
    )


class Method(ShapeMethod):
    """Predicts the fine voxels at the surface of a coarse shape."""

    config: Config
    draws_blocks = True

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.upscale_factor = 2

    @classmethod
    def check_shape(cls, shapes: ShapeSet, volume: Volume, inside: AnyArray) -> None:
        """Raise `VolumeError` if blocks have no surface at half the resolution."""
        learned = inside[shapes.planes(volume)]
        found = {
            bool(value)
            for start in range(0, len(learned), 2)
            for value in np.unique(coarsened(learned[start : start + 2], 2))
        }
        if found == {False, True}:
            return
        held_out = " outside the held-out planes" if len(learned) < len(inside) else ""
        raise VolumeError(
            f"{volume.title} has no surface{held_out} if its resolution is halved, so "
            "there is nothing to learn from it. Use shapes that are at least two "
            "voxels thick, or give several volumes."
        )

    @property
    def output_note(self) -> str:
        """Sentence for the card about the head of the network."""
        return f" {_HEADS[self.config.head]}"

    def network_kwargs(self) -> AnyDict:
        """Return the settings of the network, for its card."""
        return {**super().network_kwargs(), "upscale_factor": 2}

    def pair(
        self, shapes: ShapeSet, rng: np.random.Generator
    ) -> tuple[AnyArray, AnyArray]:
        """Draw a coarse block and the corresponding fine block.

        If no block has enough voxels of both phases, the one with most is used; without
        a surface, it has no effect on the loss.
        """
        edge, best = 2 * self.config.patch, -1
        for _ in range(_MAX_TRIES):
            drawn = self._block(shapes, rng, edge)
            n_inside = int(np.count_nonzero(drawn))
            least = min(n_inside, drawn.size - n_inside)
            if least:
                coarse = coarsened(drawn, 2)
                least *= bool(coarse.any() and not coarse.all())
            if least > best:
                fine, best = drawn, least
            if best >= _MIN_VOXELS:
                break
        noise = self.config.noise * rng.random() if rng.random() < 0.25 else 0.0
        return coarsened(fine, 2, rng, noise=noise), fine

    def _block(self, shapes: ShapeSet, rng: np.random.Generator, edge: int) -> AnyArray:
        if not shapes.volumes:
            assert self.config.simulated is not None
            name, solid = random_solid(rng, self.config.simulated)
            scale = rng.uniform(*_SCALES[name])
            shift = rng.uniform(-0.8, 0.8, 3) * (scale if name == "skull" else 0.3)
            return sampled(moved(solid, scale, shift), (edge,) * 3)
        volume = shapes.volume(rng)
        number = shapes.number_of(volume)
        if number not in shapes.cells:
            shapes.cells[number] = surface_cells(shapes.stored_mask(volume))
        block = shapes.mask_of(volume, shapes.block(volume, edge, rng))
        missing = shapes.padding(block.shape, edge)
        padded: AnyArray = np.pad(block, missing, mode="edge")
        return padded

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw ``"source"`` and ``"target"``; for distances, also ``"distance"``."""
        drawn = super().draw(patches, rng)
        if self.config.head == "distance":
            drawn["distance"] = signed_distance(drawn["target"][0] > 0)[None]
        return drawn

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the mean error of the fine voxels at the surface.

        The error is the binary cross-entropy of the phase, or the smooth L1 norm of the
        distance in fine voxels.
        """
        network = cast("SurfaceUNet", self.modules[self.result])
        if self.config.head == "distance":
            found, role = network.surface_distances(batch["source"].float()), "distance"
        else:
            found, role = network.surface_logits(batch["source"].float()), "target"
        n, z, y, x = found.coords.long().unbind(1)
        values, target = found.features[:, 0], batch[role][n, 0, z, y, x].float()
        known = target.isfinite()  # all phases are known, but not all distances
        if not known.any():  # a block without a surface has no error
            return values.sum() * 0, {}
        error = self._error(values, target, known)
        return error, {"loss": error}

    def _error(self, found: Tensor, target: Tensor, known: Tensor) -> Tensor:
        from torch.nn import functional as F  # noqa: N812

        if self.config.head == "distance":
            return F.smooth_l1_loss(found[known], target[known], beta=_LINEAR_ABOVE)
        return F.binary_cross_entropy_with_logits(found, target)


def signed_distance(inside: AnyArray, truncation: float = TRUNCATION) -> AnyArray:
    """Return the distance of each voxel of a block from the surface, in voxels.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    truncation : float
        Largest distance, in voxels.

    Returns
    -------
    ndarray of float32
        Negative inside the shape. NaN where the distance is unknown, because a surface
        outside the block could be closer.

    Examples
    --------
    >>> block = np.broadcast_to(np.arange(10) > 4, (9, 9, 10))
    >>> signed_distance(block, 2.0)[4, 4].tolist()
    [nan, nan, 2.0, 1.5, 0.5, -0.5, -1.5, -2.0, nan, nan]
    """
    from scipy.ndimage import distance_transform_edt

    found = np.full(inside.shape, truncation, np.float32)
    # Without a second phase, there is nothing to which a distance could be measured.
    if inside.any() and not inside.all():
        to_other = distance_transform_edt(inside) + distance_transform_edt(~inside)
        np.minimum(to_other - _HALF_VOXEL, truncation, out=found, casting="same_kind")
    found[found > _to_border(inside.shape) - _HALF_VOXEL] = np.nan
    return np.where(inside, -found, found)


def _to_border(shape: tuple[int, ...]) -> AnyArray:
    """Return the distance of each voxel from the closest voxel outside the block."""
    ends = [np.minimum(np.arange(n) + 1, n - np.arange(n)) for n in shape]
    nearest: AnyArray = np.minimum.reduce(np.meshgrid(*ends, indexing="ij"))
    return nearest
