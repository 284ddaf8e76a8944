"""Base class of methods with a critic: settings, optimisers, frozen critics.

Generator and critic alternate within a step: ``loop.update("network", …)`` and
``loop.update("critic", …)``.

The published learning rates, 1e-4 and 2e-4, are for large networks and 10⁵ steps. For a
noisy foam (PSNR 9.1 dB), Pix2Pix reached 22.4 dB after 300 steps with a rate of 2e-3,
and 18.0 dB after 200 steps with 5e-4; TomoGAN (Jensen-Shannon) reached 18.3 dB after 94
steps with 2e-3, and 13.8 dB after 100 steps with 5e-4.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from napari_geosr.learning import losses
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses, Method

if TYPE_CHECKING:
    from torch import Tensor, nn

Distance = Literal["jensen-shannon", "wasserstein", "least-squares"]


class AdversarialConfig(TrainingConfig):
    """Settings for training with a critic."""

    learning_rate: float = Field(
        2e-3,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate of generators and critics (Adam).",
    )
    distance: Distance = Field(
        "jensen-shannon",
        title="Distance",
        description="Distance between real and generated images. wasserstein (with "
        "gradient penalty) is more stable but slower than the others.",
    )
    gradient_penalty: float = Field(
        10.0,
        ge=0,
        title="Gradient penalty",
        description="Weight of the critic's gradient penalty; used only with the "
        "Wasserstein loss.",
    )
    critic_width: int = Field(
        32,
        ge=1,
        le=128,
        title="Critic width",
        description="Number of feature maps in the first layer of the critic (the "
        "network that judges the results); 64 in the original publications.",
    )


class AdversarialMethod(Method):
    """A generator that becomes the model, and critics used only during training."""

    roles = ("source", "target")
    output_role = "target"
    loss_titles: Mapping[str, str] = {
        "adversarial": "adversarial loss",
        "critic": "critic loss",
        "critic penalty": "gradient penalty",
        "pixel": "pixel loss",
    }
    config: AdversarialConfig

    def optimiser(self, group: str, parameters: list[Any]) -> Any:
        """Return Adam with low momentum, or with none for the Wasserstein distance."""
        import torch

        wasserstein = self.config.distance == "wasserstein"
        betas = (0.0, 0.9) if wasserstein else (0.5, 0.999)
        return torch.optim.Adam(parameters, lr=self.config.learning_rate, betas=betas)

    def critic_terms(
        self, critic: str, real: Tensor, fake: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Losses]:
        """Return the loss of the critic named `critic`, including any gradient penalty.

        `condition` is prepended to both images as further input channels.
        """
        import torch

        distance = self.config.distance
        module = self.modules[critic]
        # Score real and fake images together: parallel processes then synchronise once.
        images = torch.cat([real, fake])
        if condition is not None:
            images = torch.cat([torch.cat([condition, condition]), images], dim=1)
        scores = module(images).float()
        loss = losses.adversarial.critic_loss(
            scores[: len(real)], scores[len(real) :], distance
        )
        parts = {critic: loss}
        if distance == "wasserstein":
            # Report the estimated distance itself, not its negative.
            parts[critic] = -loss
            penalty = losses.adversarial.gradient_penalty(
                unwrapped(module), real, fake, condition
            )
            parts[f"{critic} penalty"] = penalty
            loss = loss + self.config.gradient_penalty * penalty
        return loss, parts

    def adversarial_loss(self, critic: str, fake: Tensor) -> Tensor:
        """Return the generator's adversarial loss; `critic` names the frozen critic."""
        module = unwrapped(self.modules[critic])
        with frozen(module):
            scores = module(fake).float()
        return losses.adversarial.generator_loss(scores, self.config.distance)

    def patch_scale(self, image: Tensor) -> float:
        """Return a divisor that makes the loss independent of the patch size.

        The Wasserstein distance is based on the Euclidean distance between patches,
        which grows with the square root of their number of voxels. Dividing the
        distance by this root expresses it in standard deviations of the grey values for
        any patch size. The other distances do not depend on the patch size.
        """
        if self.config.distance != "wasserstein":
            return 1.0
        return math.sqrt(image[0].numel())


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside the wrapper that is used with several processes."""
    inner: nn.Module = getattr(module, "module", module)
    return inner


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Freeze the weights of `module`; gradients still pass through it."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def merge_samples(draws: Sequence[Arrays]) -> Arrays:
    """Merge samples; the names of all but the first are numbered: ``"1 source"``, …."""
    merged = dict(draws[0])
    for i, sample in enumerate(draws[1:], start=1):
        merged |= {f"{i} {role}": array for role, array in sample.items()}
    return merged


def select_sample(batch: Batch, i: int) -> Batch:
    """Return the i-th of the samples that `merge_samples` merged."""
    if i == 0:
        return {k: v for k, v in batch.items() if not k[0].isdigit()}
    prefix = f"{i} "
    return {k.removeprefix(prefix): v for k, v in batch.items() if k.startswith(prefix)}
