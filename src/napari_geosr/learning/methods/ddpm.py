"""DDPM: learn the distribution of images of a modality, without labels.

The network receives images with known amounts of added noise and learns to separate the
noise from the image [1]_. The model generates new images, and is a starting point for
training with few labels (`napari_geosr.learning.methods.ptdr`).

References
----------
.. [1] Ho et al. Denoising diffusion probabilistic models. NeurIPS (2020).
   arXiv:2006.11239
.. [2] Hang et al. Efficient diffusion training via min-SNR weighting strategy. ICCV
   (2023). arXiv:2303.09556
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.learning import diffusion
from napari_geosr.learning.architecture import (
    format_alternatives,
    network_fields,
    network_kwargs,
    networks_supporting,
)
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.diffusion.condition import (
    PatchPorosity,
    find_patch_porosity,
)
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.method import Method as _Method

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.learning.diffusion.schedule import Schedule
    from napari_geosr.learning.sampling.patches import Patches
    from napari_geosr.models.bundle import Model

PURPOSE = "Generate images"
NEEDS = "unlabelled images or volumes of one modality"

#: Fraction of the training patches for which the network is not given the porosity.
_WITHHELD = 0.1
#: Size of the training data, in non-overlapping patches, below which there is a
#: warning. In a short test, a model of 8 images the size of a patch copied them, and a
#: model of 16 did not; longer training needs more.
_FEW_PATCHES = 20
#: Number of time steps in the noise schedule.
_TIMES = 1000
#: Time steps at which the predicted noise is evaluated, evenly spaced.
_EVALUATED = range(_TIMES // 16, _TIMES, _TIMES // 8)


class Config(TrainingConfig):
    """Settings of a diffusion model."""

    unused_settings: ClassVar[frozenset[str]] = frozenset({"target"})

    network_settings: ClassVar[frozenset[str]] = frozenset(
        {"noise_schedule", "prediction", "zero_terminal", "condition"}
    )

    network: str = Field(
        "diffusion_unet",
        title="Network",
        description="Network architecture: diffusion_unet, which receives the noise "
        "level as input.",
    )
    dimensions: Literal["2D", "2.5D", "3D"] = Field(
        "2D",
        title="Dimensions",
        description="2D: one slice at a time; 2.5D: each slice together with its "
        "neighbours; 3D: blocks of the volume.",
    )
    learning_rate: float = Field(
        5e-4,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate (Adam).",
    )
    sampling: Literal["uniform", "structure"] = Field(
        "uniform",
        title="Sampling",
        description="Where patches are taken. uniform: everywhere; structure: more "
        "often in regions with structure; the model then generates too much "
        "structure.",
    )
    noise_schedule: Literal["linear", "cosine"] = Field(
        "cosine",
        title="Noise schedule",
        description="How the amount of noise grows over the 1000 time steps: linear or "
        "cosine.",
    )
    prediction: Literal["noise", "velocity", "image"] = Field(
        "velocity",
        title="Prediction",
        description="What the network predicts: the noise, the image, or the velocity, "
        "a mixture of noise and image that is accurate at all time steps.",
    )
    zero_terminal: bool = Field(
        False,
        title="Pure noise at the end",
        description="Make the last time step pure noise, without any trace of the "
        "image; not possible if the network predicts the noise.",
    )

    condition: Literal["none", "porosity"] = Field(
        "none",
        title="Condition",
        description="Property that can be chosen when images are generated. porosity: "
        "the network is given the porosity of each training patch, at Otsu's "
        "threshold.",
    )
    phase: Literal["dark", "bright"] = Field(
        "dark",
        title="Pores",
        description="Whether pores are darker (dark) or brighter (bright) than the "
        "threshold; used if the condition is porosity.",
    )


class Method(_Method):
    """Trains a network to separate patches from added noise."""

    task: Literal["denoise", "translate", "generate"] = "generate"
    loss_titles: Mapping[str, str] = {"noise error": "predicted noise"}
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        #: Measures the porosity of patches; None if the network is not given the
        #: porosity.
        self.porosity: PatchPorosity | None = None

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check that network, normalisation and options suit a diffusion model."""
        super().check(config)
        assert isinstance(config, Config)
        if "noise_schedule" not in network_fields(config.network):
            networks = networks_supporting(
                lambda name: "noise_schedule" in network_fields(name)
            )
            raise ConfigError(
                f"The network {config.network!r} does not receive the noise level as "
                f"input: choose {format_alternatives(networks)}."
            )
        if config.normalisation != "stored":
            raise ConfigError(
                "A diffusion model has no input image that would define the grey "
                "scale: set normalisation to stored."
            )
        if config.network_options.get("residual"):
            raise ConfigError(
                "The input cannot be added to predicted noise: remove residual from "
                "the network's options."
            )
        cls(config).schedule()

    def network_kwargs(self) -> AnyDict:
        """Return the settings of the network, with the noise schedule."""
        schedule = self.config.model_dump(include=set(self.config.network_settings))
        return network_kwargs(self.config, **schedule)

    def schedule(self) -> Schedule:
        """Return the noise schedule."""
        config = self.config
        return diffusion.schedule.Schedule(
            config.noise_schedule,
            config.prediction,
            _TIMES,
            zero_terminal=config.zero_terminal,
        )

    def intended_use(self) -> str:
        """Return the intended use, for the card."""
        return (
            "Pre-training for segmentation with few labels, and generating images that "
            "resemble the training data (they are not measurements)."
        )

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a patch, a time step and noise."""
        drawn = patches.draw(rng, ("source",))
        noise = np.asarray(rng.standard_normal(drawn["source"].shape, np.float32))
        time = np.array(rng.integers(_TIMES), np.int64)
        batch = {"source": drawn["source"], "noise": noise, "time": time}
        if self.porosity is not None:
            is_given = patches.validation or rng.random() >= _WITHHELD
            porosity = self.porosity(drawn["source"]) if is_given else np.nan
            batch["porosity"] = np.array(porosity, np.float32)
        return batch

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the squared error of the output, weighted by min-SNR [2]_."""
        schedule, time = self.schedule(), batch["time"]
        x0, noise = batch["source"], batch["noise"]
        noised = schedule.noised(x0, noise, time)
        output = self._network_output(noised, time, batch.get("porosity"))
        squares = (output - _centre(schedule.target(x0, noise, time))).square()
        weight = schedule.weight(time).to(squares.device, squares.dtype)
        error = (weight * squares.flatten(1).mean(dim=1)).mean()
        return error, {"loss": error}

    def validate(self, batch: Batch) -> dict[str, float]:
        """Return the mean squared error of predicted noise at eight noise levels."""
        schedule = self.schedule()

        def predicted(x: Tensor, time: Tensor) -> Tensor:
            output = self._network_output(x, time, batch.get("porosity"))
            return schedule.parts(_centre(x), output, time)[1]

        return {"noise error": self.noise_error(batch, predicted)}

    def noise_error(
        self, batch: Batch, predicted: Callable[[Tensor, Tensor], Tensor]
    ) -> float:
        """Return the mean squared error of the noise that `predicted` computes."""
        schedule, time = self.schedule(), batch["time"]
        x0, noise = batch["source"], batch["noise"]
        errors = []
        for now in _EVALUATED:
            then = time.new_full(time.shape, now)
            found = predicted(schedule.noised(x0, noise, then), then)
            errors.append(float((found - _centre(noise)).square().mean()))
        return float(np.mean(errors))

    def linear_error(self, batch: Batch) -> float:
        """Return the mean squared error of the best prediction from a single voxel.

        For independent voxels of unit variance, this prediction is x times the
        amplitude of the noise.
        """
        schedule = self.schedule()
        return self.noise_error(
            batch, lambda x, time: _centre(x) * schedule.shares(time, x)[1]
        )

    def _network_output(
        self, x: Tensor, time: Tensor, porosity: Tensor | None = None
    ) -> Tensor:
        network: Any = self.modules[self.result]
        output: Tensor = (
            network.output(x, time)
            if porosity is None
            else network.output(x, time, porosity)
        )
        return output.float()

    def prepare(self, patches: Patches) -> None:
        """Find the threshold of the pores, if the network is given the porosity."""
        super().prepare(patches)
        if self.config.condition == "porosity":
            self.porosity = find_patch_porosity(patches, self.config.phase)

    def remarks(self, patches: Patches) -> list[str]:
        """Warn if there is too little data to learn what images have in common."""
        n = patches.size_in_patches()
        if n >= _FEW_PATCHES:
            return []
        edges = " × ".join(map(str, patches.edge))
        size = "1 patch" if n == 1 else f"{n} patches"
        return [
            f"There is very little training data, only as much as {size} of {edges} "
            f"voxels. With fewer than {_FEW_PATCHES} patches, the model may reproduce "
            "its training images instead of learning what images of this kind have in "
            "common. Train on more or larger images."
        ]

    def card_fields(self) -> AnyDict:
        """Return the threshold and the range of the porosity, for the card."""
        if self.porosity is None:
            return {}
        return {"porosity_condition": self.porosity.condition}

    def starting_weights(self, model: Model) -> dict[str, Tensor]:
        """Return the state dict of another diffusion model."""
        if model.card.task != "generate":
            raise ConfigError(
                f"{model.card.name} is not a diffusion model: start from a model "
                "trained with ddpm, or from scratch."
            )
        return super().starting_weights(model)


def _centre(x: Tensor) -> Tensor:
    """Return the middle slice of each patch."""
    middle = x.shape[1] // 2
    return x[:, middle : middle + 1]
