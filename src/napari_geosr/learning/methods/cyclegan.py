"""CycleGAN: learn to translate one kind of image into another, without pairs.

There are two generators, one for each direction, and two critics. An image that is
translated to the other kind and back must be unchanged, and an image that is already of
the right kind must not change [1]_. With an upscale factor, the backward generator
makes voxels larger, and block means of the forward generator's output must equal the
input: this fixes the geometry, as pairs would otherwise do.

In 2.5D the forward generator takes adjacent slices. The backward generator works slice
by slice, so that the cycle from the target has all slices that the forward generator
needs.

The paper uses the least-squares distance with weights 1, 10 and 5, a learning rate of
2e-4 and single images. These settings fail here: the generators start as the identity,
which minimises the cycle and identity losses, and the critics learn to detect noise
within a few hundred steps. The critics then dominate (their loss falls to 0.01, whereas
the generators' loss stays at 0.99, where 1 is the maximum), and their gradient
vanishes. The gradient of the Wasserstein distance persists however different the images
are [2]_. Because removed noise cannot be recovered, the cycle loss must have a smaller
weight than the critics. For slices of a foam with noise, the PSNR rose from 9.1 dB to
14.4 dB in 600 steps with a network of 15 000 weights; with least squares it stayed at
9.1 dB. A learning rate of 2e-3 suits such lightweight networks better: 16.3 dB after
324 steps, compared with 13 dB for 5e-4. The current defaults give 16.5 dB after 200
steps in 2.5D (two minutes on one core).

References
----------
.. [1] Zhu et al. Unpaired image-to-image translation using cycle-consistent adversarial
   networks. ICCV (2017). doi:10.1109/ICCV.2017.244
.. [2] Gulrajani et al. Improved training of Wasserstein GANs. NeurIPS (2017).
   arXiv:1704.00028
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import Field

from napari_geosr import learning
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.learning.adversarial import Distance
from napari_geosr.learning.architecture import network_kwargs
from napari_geosr.learning.config import Files, TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses, Updater
from napari_geosr.learning.running_statistics import frozen_statistics
from napari_geosr.learning.translation import (
    TranslationConfig,
    TranslationMethod,
    coarser,
    finer,
    middle,
)
from napari_geosr.networks import build_network

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Translate images"
NEEDS = "two unpaired sets of volumes, from different objects of the same kind"
CRITICS = ("critic_target", "critic_source")


class Config(TranslationConfig):
    """Settings of CycleGAN."""

    target: Files = Field(
        (),
        title="Target",
        description="Unpaired target volumes: of the kind into which the sources are "
        "to be translated, showing different objects, in any order.",
    )

    batch_size: int = Field(
        4,
        ge=1,
        le=1024,
        title="Batch",
        description="Number of patches per training step.",
    )
    distance: Distance = Field(
        "wasserstein",
        title="Distance",
        description="Distance between real and generated images. wasserstein uses a "
        "gradient penalty; least-squares is the distance used in the original paper.",
    )
    adversarial_weight: float = Field(
        1.0,
        ge=0,
        title="Adversarial weight",
        description="Weight of the adversarial loss.",
    )
    cycle_weight: float = Field(
        0.3,
        ge=0,
        title="Cycle weight",
        description="Weight of the cycle loss: an image that is translated to the "
        "other set and back must be unchanged.",
    )
    identity_weight: float = Field(
        0.5,
        ge=0,
        title="Identity weight",
        description="Weight of the identity loss: images that already belong to the "
        "target set must not change.",
    )
    consistency_weight: float = Field(
        1.0,
        ge=0,
        title="Consistency weight",
        description="Weight of the consistency loss: the output, averaged over each "
        "voxel of the input, must match the input. Used only with an upscale factor.",
    )
    pool_size: int = Field(
        50,
        ge=0,
        le=500,
        title="Image pool",
        description="Number of previously generated images that are kept and shown to "
        "the critics again.",
    )


class Method(TranslationMethod):
    """Forward ("network") and backward ("backward") generators, and two critics."""

    paired = False
    loss_titles: Mapping[str, str] = {
        **TranslationMethod.loss_titles,
        "cycle": "cycle loss",
        "identity": "identity loss",
        "consistency": "consistency loss",
        "critic_target": "target critic loss",
        "critic_target penalty": "target grad. penalty",
        "critic_source": "source critic loss",
        "critic_source penalty": "source grad. penalty",
    }
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.pools = {
            name: learning.image_pool.ImagePool(self.config.pool_size)
            for name in CRITICS
        }

    def build(self) -> dict[str, nn.Module]:
        """Build two generators and two critics."""
        config = self.config
        critics = {
            name: learning.critics.PatchCritic(config.ndim, 1, config.critic_width)
            for name in CRITICS
        }
        return {**super().build(), "backward": self._backward(), **critics}

    def _backward(self) -> nn.Module:
        """Return the backward generator on the source's grid; in 2.5D, a 2D network."""
        from torch import nn

        config, factor = self.config, self.upscale_factor
        flat: AnyDict = {"upscale_factor": 1}
        if config.dimensions == "2.5D":
            flat["dimensions"] = "2D"
        if factor > 1:
            # The super-resolution network may not support a factor of 1.
            flat |= {"network": "resnet", "network_options": {}}
            flat |= {"layers": None, "width": None}
        kwargs = network_kwargs(config.model_copy(update=flat))
        network = build_network(str(flat.get("network", config.network)), **kwargs)
        if factor == 1:
            return network
        pool = nn.AvgPool3d if config.ndim == 3 else nn.AvgPool2d
        return nn.Sequential(pool(factor), network)

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Use one optimiser for both generators, and one for both critics."""
        return {"generators": ("network", "backward"), "critics": CRITICS}

    def state(self) -> AnyDict:
        """Return the pooled images for the critics."""
        return {name: pool.state() for name, pool in self.pools.items()}

    def restore_state(self, state: AnyMapping) -> None:
        """Load the pooled images returned by `state`."""
        for name, pool in self.pools.items():
            pool.restore(state[name])

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a patch of a source and an unrelated patch of a target."""
        return patches.draw(rng, ("source",)) | patches.draw(rng, ("target",))

    def forward(self, source: Tensor) -> Tensor:
        """Translate source (N, C, …) to target (N, 1, …)."""
        generated: Tensor = self.modules["network"](source)
        return generated

    def backward(self, target: Tensor) -> Tensor:
        """Translate target (N, C, …) to source (N, C, …), each channel separately."""
        single = target.flatten(0, 1).unsqueeze(1)
        generated: Tensor = self.modules["backward"](single)
        return generated.reshape(*target.shape[:2], *generated.shape[2:])

    @contextmanager
    def _frozen_statistics(self) -> Iterator[None]:
        """Keep the generators' running statistics fixed for images of another kind."""
        with (
            frozen_statistics(self.modules["network"]),
            frozen_statistics(self.modules["backward"]),
        ):
            yield

    def cycles(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cycle loss of both images, and the generated images.

        Returns
        -------
        cycle : Tensor
        generated : dict of str to Tensor
            For each critic, the generated image (N, 1, …) that it judges.
        """
        source, target = batch["source"], batch["target"]
        to_target = self.forward(source)
        to_source = self.backward(target)
        with self._frozen_statistics():
            source_cycle = (self.backward(to_target) - middle(source)).abs().mean()
            target_cycle = (self.forward(to_source) - middle(target)).abs().mean()
        generated = {"critic_target": to_target, "critic_source": middle(to_source)}
        return source_cycle + target_cycle, generated

    def identity(self, batch: Batch) -> Tensor:
        """Return the identity loss: the change of images already of the right kind."""
        source, target = batch["source"], batch["target"]
        factor = self.upscale_factor
        with self._frozen_statistics():
            target_change = self.forward(coarser(target, factor)) - middle(target)
            source_change = self.backward(finer(middle(source), factor)) - middle(
                source
            )
        return target_change.abs().mean() + source_change.abs().mean()

    def generator_loss(self, batch: Batch) -> tuple[Tensor, Losses, dict[str, Tensor]]:
        """Return the loss of both generators, its parts, and images for the critics."""
        config = self.config
        cycle, generated = self.cycles(batch)
        adversarial = sum(
            (
                self.adversarial_loss(n, generated[n]) / self.patch_scale(generated[n])
                for n in CRITICS
            ),
            start=cycle.new_zeros(()),
        )
        total = config.cycle_weight * cycle + config.adversarial_weight * adversarial
        losses = {"cycle": cycle, "adversarial": adversarial}
        if config.identity_weight:
            losses["identity"] = self.identity(batch)
            total = total + config.identity_weight * losses["identity"]
        if self.upscale_factor > 1 and config.consistency_weight:
            means = coarser(generated["critic_target"], self.upscale_factor)
            losses["consistency"] = (means - middle(batch["source"])).abs().mean()
            total = total + config.consistency_weight * losses["consistency"]
        return total, losses, generated

    def critics_loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the loss of both critics on real and generated (or pooled) images."""
        of_target, losses = self.critic_terms(
            "critic_target", middle(batch["target"]), batch["critic_target"]
        )
        of_source, more = self.critic_terms(
            "critic_source", middle(batch["source"]), batch["critic_source"]
        )
        return of_target + of_source, losses | more

    def train_step(self, loop: Updater, batches: Sequence[Batch]) -> dict[str, float]:
        """Update the generators, then the critics on the generated images."""
        import torch

        generated: dict[int, dict[str, Tensor]] = {}
        numbered = _numbered(batches)

        def generators(batch: Batch) -> tuple[Tensor, Losses]:
            loss, losses, images = self.generator_loss(batch)
            # Store images by sample number: batches may be split when memory runs out.
            for i, number in enumerate(batch["number"].tolist()):
                generated[number] = {
                    k: image[i].detach() for k, image in images.items()
                }
            return loss, losses

        losses = loop.update("generators", numbered, generators)
        # The pools change only at the end, so that a failed step leaves them unchanged.
        pools = {name: pool.copy() for name, pool in self.pools.items()}
        critic_batches = []
        for batch in numbered:
            images = [generated[number] for number in batch["number"].tolist()]
            new = {name: torch.stack([m[name] for m in images]) for name in pools}
            given = {name: pools[name].exchange(image) for name, image in new.items()}
            critic_batches.append(batch | given)
        losses |= loop.update("critics", critic_batches, self.critics_loss)
        self.pools = pools
        return losses

    def validate(self, batch: Batch) -> dict[str, float]:
        """Return the cycle loss, which needs neither pairs nor a critic."""
        cycle, _ = self.cycles(batch)
        return {"cycle": float(cycle)}


def _numbered(batches: Sequence[Batch]) -> list[Batch]:
    """Return batches with the ``"number"`` of each sample, counted over all batches."""
    import torch

    numbered, first = [], 0
    for batch in batches:
        last = first + len(batch["source"])
        numbered.append(batch | {"number": torch.arange(first, last)})
        first = last
    return numbered
