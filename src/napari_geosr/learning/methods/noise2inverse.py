"""Noise2Inverse: learn from reconstructions of disjoint sets of projections.

The sources are reconstructions of the same object, each from every K-th projection; no
projection is used twice. Because different projections have independent noise, so do
the sources, and one of them can be predicted from the others as in Noise2Noise. This is
valid if the reconstruction is linear and the noise has zero mean. The sources must have
the same voxel grid, filter and grey scale.

In a restoration, the network is run on each of `inputs` and the outputs are averaged;
the model's card states this, and ``napari-geosr restore A B … --average`` does it.

References
----------
.. [1] Hendriksen, Pelt, Batenburg. Noise2Inverse: self-supervised deep convolutional
   denoising for tomography. IEEE TCI 6, 1320-1335 (2020).
   doi:10.1109/TCI.2020.3019647
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.mean_volume import mean_volume
from napari_geosr.learning.method import Batch, Losses
from napari_geosr.learning.method import Method as _Method

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.method import Arrays
    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Denoise"
NEEDS = "two or more reconstructions of one scan, each from different projections"

Strategy = Literal["X:1", "1:X"]


class Config(TrainingConfig):
    """Settings of Noise2Inverse."""

    unused_settings: ClassVar[frozenset[str]] = frozenset({"target"})

    strategy: Strategy = Field(
        "X:1",
        title="Strategy",
        description="What the network predicts. X:1: one reconstruction from the mean "
        "of the others; 1:X: the mean of the others from one reconstruction.",
    )


def index_sets(
    n: int, strategy: Strategy
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Return the indices of the inputs and targets among `n` sources, for each pair."""
    pairs = []
    for one in range(n):
        rest = tuple(i for i in range(n) if i != one)
        pairs.append((rest, (one,)) if strategy == "X:1" else ((one,), rest))
    return tuple(pairs)


def inputs(volumes: Sequence[Volume], strategy: Strategy = "X:1") -> list[Volume]:
    """Return the inputs of the trained network; the mean of its outputs is the result.

    Parameters
    ----------
    volumes : sequence of Volume
        The sources, at least two.

    Returns
    -------
    list of Volume
        Lazy volumes, one per source, computed like the inputs during training.
    """
    return [_mean(volumes, given) for given, _ in index_sets(len(volumes), strategy)]


def _mean(volumes: Sequence[Volume], indices: tuple[int, ...]) -> Volume:
    if len(indices) == 1:
        return volumes[indices[0]]
    names = ", ".join(volumes[i].name for i in indices)
    return mean_volume([volumes[i] for i in indices], f"mean of {names}")


class Method(_Method):
    """Predicts some of the reconstructions from the others."""

    one_object = True
    noisy_target = True
    fits_last_layer = True
    denoises = ("source",)
    output_role = "target"
    config: Config

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check that there is more than one source."""
        super().check(config)
        if len(config.source) < 2:
            raise ConfigError(
                "Noise2Inverse needs at least two sources: reconstructions of the "
                "same object, each from different projections (every second or every "
                "fourth)."
            )

    def scenes(
        self, volumes: Mapping[str, Sequence[Volume]]
    ) -> Mapping[str, Sequence[Volume]]:
        """Return a scene for each choice of input and target, to be drawn at random.

        Thus every source serves as a target.
        """
        sources = volumes["source"]
        mean_volume(sources, "all")  # raises an error if shapes or axes differ
        sets = index_sets(len(sources), self.config.strategy)
        return {
            "source": inputs(sources, self.config.strategy),
            "target": [_mean(sources, target) for _, target in sets],
        }

    @property
    def run_on(self) -> Literal["each", "others"]:
        """Inputs of the trained network: single volumes, or means of the others."""
        return "others" if self.config.strategy == "X:1" else "each"

    def intended_use(self) -> str:
        """Return the intended use, for the card: scans like the training data."""
        n = len(self.config.source)
        return (
            f"Sub-reconstructions like the {n} that the model was trained on. Give all "
            "sub-reconstructions of one object together; the result is the mean of the "
            "outputs. The reconstruction from all projections has less noise than any "
            "of them, so restoring it alone is only approximate."
        )

    def inputs(self, volumes: Sequence[Volume]) -> list[Volume]:
        """Return the inputs of the trained network; see the function `inputs`."""
        return inputs(volumes, self.config.strategy)

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw an input and its target from a random scene."""
        return patches.draw(rng, ("source", "target"))

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the mean squared error, as Noise2Inverse requires [1]_."""
        output = self.output(batch)
        error = (output - batch["target"]).square().mean()
        return error, {"loss": error}
