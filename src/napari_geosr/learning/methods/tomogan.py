"""TomoGAN: learn from pairs with pixel, perceptual and adversarial losses.

The loss of the generator has three terms [1]_: the mean squared error (or other losses
chosen by the user, including geometric ones), a perceptual loss and an adversarial
loss. The critic estimates the Jensen-Shannon distance, as published, the Wasserstein
distance with gradient penalty, or the least-squares distance.

The published weights (20, 0.5 and 2) are for grey values from 0 to 255. Here data are
standardised, and the default weights give all terms the same order of magnitude. For a
foam with noise (standard deviation: 0.3 of the contrast), 200 steps of a small
generator result in a pixel loss of 0.08, a perceptual loss of 0.07, a cross-entropy of
1 to 16 and a Wasserstein loss (divided by the root of the number of voxels) of 0.6.
Weights of 1, 0.5 and 0.01 (Jensen-Shannon) or 0.1 (Wasserstein) give terms of 0.08,
0.04 and 0.01 to 0.16 (Jensen-Shannon) or 0.06 (Wasserstein).

References
----------
.. [1] Liu et al. TomoGAN: low-dose synchrotron x-ray tomography with generative
   adversarial networks. J. Opt. Soc. Am. A 37, 422-434 (2020).
   doi:10.1364/JOSAA.375595
.. [2] Gulrajani et al. Improved training of Wasserstein GANs. NeurIPS (2017).
   arXiv:1704.00028
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from napari_geosr import learning
from napari_geosr.learning import losses
from napari_geosr.learning.adversarial import (
    AdversarialConfig,
    AdversarialMethod,
    merge_samples,
    select_sample,
)
from napari_geosr.learning.config import Files, TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses, Updater
from napari_geosr.learning.target_loss import TargetLossConfig, TargetLossMethod

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Denoise"
NEEDS = "aligned pairs of a low-quality and a high-quality scan of the same object"
#: Fraction of the steps with the pixel loss alone before the Wasserstein critic starts,
#: and the maximum number of these steps.
_PIXEL_SHARE = 0.1
_MAX_PIXEL_STEPS = 1000
#: Default adversarial weights: the cross-entropy of a dominant critic grows to ten or
#: more, whereas the losses of the other two distances stay below one.
_ADVERSARIAL_WEIGHT = {"jensen-shannon": 0.01, "wasserstein": 0.1, "least-squares": 0.1}


class Config(AdversarialConfig, TargetLossConfig):
    """Settings of TomoGAN."""

    target: Files = Field(
        (),
        title="Target",
        description="High-quality scan of the object in each source, in the same "
        "order.",
    )

    network: str = Field(
        "tomogan",
        title="Network",
        description="Architecture of the generator: tomogan (as published), resnet, "
        "msdnet and others.",
    )
    adjacent_slices: int = Field(
        3,
        ge=1,
        le=31,
        title="Adjacent slices",
        description="Number of adjacent slices that a 2.5D network takes as input; "
        "must be odd.",
    )
    pixel_weight: float = Field(
        1.0,
        ge=0,
        title="Pixel weight",
        description="Weight of the difference between the grey values of result and "
        "target.",
    )
    perceptual_weight: float = Field(
        0.5,
        ge=0,
        title="Perceptual weight",
        description="Weight of the perceptual loss.",
    )
    adversarial_weight: float | None = Field(
        None,
        ge=0,
        title="Adversarial weight",
        description="Weight of the adversarial loss; by default 0.01 for "
        "Jensen-Shannon and 0.1 for the others.",
    )
    features: Literal["structure", "vgg19", "gradient"] = Field(
        "structure",
        title="Features",
        description="Network for the perceptual loss: structure (part of "
        "napari-geosr), vgg19 (needs torchvision) or gradient (no network; compares "
        "image gradients).",
    )
    critic_steps: int = Field(
        2,
        ge=1,
        le=10,
        title="Critic steps",
        description="Number of updates of the critic per update of the generator.",
    )
    pixel_steps: int | None = Field(
        None,
        ge=0,
        title="Pixel steps",
        description="Number of initial steps without the critic, in which only grey "
        "values are learned. By default, a tenth of all steps (at most 1000) for "
        "Wasserstein; otherwise none.",
    )


class Method(TargetLossMethod, AdversarialMethod):
    """A generator trained with a target, a feature network and a critic."""

    loss_titles: Mapping[str, str] = {
        **AdversarialMethod.loss_titles,
        "perceptual": "perceptual loss",
    }
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self._features: nn.Module | None = None

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check that the feature network is available."""
        super().check(config)
        assert isinstance(config, Config)
        if config.perceptual_weight and config.features == "vgg19":
            losses.perceptual.load_features("vgg19")
        cls(config).check_window()

    @property
    def adversarial_weight(self) -> float:
        """Adversarial weight: the user's setting, or the default of the distance."""
        if self.config.adversarial_weight is not None:
            return self.config.adversarial_weight
        return _ADVERSARIAL_WEIGHT[self.config.distance]

    def build(self) -> dict[str, nn.Module]:
        """Build generator and critic."""
        width = self.config.critic_width
        return {
            **super().build(),
            "critic": learning.critics.TomoGANCritic(self.config.ndim, 1, width),
        }

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Use separate optimisers for generator and critic."""
        return {"network": ("network",), "critic": ("critic",)}

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw one pair per critic step; the generator uses the first."""
        n = self.config.critic_steps
        return merge_samples([patches.draw(rng, self.roles) for _ in range(n)])

    def pixel_steps(self, steps: int) -> int:
        """Return the number of initial steps with the pixel loss only."""
        if self.config.pixel_steps is not None:
            return self.config.pixel_steps
        wasserstein = self.config.distance == "wasserstein"
        return min(_MAX_PIXEL_STEPS, int(_PIXEL_SHARE * steps)) if wasserstein else 0

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the pixel loss alone, for the first steps."""
        output = self.modules["network"](batch["source"])
        error, parts = self.target_loss(output, batch["target"])
        return error, {"pixel": error, **parts}

    def generator_loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the weighted sum of the three losses."""
        config, target = self.config, batch["target"]
        output = self.modules["network"](batch["source"])
        pixel, parts = self.target_loss(output, target)
        adversarial = self.adversarial_loss("critic", output) / self.patch_scale(target)
        total = config.pixel_weight * pixel + self.adversarial_weight * adversarial
        terms = {"pixel": pixel, "adversarial": adversarial, **parts}
        if config.perceptual_weight:
            features = self._feature_network(target)
            terms["perceptual"] = losses.perceptual.perceptual_loss(
                features, output, target
            )
            total = total + config.perceptual_weight * terms["perceptual"]
        return total, terms

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the critic's loss on real and generated images (frozen generator)."""
        import torch

        with torch.no_grad():
            fake = self.modules["network"](batch["source"])
        return self.critic_terms("critic", batch["target"], fake)

    def train_step(self, loop: Updater, batches: Sequence[Batch]) -> dict[str, float]:
        """Update the generator, then make all steps of the critic."""
        self.target_loss.set_progress(loop)
        first = [select_sample(batch, 0) for batch in batches]
        if loop.step < self.pixel_steps(loop.steps):
            return loop.update("network", first, self.loss)
        terms = loop.update("network", first, self.generator_loss)
        for i in range(self.config.critic_steps):
            samples = [select_sample(batch, i) for batch in batches]
            terms |= loop.update("critic", samples, self.critic_loss)
        return terms

    def validate(self, batch: Batch) -> dict[str, float]:
        """Return the pixel loss only, as adversarial losses are not comparable."""
        output = self.modules["network"](batch["source"])
        pixel, _ = self.target_loss(output, batch["target"], progress=1)
        return {"pixel": float(pixel)}

    def _feature_network(self, reference: Tensor) -> nn.Module:
        if self._features is None:
            features = losses.perceptual.load_features(self.config.features)
            self._features = features.to(reference.device)
        return self._features
