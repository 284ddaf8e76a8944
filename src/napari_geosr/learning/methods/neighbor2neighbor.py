"""Neighbor2Neighbor: learn from a single noisy scan, subsampled into two images.

From every cell of 2ⁿ voxels, two adjacent voxels are drawn, one for each of two images
of half the size. The two images show nearly the same object with independent noise, and
one is predicted from the other. A regularisation term compensates for the true
difference between neighbours; its weight rises during training. Structures must be a
few voxels wide, because the network is trained on images of half the resolution.

References
----------
.. [1] Huang et al. Neighbor2Neighbor: self-supervised denoising from single noisy
   images. CVPR (2021). arXiv:2101.02824
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses, Updater
from napari_geosr.learning.method import Method as _Method
from napari_geosr.learning.running_statistics import frozen_statistics

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Denoise"
NEEDS = "one noisy scan with independent noise and structures a few voxels wide"


class Config(TrainingConfig):
    """Settings of Neighbor2Neighbor."""

    unused_settings: ClassVar[frozenset[str]] = frozenset({"target"})

    cells: Literal["plane", "volume"] = Field(
        "plane",
        title="Cells",
        description="Take neighbours from cells of 2 × 2 voxels in a slice, or of 2 "
        "× 2 × 2 voxels (3D networks with cubic voxels only).",
    )
    increase: float = Field(
        2.0,
        ge=0,
        le=100,
        title="Regularisation",
        description="Final weight of the regularisation, which rises from 0. Larger "
        "values give less smooth results.",
    )


def neighbour_pairs(n_axes: int) -> tuple[tuple[int, int], ...]:
    """Return ordered pairs of voxels of a 2ⁿ cell that share a face; 8 in 2D, 24 in 3D.

    Voxels of a cell are numbered with the last axis varying fastest.
    """
    corners = list(itertools.product((0, 1), repeat=n_axes))
    return tuple(
        (i, j)
        for i, a in enumerate(corners)
        for j, b in enumerate(corners)
        if sum(p != q for p, q in zip(a, b, strict=True)) == 1
    )


def as_cells(x: Tensor, n_axes: int) -> Tensor:
    """Rearrange the cells of 2ⁿ voxels: the voxels of a cell form the new last axis."""
    lead, sizes = x.shape[: x.ndim - n_axes], x.shape[x.ndim - n_axes :]
    split = [part for size in sizes for part in (size // 2, 2)]
    first = len(lead)
    order = [*range(first)]
    order += [first + 2 * i for i in range(n_axes)]
    order += [first + 2 * i + 1 for i in range(n_axes)]
    halves = x.reshape(*lead, *split).permute(order)
    return halves.flatten(-n_axes)


def halves(x: Tensor, choice: Tensor, n_axes: int) -> tuple[Tensor, Tensor]:
    """Subsample an image into two images of half the size.

    Parameters
    ----------
    x : Tensor of shape (N, C, [Z,] Y, X)
    choice : integer Tensor of shape (N, 1, …)
        Index of each cell's pair in `neighbour_pairs`.
    """
    import torch

    pairs = torch.tensor(neighbour_pairs(n_axes), device=x.device)[choice]
    cells = as_cells(x, n_axes)
    pairs = pairs.expand(*cells.shape[:-1], 2)
    first, second = cells.gather(-1, pairs).unbind(-1)
    return first, second


class Method(_Method):
    """Predicts one of two subsampled images from the other."""

    loss_titles: Mapping[str, str] = {
        "guess": "prediction error",
        "regularising": "regularisation",
    }
    validation_measure = (
        "neighbouring voxels, one per cell (compared with their noisy values)"
    )
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.n_axes = 3 if self.config.cells == "volume" else 2
        #: Fraction of the training done, which determines the weight of the
        #: regularisation.
        self.progress = 0.0

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check that 3D cells are used with a 3D network."""
        super().check(config)
        assert isinstance(config, Config)
        if config.cells == "volume" and config.dimensions != "3D":
            raise ConfigError(
                "Cells of 2 × 2 × 2 voxels need --dimensions 3D: set that, or set "
                "--cells to plane."
            )

    def independent_noise_along(self) -> str:
        """Return the axes along which neighbours are predicted from each other."""
        return "xyz" if self.n_axes == 3 else "xy"

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a patch and, for every cell, a pair of neighbours."""
        patch = patches.draw(rng, ("source",))["source"]
        n_kept_axes = patch.ndim - self.n_axes
        shape = patch.shape[:n_kept_axes] + tuple(
            n - n % 2 for n in patch.shape[n_kept_axes:]
        )
        patch = np.ascontiguousarray(patch[tuple(slice(n) for n in shape)])
        cells = (1, *shape[1:n_kept_axes], *(n // 2 for n in shape[n_kept_axes:]))
        n_pairs = len(neighbour_pairs(self.n_axes))
        return {"source": patch, "choice": rng.integers(0, n_pairs, cells)}

    def train_step(self, loop: Updater, batches: Sequence[Batch]) -> dict[str, float]:
        """Take one step; the weight of the regularisation increases with each step."""
        self.progress = loop.step / max(1, loop.steps)
        return super().train_step(loop, batches)

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Compute equation 7 of [1]_: prediction error and regularisation."""
        import torch

        network, source = self.modules["network"], batch["source"]
        first, second = halves(source, batch["choice"], self.n_axes)
        middle = second.shape[1] // 2
        # The pass with gradients must come first: within autocast, some releases of
        # torch cache the weights as cast in the first pass, with or without gradients.
        with frozen_statistics(
            network
        ):  # the model will restore whole images, not subsampled ones
            error = network(first) - second[:, middle : middle + 1]
        with torch.no_grad():
            whole = network(source)
        restored = halves(whole, batch["choice"], self.n_axes)
        prediction_error = error.square().mean()
        regularisation = (error - (restored[0] - restored[1])).square().mean()
        gamma = self.config.increase * self.progress
        total = prediction_error + gamma * regularisation
        return total, {
            "loss": total,
            "guess": prediction_error,
            "regularising": regularisation,
        }

    def validate(self, batch: Batch) -> dict[str, float]:
        """Return only the prediction error, which is comparable throughout training."""
        _, losses = self.loss(batch)
        return {"guess": float(losses["guess"])}
