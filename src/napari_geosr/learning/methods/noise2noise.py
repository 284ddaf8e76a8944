"""Noise2Noise: learn from two noisy scans of the same object.

The mean of all scans that look like one noisy scan is the clean object, so a network
that has to guess another noisy scan learns to give the clean one. It is valid where the
noise of the two is independent and has zero mean, and they lie on each other to 0.2
voxels.

References
----------
.. [1] Lehtinen et al. Noise2Noise: Learning image restoration without clean data.
   ICML (2018). arXiv:1803.04189
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.method import Method as _Method

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from napari_geosr.learning.patches import Patches

NEEDS = "two aligned noisy scans of the same object"


class Config(TrainingConfig):
    """Settings of Noise2Noise."""


class Method(_Method):
    """Predicts one noisy scan from the other, in random order."""

    roles = ("source", "target")
    noisy_target = True
    begins_linear = True
    denoises = ("source", "target")

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a patch of both scans, in random order."""
        swapped = rng.random() < 0.5
        order = ("target", "source") if swapped else ("source", "target")
        drawn = patches.draw(rng, order, context_of=order[0])
        return {"source": drawn[order[0]], "target": drawn[order[1]]}

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Mean squared error: its minimum is the mean, as Noise2Noise needs [1]_."""
        output = self.output(batch)
        error = (output - batch["target"]).square().mean()
        return error, {"loss": error}
