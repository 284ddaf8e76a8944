"""Adapt: fine-tune a denoiser on the scan to restore.

No clean data are needed. With two scans of the object, one is predicted from the other
(Noise2Noise). With a single scan, either more noise of the same kind is added to it
(`napari_geosr.learning.recorruption`), or hidden voxels are predicted (Noise2Void); the
neighbours that share their noise are then hidden as well. Training ends when the
expected error on held-out blocks stops falling.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from cyclopts import Parameter
from pydantic import Field

from napari_geosr import networks
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.learning.config import Files, TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.method import Method as _Method
from napari_geosr.learning.recorruption import recorrupt
from napari_geosr.learning.sampling.blind_spots import BlindSpots
from napari_geosr.learning.statistics import GreyScale
from napari_geosr.models import zoo
from napari_geosr.models.names import MODEL_NAME
from napari_geosr.networks import needs_noise

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_geosr.core.noise import Noise
    from napari_geosr.learning.sampling.patches import Patches
    from napari_geosr.models.bundle import Model
    from napari_geosr.models.card import ModelCard

PURPOSE = "Denoise one scan"
NEEDS = "a trained denoiser and the noisy scan to restore"

LearningMode = Literal["noise2noise", "recorrupted", "noise2void"]

#: Correlation below which the noise of neighbouring voxels counts as independent.
INDEPENDENT = 0.1
#: Skewness above which noise is treated as photon noise at low counts.
SKEWED = 0.15
#: Number of neighbours hidden on either side, along axes of correlated noise.
_HIDDEN = 2
#: Fraction of a patch's voxels that are predicted at once.
_SHARE = 0.016


class Config(TrainingConfig):
    """Settings for adapting a model to a scan."""

    images_as_slices: ClassVar[bool] = True
    unused_settings: ClassVar[frozenset[str]] = frozenset({"normalisation"})

    from_model: Annotated[
        str | None, Parameter(name=("--model", "-m", "--from-model")), MODEL_NAME
    ] = Field(
        None, title="Model", description="Denoiser to adapt: its name or its path."
    )
    target: Annotated[Files, Parameter(name=("--second", "--target"))] = Field(
        (),
        title="Second scan",
        description="Second scan of the same object in the same position, or the "
        "reconstruction from the other half of the projections.",
    )
    how: Literal["auto", "noise2noise", "recorrupted", "noise2void"] = Field(
        "auto",
        title="Learning method",
        description="How the model learns. noise2noise: by predicting the second scan; "
        "recorrupted: by removing added noise like that of the scan; noise2void: "
        "by predicting hidden voxels; auto: chosen from the data.",
    )
    minutes: float = Field(
        2.5,
        gt=0,
        le=600,
        title="Time limit",
        description="Maximum training time, in minutes.",
    )
    always_write: bool = Field(
        False,
        title="Always write",
        description="Write the adapted model even if no gain is expected.",
    )
    steps: int = Field(
        400, ge=1, title="Steps", description="Maximum number of training steps."
    )
    learning_rate: float = Field(
        3e-4,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate (Adam).",
    )
    averaging: float = Field(
        0.99,
        ge=0,
        lt=1,
        title="Averaging",
        description="Decay of the moving average of the weights; the model uses the "
        "averaged weights.",
    )
    sampling: Literal["uniform", "structure"] = Field(
        "uniform",
        title="Sampling",
        description="Where patches are taken. uniform: everywhere; structure: more "
        "often in regions with structure.",
    )
    validation: float = Field(
        0.2,
        gt=0,
        le=0.5,
        title="Validation",
        description="Fraction of each volume held out, as one block, to estimate the "
        "error.",
    )
    normalisation: Literal["stored", "volume"] = Field(
        "volume",
        title="Normalisation",
        description="Not used: an adapted model keeps the normalisation of the "
        "original.",
    )


def choose(noise: Noise, *, has_second: bool) -> tuple[LearningMode, str]:
    """Choose how to learn from the scans, and return the reason as a sentence.

    Photon noise at low counts is skewed. Recorruption and Stein's estimate, which
    decides when to stop, both assume Gaussian noise and fail together: on real
    fluorescence images, a gain of 16 dB was predicted where 2 dB were lost.

    Parameters
    ----------
    noise : Noise
        Noise of the scan; of several scans, the most skewed noise.
    has_second : bool
        Whether there is another scan of the same object.

    Raises
    ------
    ConfigError
        If no method is valid: photon noise at low counts, correlated along every axis.
    """
    if has_second:
        return "noise2noise", (
            "Predicting each scan from the other (noise2noise), because their noise "
            "is independent."
        )
    if photon_skewness(noise) > SKEWED:
        hidden_neighbours(noise)  # raises an error if all neighbours would be hidden
        return "noise2void", (
            "Predicting hidden voxels (noise2void): there is only one scan, and its "
            "noise is photon noise at low counts, which grows with the grey value "
            "and is not Gaussian, whereas recorrupted requires Gaussian noise."
        )
    shown = ", ".join(f"{a.upper()} {r:.2f}" for a, r in noise.correlation.items())
    return "recorrupted", (
        "Training on the scan with added noise like its own (recorrupted): there "
        "is only one scan, and the level and correlation of its noise were measured "
        f"({100 * noise.relative:.1f} % of the contrast; correlation {shown})."
    )


def photon_skewness(noise: Noise) -> float:
    """Return the expected skewness of the noise if it is photon noise.

    For counts with the gain ``g``, the variance is ``g`` times the grey value above the
    offset, and the skewness is ``g / σ``.
    """
    if len(noise.greys) < 2 or not noise.level > 0:
        return 0.0
    slope = np.polyfit(noise.greys, np.square(noise.levels), 1)[0]
    return abs(float(slope)) / noise.level


def hidden_neighbours(noise: Noise) -> tuple[tuple[int, int, int], ...]:
    """Return the offsets (z, y, x) of the neighbours that share the noise of a voxel.

    Raises
    ------
    ConfigError
        If noise is correlated along every axis: all neighbours would be hidden.
    """
    along = [a for a in "zyx" if abs(noise.correlation.get(a, 0.0)) >= INDEPENDENT]
    if len(along) == len(noise.correlation):
        raise ConfigError(
            "The noise is correlated along every axis, so predicting hidden voxels "
            "would reproduce the noise: give a second scan (--second) or, if the "
            "noise does not depend on the grey value, set --how to recorrupted."
        )
    steps = [range(-_HIDDEN, _HIDDEN + 1) if a in along else (0,) for a in "zyx"]
    return tuple((z, y, x) for z, y, x in itertools.product(*steps) if z or y or x)


class Method(_Method):
    """Train a model further on noisy scans alone."""

    denoises: tuple[str, ...] = ("source",)
    stops_by_risk = True
    loss_titles: Mapping[str, str] = {"loss": "noisy target"}
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.how: LearningMode = "recorrupted"
        #: Sentence that explains the choice; empty until the choice is made.
        self.reason = ""
        self._blind_spots: BlindSpots | None = None
        self._card: ModelCard | None = None
        if config.target:
            self.roles = self.denoises = ("source", "target")
            self.noisy_target = True

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Perform the general checks, and check that there is a model to adapt."""
        assert isinstance(config, Config)
        if not config.from_model:
            raise ConfigError("Give the model to adapt (--model).")
        if config.target and len(config.source) != len(config.target):
            raise ConfigError(
                f"There are {len(config.source)} scans and {len(config.target)} "
                "second scans: give one second scan for each scan, in the same order."
            )
        if config.how == "noise2noise" and not config.target:
            raise ConfigError(
                "Noise2Noise needs another scan of the same object: give --second, or "
                "set --how to auto."
            )
        super().check(config.model_copy(update={"target": ()}))

    @property
    def card(self) -> ModelCard:
        """Card of the model to adapt."""
        if self._card is None:
            assert self.config.from_model is not None
            self._card = zoo.find(self.config.from_model).card
        return self._card

    @property
    def needs_noise(self) -> bool:
        return True

    @property
    def normalisation(self) -> Literal["stored", "volume"]:
        """Kind of normalisation of the model."""
        return "stored" if self.card.normalisation.kind == "stored" else "volume"

    def grey_scale(self) -> GreyScale | None:
        """Return the stored grey scale of the model, if it has one."""
        scale = self.card.normalisation
        if scale.mean is None or scale.std is None:
            return None
        return GreyScale(scale.mean, scale.std)

    def noise_bound(self) -> float | None:
        """Return the noise bound of the model."""
        return self.card.noise_bound

    def build(self) -> dict[str, nn.Module]:
        """Build the network; add the model's bound unless the network has its own."""
        modules, bound = super().build(), self.noise_bound()
        network = modules[self.result]
        if bound is not None and not needs_noise(network):
            modules[self.result] = networks.NoiseBound(network, bound)
        return modules

    def starting_weights(self, model: Model) -> AnyDict:
        """Return the weights of the model, including its noise bound."""
        return model.restorer().state_dict()

    def prepare(self, patches: Patches) -> None:
        """Choose how to learn, based on the scan with the most skewed noise."""
        super().prepare(patches)
        noises = [scene.noises["source"] for scene in patches.scenes]
        noise = max(noises, key=photon_skewness)
        if self.config.how == "auto":
            self.how, self.reason = choose(noise, has_second=bool(self.config.target))
        elif self.config.how == "recorrupted" and photon_skewness(noise) > SKEWED:
            raise ConfigError(
                "A scan has photon noise at low counts, which is not Gaussian, so "
                "recorrupted gives wrong results and a wrong estimate of the "
                "improvement: set --how to auto or noise2void."
            )
        else:
            self.how, self.reason = self.config.how, ""
        if self.how == "noise2void":
            hidden = (offset for each in noises for offset in hidden_neighbours(each))
            offsets = tuple(dict.fromkeys(hidden))
            share = _SHARE / max(1, len(offsets) // 4)
            self._blind_spots = BlindSpots(self.config.ndim, share, "uniform", offsets)

    def intended_use(self) -> str:
        """Return the intended use, for the card: the scans used for adaptation."""
        return (
            "The scans the model was adapted to, and others recorded in the same way."
        )

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw an input and a target with independent noise."""
        if self.how == "noise2noise":
            swapped = rng.random() < 0.5
            order = ("target", "source") if swapped else ("source", "target")
            drawn = patches.draw(rng, order, context_of=order[0])
            source, target = drawn.pop(order[0]), drawn.pop(order[1])
            return {"source": source, "target": target, **drawn}
        deep = self.config.ndim == 3
        # Y and X must not be exchanged: the hidden neighbours lie along fixed axes.
        exchange = self.how == "recorrupted"
        drawn = patches.draw(rng, ("source",), exchange=exchange, slices=not deep)
        if self.how == "recorrupted":
            return recorrupt(drawn, rng, deep=deep)
        return self._with_hidden(drawn, rng, deep)

    def _with_hidden(
        self, drawn: Arrays, rng: np.random.Generator, deep: bool
    ) -> Arrays:
        assert self._blind_spots is not None
        patch = drawn["source"]
        numbers = None if deep else drawn.pop("slices").ravel()
        hidden, chosen = self._blind_spots.hide(
            patch[0] if deep else patch, rng, numbers
        )
        middle = slice(patch.shape[0] // 2, patch.shape[0] // 2 + 1)
        mask = chosen.reshape(patch[middle].shape).astype(np.float32)
        source = hidden[None] if deep else hidden
        return drawn | {"source": source, "target": patch[middle], "mask": mask}

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the mean squared error, over hidden voxels only if there are any."""
        squares = (self.output(batch) - batch["target"]).square()
        if "mask" not in batch:
            error = squares.mean()
            return error, {"loss": error}
        mask = batch["mask"]
        each = (mask * squares).flatten(1).sum(1) / mask.flatten(1).sum(1)
        return each.mean(), {"loss": each.mean()}
