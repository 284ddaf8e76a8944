"""Supervised: learn from pairs of a low-quality and a high-quality scan.

The target has less noise or smaller voxels, or was reconstructed from more projections.
With a super-resolution network such as ``light_sr``, the target's voxels are 2, 4 or 8
times smaller along every axis on which the network works: Z, Y and X in 3D; Y and X in
2D and 2.5D, where the distance between slices is unchanged. If the target is a label
image, the model learns segmentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.types import AnyDict
from napari_geosr.learning import losses
from napari_geosr.learning.architecture import (
    format_alternatives,
    network_fields,
    network_kwargs,
    networks_supporting,
)
from napari_geosr.learning.config import Files, TrainingConfig
from napari_geosr.learning.labels import check_labels, invalid_label
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.target_loss import (
    TargetLossConfig,
    TargetLossMethod,
    check_no_geometry_losses,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Denoise, super-resolve or segment"
NEEDS = (
    "aligned pairs of a low-quality and a high-quality scan, or of a scan and its "
    "labels"
)


class Config(TargetLossConfig):
    """Settings of supervised learning."""

    target: Files = Field(
        (),
        title="Target",
        description="High-quality or high-resolution scan, or labels, of the object in "
        "each source, in the same order.",
    )

    labels: Annotated[int, Parameter(name=["--n-labels", "--labels"])] = Field(
        1,
        ge=1,
        le=256,
        title="Labels",
        description="Number of labels to learn, numbered 0, 1, 2 and so on in the "
        "target (such as pore, solid, grain); the model outputs the most likely label "
        "of each voxel. 1: learn grey values.",
    )
    dilations: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Dilations",
        description="Number n of dilations of an msdnet: its layers use dilations of "
        "1, 2, … n in turn. The default depends on the network.",
    )
    upscale_factor: Literal[1, 2, 4, 8] | None = Field(
        None,
        title="Upscale factor",
        description="Voxels of the target per voxel of the source, along each axis "
        "(2D and 2.5D: Y and X only). Values above 1 require a network for "
        "super-resolution, such as light_sr.",
    )


class Method(TargetLossMethod):
    """Minimises the chosen losses between output and target."""

    roles = ("source", "target")
    output_role = "target"
    fits_last_layer = True
    denoises = ("source",)
    loss_titles: Mapping[str, str] = {"missed overlap": "1 − mean Dice"}
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.upscale_factor = int(self.network_kwargs().get("upscale_factor", 1))
        self.labels = self.config.labels

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check the dilations, label settings and comparison boxes."""
        super().check(config)
        assert isinstance(config, Config)
        if config.dilations is not None:
            if "dilations" not in network_fields(config.network):
                networks = networks_supporting(
                    lambda name: "dilations" in network_fields(name)
                )
                raise ConfigError(
                    f"Dilations are a setting of {format_alternatives(networks)}; "
                    f"{config.network} has none. Remove --dilations."
                )
            if "dilations" in config.network_options:
                raise ConfigError(
                    "Dilations are given twice: as a number and in the network's "
                    "options. Remove one."
                )
        if config.labels > 1:
            _check_label_settings(config)
        cls(config).check_window()

    def network_kwargs(self) -> AnyDict:
        """Return the network's settings, with its dilations and number of labels."""
        more: AnyDict = {}
        if self.config.dilations is not None:
            more["dilations"] = tuple(range(1, self.config.dilations + 1))
        if self.config.labels > 1:
            more |= {"out_channels": self.config.labels, "residual": False}
        return network_kwargs(self.config, **more)

    def inspect(self, volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
        """Warn about labels that do not occur and losses that do not apply."""
        if self.labels == 1:
            return super().inspect(volumes)
        warnings = check_labels(volumes["target"], self.labels)
        if self.config.loss != Config.model_fields["loss"].default:
            warnings.append(
                f"The loss {self.config.loss} does not apply: labels are learned by "
                "cross-entropy."
            )
        return warnings

    def intended_use(self) -> str:
        """Return the intended use, for the card, with the labels, if any."""
        text = super().intended_use()
        if self.labels > 1:
            numbers = f"0 … {self.labels - 1}"
            text += (
                f" Its output is a label image with the labels {numbers} of the "
                "training data."
            )
        return text

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a pair; check that a label target contains only labels."""
        drawn = super().draw(patches, rng)
        if self.labels > 1 and (invalid := invalid_label(drawn["target"], self.labels)):
            raise VolumeError(
                f"A target contains {invalid}, which is not one of the {self.labels} "
                f"labels 0 … {self.labels - 1}. Correct the target, or change the "
                "number of labels."
            )
        return drawn

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the chosen losses, or cross-entropy for labels.

        See `napari_geosr.learning.losses.terms` and
        `napari_geosr.learning.losses.labels`.
        """
        if self.labels > 1:
            return self._label_loss(batch)
        output = self.output(batch)
        error, parts = self.target_loss(output, batch["target"])
        return error, {"loss": error, **parts}

    def _label_loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        import torch

        scores = self.output(batch)
        error = losses.labels.cross_entropy(scores, batch["target"])
        missed = self._dice_loss(scores.argmax(dim=1, keepdim=True), batch["target"])
        # The plot shows the first loss in the colour of the validation loss, 1 − Dice.
        return error, {"missed overlap": torch.tensor(missed), "loss": error}

    def _dice_loss(self, output: Tensor, target: Tensor) -> float:
        return 1 - losses.labels.mean_dice(output, target, self.labels)

    def validate(self, batch: Batch) -> dict[str, float]:
        """Return the full loss; for labels, 1 minus the mean Dice overlap."""
        output = self.output(batch)
        if self.labels == 1:
            error, _ = self.target_loss(output, batch["target"], progress=1)
            return {"loss": float(error)}
        return {"missed overlap": self._dice_loss(output, batch["target"])}


def _check_label_settings(config: Config) -> None:
    """Reject settings with which labels cannot be learned."""
    check_no_geometry_losses(config)
    if (config.upscale_factor or 1) > 1:
        raise ConfigError(
            "Labels share the voxel grid of the source: remove the upscale factor, or "
            "set the number of labels to 1."
        )
    if "out_channels" not in network_fields(config.network):
        networks = networks_supporting(
            lambda name: "out_channels" in network_fields(name)
        )
        raise ConfigError(
            f"The network {config.network!r} cannot predict labels: choose "
            f"{format_alternatives(networks)}, or set the number of labels to 1."
        )
    if config.network_options.get("residual"):
        raise ConfigError(
            "The input cannot be added to label scores: remove residual from the "
            "network's options."
        )
