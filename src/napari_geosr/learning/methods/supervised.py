"""Supervised: learn from pairs of a poor scan and the good one it should become.

The target has less noise, more projections or finer voxels. With a network that
upscales (``light_sr``) its voxels are 2 or 4 times finer along every axis that the
network works on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.architecture import network_kwargs
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.method import Batch, Losses
from napari_geosr.learning.method import Method as _Method

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = "pairs of a poor scan and a good one of the same object, in the same place"


class Config(TrainingConfig):
    """Settings of supervised learning."""

    loss: Literal["l2", "l1", "huber", "ssim", "gradient"] = Field(
        "l2",
        title="Loss",
        description="What is made small: l2 (best PSNR), l1 or huber (outliers count "
        "less), ssim (structure), gradient (edges).",
    )
    dilations: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Dilations",
        description="Number of dilations of an msdnet: 1, 2, … n, repeated over its "
        "layers; by default its own.",
    )
    upscale_factor: Literal[1, 2, 4] | None = Field(
        None,
        title="Upscale factor",
        description="Voxels of the target per voxel of the source along an axis; more "
        "than 1 needs a network that upscales (light_sr).",
    )


class Method(_Method):
    """Bring the output near the target, by a loss of choice."""

    roles = ("source", "target")
    output_role = "target"
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.upscale_factor = int(self.network_kwargs().get("upscale_factor", 1))

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Beside the data: settings that the network does not take."""
        super().check(config)
        assert isinstance(config, Config)
        if config.dilations is not None:
            if config.network != "msdnet":
                raise ConfigError(
                    f"Dilations are a setting of msdnet; {config.network} has none. "
                    "Leave --dilations out."
                )
            if "dilations" in config.network_options:
                raise ConfigError(
                    "Dilations are given twice: as a number and among the network's "
                    "options. Leave one out."
                )
        upscales = config.network == "light_sr"
        if (config.upscale_factor or 1) > 1 and config.network in ("msdnet", "unet"):
            raise ConfigError(
                f"{config.network} keeps the voxels as they are: for targets "
                f"{config.upscale_factor} times finer set --network light_sr."
            )
        if upscales and config.upscale_factor == 1:
            raise ConfigError(
                "light_sr makes voxels 2 or 4 times finer: set --upscale-factor to 2 "
                "or 4, or choose another network."
            )
        if upscales and config.dimensions == "2.5D":
            raise ConfigError(
                "light_sr sees no adjacent slices: set --dimensions to 3D, with "
                "targets finer along Z, Y and X, or to 2D, with targets finer along "
                "Y and X."
            )

    def network_kwargs(self) -> dict[str, Any]:
        """Settings of the network, with the number of dilations and the factor."""
        more: dict[str, Any] = {}
        if self.config.dilations is not None:
            more["dilations"] = tuple(range(1, self.config.dilations + 1))
        if (self.config.upscale_factor or 1) > 1:
            more["upscale_factor"] = self.config.upscale_factor
        return network_kwargs(self.config, **more)

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """The chosen loss; see `napari_geosr.learning.losses.pixel`."""
        from napari_geosr.learning.losses.pixel import LOSSES

        output = self.modules["network"](batch["source"])
        error = LOSSES[self.config.loss](output, batch["target"])
        return error, {"loss": error}
