"""Neighbor2Neighbor: learn from a single noisy scan by halving it in two ways.

Of every cell of 2 × 2 voxels one goes into each of two images of half the size, two
that lie side by side; they show nearly the same object in independent noise, and one is
guessed from the other. What the neighbours truly differ by is subtracted by a second
term, whose weight rises during the training. It wants structures of some voxels: half
the voxels are all that it sees.

References
----------
.. [1] Huang et al. Neighbor2Neighbor: self-supervised denoising from single noisy
   images. CVPR (2021). arXiv:2101.02824
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses, Updater
from napari_geosr.learning.method import Method as _Method
from napari_geosr.learning.running_statistics import left_alone

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.learning.patches import Patches

NEEDS = "one noisy scan; pixel-wise independent noise; structures a few voxels wide"


class Config(TrainingConfig):
    """Settings of Neighbor2Neighbor."""

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
        title="Increase",
        description="Final weight of the regularisation, which rises from 0. Larger "
        "values give less smooth results.",
    )


def neighbour_pairs(n_axes: int) -> tuple[tuple[int, int], ...]:
    """Ordered pairs of voxels of a 2ⁿ cell that share a face; 8 in 2D, 24 in 3D.

    Voxels of a cell are counted with the last axis fastest.
    """
    corners = list(itertools.product((0, 1), repeat=n_axes))
    return tuple(
        (i, j)
        for i, a in enumerate(corners)
        for j, b in enumerate(corners)
        if sum(p != q for p, q in zip(a, b, strict=True)) == 1
    )


def as_cells(x: Tensor, n_axes: int) -> Tensor:
    """Bring the voxels of the 2ⁿ cells of the last `n_axes` axes into one last axis."""
    lead, sizes = x.shape[: x.ndim - n_axes], x.shape[x.ndim - n_axes :]
    split = [part for size in sizes for part in (size // 2, 2)]
    first = len(lead)
    order = [*range(first)]
    order += [first + 2 * i for i in range(n_axes)]
    order += [first + 2 * i + 1 for i in range(n_axes)]
    halves = x.reshape(*lead, *split).permute(order)
    return halves.flatten(-n_axes)


def halves(x: Tensor, choice: Tensor, n_axes: int) -> tuple[Tensor, Tensor]:
    """The two images of half the size.

    Parameters
    ----------
    x : Tensor of shape (N, C, [Z,] Y, X)
    choice : integer Tensor of shape (N, 1, …)
        For every cell the number of its pair in :func:`neighbour_pairs`.
    """
    import torch

    pairs = torch.tensor(neighbour_pairs(n_axes), device=x.device)[choice]
    cells = as_cells(x, n_axes)
    pairs = pairs.expand(*cells.shape[:-1], 2)
    first, second = cells.gather(-1, pairs).unbind(-1)
    return first, second


class Method(_Method):
    """Predicts one half of the voxels from the other."""

    loss_titles: Mapping[str, str] = {
        "guess": "other half",
        "regularising": "halves agree",
    }
    judged_on = "prediction error on the other half (noisy)"
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.n_axes = 3 if self.config.cells == "volume" else 2
        #: Share of the training that is done; what the second term's weight follows.
        self.progress = 0.0

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check that 3D cells have a 3D network."""
        super().check(config)
        assert isinstance(config, Config)
        if config.cells == "volume" and config.dimensions != "3D":
            raise ConfigError(
                "Cells of 2 × 2 × 2 voxels need --dimensions 3D: set that, or set "
                "--cells to plane."
            )

    def independent_noise_along(self) -> str:
        """Axes along which neighbours stand in for each other."""
        return "xyz" if self.n_axes == 3 else "xy"

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a patch and, for every cell, which two neighbours go where."""
        patch = patches.draw(rng, ("source",))["source"]
        kept = patch.ndim - self.n_axes
        shape = patch.shape[:kept] + tuple(n - n % 2 for n in patch.shape[kept:])
        patch = np.ascontiguousarray(patch[tuple(slice(n) for n in shape)])
        cells = (1, *shape[1:kept], *(n // 2 for n in shape[kept:]))
        n_pairs = len(neighbour_pairs(self.n_axes))
        return {"source": patch, "choice": rng.integers(0, n_pairs, cells)}

    def train_step(self, loop: Updater, batches: Sequence[Batch]) -> dict[str, float]:
        """One step; the weight of the second term rises with time."""
        self.progress = loop.step / max(1, loop.steps)
        return super().train_step(loop, batches)

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Equation 7 of [1]_: guess the other half, less what the halves differ by."""
        import torch

        network, given = self.modules["network"], batch["source"]
        first, second = halves(given, batch["choice"], self.n_axes)
        middle = second.shape[1] // 2
        # This pass first: within autocast some releases of torch keep the weights as
        # the first pass has cast them, and one without gradients would cut them off.
        with left_alone(network):  # it is whole images that it will restore
            error = network(first) - second[:, middle : middle + 1]
        with torch.no_grad():
            whole = network(given)
        restored = halves(whole, batch["choice"], self.n_axes)
        guess = error.square().mean()
        truth = (error - (restored[0] - restored[1])).square().mean()
        gamma = self.config.increase * self.progress
        total = guess + gamma * truth
        return total, {"loss": total, "guess": guess, "regularising": truth}

    def validate(self, batch: Batch) -> dict[str, float]:
        """The prediction loss alone, which keeps its meaning during the training."""
        _, losses = self.loss(batch)
        return {"guess": float(losses["guess"])}
