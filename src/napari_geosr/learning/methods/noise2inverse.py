"""Noise2Inverse: learn from reconstructions of disjoint parts of the projections.

Every source is a reconstruction of the same object from every K-th projection, each
from others. The noise of projections is independent, so it is between the sources, and
one of them can be guessed from the others, as in Noise2Noise. That holds where the
reconstruction is linear and the noise has zero mean; the sources must have the same
voxels, filter and grey scale.

To restore, the network is run on each of :func:`inputs` and the outputs are averaged;
the model's card says so, and ``napari-geosr restore A B … --average`` does it.

References
----------
.. [1] Hendriksen, Pelt, Batenburg. Noise2Inverse: self-supervised deep convolutional
   denoising for tomography. IEEE TCI 6, 1320-1335 (2020).
   doi:10.1109/TCI.2020.3019647
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

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
    from napari_geosr.learning.patches import Patches

NEEDS = "two or more reconstructions of one scan, each from different projections"

Strategy = Literal["X:1", "1:X"]


class Config(TrainingConfig):
    """Settings of Noise2Inverse."""

    strategy: Strategy = Field(
        "X:1",
        title="Strategy",
        description="X:1: predict one reconstruction from the mean of the others; "
        "1:X: predict that mean from one.",
    )


def index_sets(
    n: int, strategy: Strategy
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Indices of the inputs and targets among `n` sources, for each pair."""
    pairs = []
    for one in range(n):
        rest = tuple(i for i in range(n) if i != one)
        pairs.append((rest, (one,)) if strategy == "X:1" else ((one,), rest))
    return tuple(pairs)


def inputs(volumes: Sequence[Volume], strategy: Strategy = "X:1") -> list[Volume]:
    """Inputs of the trained network; the mean of its outputs is the result.

    Parameters
    ----------
    volumes : sequence of Volume
        The sources, at least two.

    Returns
    -------
    list of Volume
        As many as there are sources, lazy; of the kind that the network was trained on.
    """
    return [_mean(volumes, given) for given, _ in index_sets(len(volumes), strategy)]


def _mean(volumes: Sequence[Volume], which: tuple[int, ...]) -> Volume:
    if len(which) == 1:
        return volumes[which[0]]
    names = ", ".join(volumes[i].name for i in which)
    return mean_volume([volumes[i] for i in which], f"mean of {names}")


class Method(_Method):
    """Predicts some sub-reconstructions from the others."""

    one_object = True
    noisy_target = True
    begins_linear = True
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
        """A scene for every choice of input and target; training draws one at random.

        So every source is a target in its turn.
        """
        given = volumes["source"]
        mean_volume(given, "all")  # says which of them differs
        sets = index_sets(len(given), self.config.strategy)
        return {
            "source": inputs(given, self.config.strategy),
            "target": [_mean(given, wanted) for _, wanted in sets],
        }

    @property
    def run_on(self) -> Literal["each", "others"]:
        """Grey scale of the inputs that the network has seen."""
        return "others" if self.config.strategy == "X:1" else "each"

    def intended_use(self) -> str:
        """Restore what training gave as input: the whole scan has less noise."""
        n = len(self.config.source)
        return (
            f"Sub-reconstructions like the {n} it was trained on: give all of one "
            "object together; the result is the mean of the outputs. The "
            "reconstruction from all projections has less noise than any of them, so "
            "restoring it alone is only approximate."
        )

    def inputs(self, volumes: Sequence[Volume]) -> list[Volume]:
        """See :func:`inputs`."""
        return inputs(volumes, self.config.strategy)

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw an input and its target from one of the choices."""
        return patches.draw(rng, ("source", "target"))

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Mean squared error: its minimum is the mean, as Noise2Inverse needs [1]_."""
        output = self.output(batch)
        error = (output - batch["target"]).square().mean()
        return error, {"loss": error}
