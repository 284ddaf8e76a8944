"""Noise2Void: learn from one noisy scan by predicting voxels from their neighbours.

A few voxels of each patch are replaced with others, and the network predicts their
original values. Noise that is independent between voxels cannot be predicted, so the
network learns the signal alone. If noise is correlated along a line, the neighbours on
this line are replaced as well [3]_.

References
----------
.. [1] Krull et al. Noise2Void - Learning denoising from single noisy images. CVPR
   (2019). arXiv:1811.10980
.. [2] Höck et al. N2V2 - Fixing Noise2Void checkerboard artifacts with modified
   sampling strategies and a tweaked network architecture. ECCV workshops (2022).
   arXiv:2211.08512
.. [3] Broaddus et al. Removing structured noise with self-supervised blind-spot
   networks. ISBI (2020). doi:10.1109/ISBI45749.2020.9098336
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.method import Method as _Method
from napari_geosr.learning.sampling.blind_spots import BlindSpots, line_offsets

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Denoise"
NEEDS = "one noisy scan with noise that is independent between voxels"


class Config(TrainingConfig):
    """Settings of Noise2Void."""

    unused_settings: ClassVar[frozenset[str]] = frozenset({"target"})

    replacement: Literal["uniform", "median"] = Field(
        "uniform",
        title="Replacement",
        description="Replacement for a hidden voxel: a random neighbour or the median "
        "of the neighbours.",
    )
    masked: float = Field(
        1.6,
        ge=0.1,
        le=10,
        title="Masked",
        description="Percentage of a patch's voxels that are hidden and predicted.",
    )
    mask_axis: Literal["none", "x", "y", "z", "cross"] = Field(
        "none",
        title="Mask axis",
        description="Also hide the neighbours along this axis, if the noise forms "
        "lines (cross: along every axis).",
    )
    mask_length: int = Field(
        5,
        ge=3,
        le=31,
        title="Mask length",
        description="Length of the hidden line in voxels; must be odd.",
    )

    @field_validator("mask_length")
    @classmethod
    def _check_length(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("choose an odd number, so that there is a middle voxel")
        return value


class Method(_Method):
    """Predicts hidden voxels from their surroundings."""

    validation_measure = "hidden voxels (compared with their noisy values)"
    fits_last_layer = True
    denoises = ("source",)
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        ndim, settings = config.ndim, self.config
        self.blind_spots = BlindSpots(
            ndim,
            settings.masked / 100,
            settings.replacement,
            line_offsets(settings.mask_axis, settings.mask_length, ndim),
        )

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check that a mask along Z is not used with single slices."""
        super().check(config)
        assert isinstance(config, Config)
        if config.mask_axis == "z" and config.dimensions == "2D":
            raise ConfigError(
                "Single slices have no neighbours along Z: set the dimensions to "
                "2.5D or 3D, or the mask axis to x, y, cross or none."
            )

    def network_kwargs(self) -> AnyDict:
        """Return the network's settings; by default, it is not a residual network.

        The replacement of a hidden voxel contains hardly any information about it, so a
        residual network would start with a wrong prediction.
        """
        kwargs = super().network_kwargs()
        if "residual" in kwargs:
            kwargs["residual"] = self.config.network_options.get("residual", False)
        return kwargs

    def independent_noise_along(self) -> str:
        """Return the axes along which no neighbours are hidden."""
        masked = self.config.mask_axis
        hidden = "xyz"[: self.config.ndim] if masked == "cross" else masked
        return "".join(axis for axis in "xyz" if axis not in hidden)

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a patch with hidden voxels, their true values and positions."""
        exchange = self.config.mask_axis in ("none", "z", "cross")
        deep = self.config.ndim == 3
        drawn = patches.draw(rng, ("source",), exchange=exchange, slices=not deep)
        patch = drawn["source"]
        numbers = None if deep else drawn["slices"].ravel()
        hidden, chosen = self.blind_spots.hide(
            patch[0] if deep else patch, rng, numbers
        )
        middle = slice(patch.shape[0] // 2, patch.shape[0] // 2 + 1)
        return {
            "source": hidden[None] if deep else hidden,
            "target": patch[middle],
            "mask": chosen.reshape(patch[middle].shape).astype(np.float32),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the mean squared error of the hidden voxels."""
        output = self.output(batch)
        mask = batch["mask"]
        squares = mask * (output - batch["target"]).square()
        # Mean per patch: the mean over parts of a batch equals that of the whole batch.
        error = (squares.flatten(1).sum(1) / mask.flatten(1).sum(1)).mean()
        return error, {"loss": error}
