"""Noise2Noise: learn from two noisy scans of the same object.

The noise of the second scan cannot be predicted from the first one, so a network that
minimises the mean squared error relative to the second scan learns to predict the clean
object. This is valid if the noise of both scans is independent and has zero mean, and
if the scans are aligned to within 0.2 voxels.

References
----------
.. [1] Lehtinen et al. Noise2Noise: Learning image restoration without clean data.
   ICML (2018). arXiv:1803.04189
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from napari_geosr.learning.config import Files, TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.method import Method as _Method

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Denoise"
NEEDS = "two aligned noisy scans of the same object"


class Config(TrainingConfig):
    """Settings of Noise2Noise."""

    target: Files = Field(
        (),
        title="Target",
        description="Second noisy scan of the same object for each source, in the same "
        "order.",
    )


class Method(_Method):
    """Predicts one noisy scan from the other, in random order."""

    roles = ("source", "target")
    noisy_target = True
    fits_last_layer = True
    denoises = ("source", "target")

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a patch of both scans, in random order."""
        swapped = rng.random() < 0.5
        order = ("target", "source") if swapped else ("source", "target")
        drawn = patches.draw(rng, order, context_of=order[0])
        return {"source": drawn[order[0]], "target": drawn[order[1]]}

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the mean squared error, as Noise2Noise requires [1]_."""
        output = self.output(batch)
        error = (output - batch["target"]).square().mean()
        return error, {"loss": error}
