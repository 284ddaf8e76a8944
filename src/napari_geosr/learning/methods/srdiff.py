"""SRDiff: learn the possible high-quality images of a scan, from pairs of scans.

The network learns the distribution of the difference between an enlarged low-quality
scan and the high-quality scan of the same object [1]_. The model returns the mean
image; `napari_geosr.inference.members.diffusion` draws samples, which are as sharp as
the high-quality scans and differ where the low-quality scan does not determine the
object. Without an upscale factor, the model denoises.

References
----------
.. [1] Li et al. SRDiff: single image super-resolution with diffusion probabilistic
   models. Neurocomputing 479, 47-59 (2022). arXiv:2104.14951
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.learning import diffusion
from napari_geosr.learning.architecture import (
    format_alternatives,
    network_fields,
    networks_supporting,
)
from napari_geosr.learning.config import Files, TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.method import Method as _Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_geosr.learning.diffusion.schedule import Schedule
    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Super-resolve or denoise with samples"
NEEDS = "aligned pairs of a low-quality and a high-quality scan of the same object"

#: Number of time steps in the noise schedule.
_TIMES = 1000
#: Fraction of the training patches at the last time step, where the network learns the
#: mean image.
_AT_LAST_TIME = 0.125
#: Time steps at which the network is validated.
_VALIDATED = (*range(_TIMES // 16, _TIMES, _TIMES // 8), _TIMES - 1)
#: Number of pairs of patches from which the standard deviation of the residuals is
#: measured.
_PAIRS = 64
#: Last entry of the random seed of these patches.
_SEED_KEY = 21


class Config(TrainingConfig):
    """Settings of SRDiff."""

    target: Files = Field(
        (),
        title="Target",
        description="High-quality or high-resolution scan of the object in each "
        "source, in the same order.",
    )
    network: str = Field(
        "residual_diffusion",
        title="Network",
        description="Network architecture: residual_diffusion, which receives the scan "
        "and a noisy residual.",
    )
    dimensions: Literal["2D", "3D"] = Field(
        "2D",
        title="Dimensions",
        description="2D: one slice at a time; 3D: blocks of the volume.",
    )
    upscale_factor: Literal[1, 2, 4, 8] | None = Field(
        None,
        title="Upscale factor",
        description="Voxels of the target per voxel of the source, along each axis "
        "(2D: Y and X only).",
    )
    learning_rate: float = Field(
        1e-3,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate (Adam).",
    )


class Method(_Method):
    """Separates added noise from the differences between the scans of pairs."""

    roles = ("source", "target")
    output_role = "target"
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.upscale_factor = int(self.network_kwargs().get("upscale_factor", 1))
        #: Standard deviation of the residuals, on the network's grey scale.
        self.scale = 1.0
        #: RMS difference between sources and block means of targets, in standard
        #: deviations of the sources.
        self.misfit = 0.0

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check that the network is a diffusion model that is given the scan."""
        super().check(config)
        if "residual_schedule" not in network_fields(config.network):
            networks = networks_supporting(
                lambda name: "residual_schedule" in network_fields(name)
            )
            raise ConfigError(
                f"The network {config.network!r} is not a diffusion model that "
                f"receives a scan: choose {format_alternatives(networks)}."
            )

    def prepare(self, patches: Patches) -> None:
        """Measure the RMS differences between sources and targets of training pairs."""
        import torch

        super().prepare(patches)
        network = self._network(super().build())
        low, high = (patches.grey[role] for role in self.roles)
        squares, misfits = [], []
        for i in range(_PAIRS):
            rng = np.random.default_rng([self.config.seed, i, _SEED_KEY])
            drawn = patches.draw(rng, self.roles)
            source, target = (
                torch.from_numpy(drawn[role].copy()[None]) for role in self.roles
            )
            squares.append(float((target - network.enlarge(source)).square().mean()))
            means = diffusion.posterior.block_means(target, self.upscale_factor)
            seen = (means * high.std + (high.mean - low.mean)) / low.std
            misfits.append(float((source - seen).square().mean()))
        self.scale = max(float(np.sqrt(np.mean(squares))), 1e-6)
        self.misfit = float(np.sqrt(np.mean(misfits)))

    def build(self) -> dict[str, nn.Module]:
        """Create the network for residuals of the measured standard deviation."""
        modules = super().build()
        network = self._network(modules)
        network.scale.fill_(self.scale)
        network.misfit.fill_(self.misfit)
        return modules

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a pair of patches, a time step and noise."""
        drawn = patches.draw(rng, self.roles)
        noise = np.asarray(rng.standard_normal(drawn["target"].shape, np.float32))
        is_last = rng.random() < _AT_LAST_TIME
        time = _TIMES - 1 if is_last else int(rng.integers(_TIMES))
        return {**drawn, "noise": noise, "time": np.array(time, np.int64)}

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the mean squared error of the velocity of the scaled residual."""
        error = self._error(batch, batch["time"])
        return error, {"loss": error}

    def validate(self, batch: Batch) -> dict[str, float]:
        """Return the mean loss at time steps from all parts of the noise schedule."""
        like = batch["time"]
        errors = [self._error(batch, like.new_full(like.shape, t)) for t in _VALIDATED]
        return {"loss": float(np.mean([float(error) for error in errors]))}

    def card_fields(self) -> AnyDict:
        """Return the entry for the card that states that samples can be drawn."""
        return {"gives_samples": True}

    def _error(self, batch: Batch, time: Tensor) -> Tensor:
        network = self._network(self.modules)
        schedule = self._schedule()
        enlarged, noise = network.enlarge(batch["source"]), batch["noise"]
        residual = (batch["target"] - enlarged) / network.scale
        noised = schedule.noised(residual, noise, time)
        output = network.output(noised, time, enlarged).float()
        error: Tensor = (
            (output - schedule.target(residual, noise, time)).square().mean()
        )
        return error

    def _schedule(self) -> Schedule:
        return diffusion.sampling.schedule_of(self.modules[self.result])

    def _network(self, modules: dict[str, nn.Module]) -> Any:
        return modules[self.result]
