"""Pix2Pix: learn to translate one kind of image into another, from aligned pairs.

The mean absolute error (or other losses chosen by the user, including geometric ones)
keeps the output close to its target. A patch critic, which also takes the input, makes
the output look like a target [1]_. With an upscale factor, the target has smaller
voxels, and the critic takes the input interpolated to them.

The published weights are 1 (critic) and 100 (pixels). Here the larger weight is 1, so
that the gradient clipping acts as in other methods, and the ratio is 1 : 50, because
standardised grey values are spread twice as widely as values from −1 to 1. With an
upscale factor, the critic has a quarter of this weight, since more detail could be
invented in each voxel. For a foam upscaled by 4, 600 steps with 1 : 50 gave 16.2 dB
(interpolation: 18.3 dB) and six times as many connections as in the target; 1 : 200
gave 22.6 dB and an error of 24 % in the number of connections.

References
----------
.. [1] Isola et al. Image-to-image translation with conditional adversarial networks.
   CVPR (2017). doi:10.1109/CVPR.2017.632
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from napari_geosr import learning
from napari_geosr.learning.config import Files, TrainingConfig
from napari_geosr.learning.losses.choice import LossNames
from napari_geosr.learning.method import Batch, Losses, Updater
from napari_geosr.learning.target_loss import (
    TargetLossConfig,
    TargetLossMethod,
    loss_help,
)
from napari_geosr.learning.translation import (
    TranslationConfig,
    TranslationMethod,
    finer,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Default adversarial weight without an upscale factor.
ADVERSARIAL_WEIGHT = 0.02
#: Default adversarial weight with an upscale factor.
FINER_ADVERSARIAL_WEIGHT = 0.005
PURPOSE = "Translate or super-resolve"
NEEDS = "aligned pairs of two kinds of scan of the same object"


class Config(TranslationConfig, TargetLossConfig):
    """Settings of Pix2Pix."""

    target: Files = Field(
        (),
        title="Target",
        description="Scans of the same objects as the sources, of the kind into which "
        "the sources are to be translated, in the same order.",
    )

    loss: LossNames = Field(
        "l1",
        title="Loss",
        description=loss_help("Loss between output and target"),
    )
    pixel_weight: float = Field(
        1.0,
        ge=0,
        title="Pixel weight",
        description="Weight of the difference between the grey values of result and "
        "target.",
    )
    adversarial_weight: float | None = Field(
        None,
        ge=0,
        title="Adversarial weight",
        description="Weight of the adversarial loss; by default "
        f"{ADVERSARIAL_WEIGHT:g}, or {FINER_ADVERSARIAL_WEIGHT:g} with an upscale "
        "factor above 1.",
    )


class Method(TargetLossMethod, TranslationMethod):
    """A generator trained with a target and a conditional critic."""

    config: Config

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check that comparison boxes fit into patches."""
        super().check(config)
        cls(config).check_window()

    def build(self) -> dict[str, nn.Module]:
        """Build generator and patch critic."""
        critic = learning.critics.PatchCritic(
            self.config.ndim, self.config.planes + 1, self.config.critic_width
        )
        return {**super().build(), "critic": critic}

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Use separate optimisers for generator and critic."""
        return {"network": ("network",), "critic": ("critic",)}

    @property
    def adversarial_weight(self) -> float:
        """Adversarial weight: the user's setting, or the default for the factor."""
        if self.config.adversarial_weight is not None:
            return self.config.adversarial_weight
        finer_voxels = self.upscale_factor > 1
        return FINER_ADVERSARIAL_WEIGHT if finer_voxels else ADVERSARIAL_WEIGHT

    def conditioned(self, source: Tensor, image: Tensor) -> Tensor:
        """Return the critic's input: the source on the image's grid, then the image."""
        import torch

        return torch.cat([finer(source, self.upscale_factor), image], dim=1)

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the generator's loss: distance to the target plus adversarial loss."""
        source, target = batch["source"], batch["target"]
        output = self.modules["network"](source)
        pixel, parts = self.target_loss(output, target)
        adversarial = self.adversarial_loss("critic", self.conditioned(source, output))
        adversarial = adversarial / self.patch_scale(target)
        total = self.config.pixel_weight * pixel + self.adversarial_weight * adversarial
        return total, {"pixel": pixel, "adversarial": adversarial, **parts}

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the critic's loss on real and generated pairs (frozen generator)."""
        import torch

        source = batch["source"]
        with torch.no_grad():
            fake = self.modules["network"](source)
        condition = finer(source, self.upscale_factor)
        return self.critic_terms("critic", batch["target"], fake, condition)

    def train_step(self, loop: Updater, batches: Sequence[Batch]) -> dict[str, float]:
        """Update the critic, then the generator."""
        self.target_loss.set_progress(loop)
        losses = loop.update("critic", batches, self.critic_loss)
        return loop.update("network", batches, self.loss) | losses

    def validate(self, batch: Batch) -> dict[str, float]:
        """Return the target loss only, as adversarial losses are not comparable."""
        output = self.modules["network"](batch["source"])
        pixel, _ = self.target_loss(output, batch["target"], progress=1)
        return {"pixel": float(pixel)}
