"""Settings and job description of GANrec.

This module does not import torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_geosr import learning
from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.operations.reconstruct.inputs import open_projections
from napari_geosr.operations.train.checks import check_country
from napari_geosr.operations.train.object_fit import ObjectFitConfig
from napari_geosr.operations.train.scans import ProjectionsConfig

OPERATION = "ganrec"
PURPOSE = "Reconstruct from few projections"
NEEDS = (
    "only the projections of one object, as few as 15; produces a volume, not a model"
)


class GanrecConfig(ObjectFitConfig, ProjectionsConfig):
    """Settings of GANrec."""

    name: str = Field(
        "ganrec",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        title="Name",
        description="File name of the volume: letters, digits, dots, - and _.",
    )
    every: int = Field(
        1,
        ge=1,
        title="Use every",
        description="Use only every n-th projection, as if fewer had been recorded.",
    )
    steps: int = Field(
        400,
        ge=1,
        le=1_000_000,
        title="Iterations",
        description="Number of training steps per block of slices. With too many "
        "steps, the network also reproduces the noise.",
    )
    together: int = Field(
        4,
        ge=1,
        le=256,
        title="Slices per network",
        description="Number of adjacent slices that one network fits at once.",
    )
    learning_rate: float = Field(
        2e-3,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate (Adam).",
    )
    smoothness: float = Field(
        0.15,
        ge=0,
        le=100,
        title="Smoothness",
        description="Weight of the total variation. Use a larger weight for noisy "
        "projections.",
    )
    details: float = Field(
        100.0,
        ge=0,
        le=1000,
        title="Details",
        description="Weight of errors in the fine detail of the projections.",
    )
    adversarial: float = Field(
        0.005,
        ge=0,
        le=100,
        title="Discriminator",
        description="Weight of the adversarial loss; 0 omits the discriminator.",
    )
    distance: Literal["jensen-shannon", "least-squares"] = Field(
        "jensen-shannon",
        title="Distance",
        description="Adversarial loss: jensen-shannon (binary cross-entropy) or "
        "least-squares.",
    )
    features: int = Field(
        16,
        ge=1,
        le=128,
        title="Width",
        description="Number of feature maps at the first level of the U-Net.",
    )
    levels: int = Field(
        2,
        ge=1,
        le=5,
        title="Levels",
        description="Number of times the U-Net halves the image size.",
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )
    threads: int | None = Field(
        None, ge=1, title="Threads", description="CPU threads; by default one per core."
    )

    def fit(self) -> learning.sinogram_fit.FitSettings:
        """Return the settings for fitting a block."""
        return learning.sinogram_fit.FitSettings(
            iterations=self.steps,
            learning_rate=self.learning_rate,
            smoothness=self.smoothness,
            details=self.details,
            adversarial=self.adversarial,
            distance=self.distance,
            features=self.features,
            levels=self.levels,
            seed=self.seed,
        )


class GanrecJob(Config):
    """Everything that a GANrec job needs to run, on this or another computer."""

    training: GanrecConfig

    @classmethod
    def from_values(cls, values: AnyMapping) -> GanrecJob:
        """Validate the contents of ``config.yaml``."""
        made = GanrecConfig.from_mapping(values.get("training") or {})
        return cls(training=made.with_absolute_paths())

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` can read."""
        return {
            "operation": OPERATION,
            "method": "ganrec",
            "training": self.training.model_dump(mode="json"),
        }

    def check(self) -> None:
        """Refuse invalid settings before a process is started.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        config = self.training
        check_country(config.country)
        if config.projections is None:
            raise ConfigError("Give the projections to reconstruct (--projections).")
        scan = open_projections(config.projections, config.reading())
        config.reconstruction(every=config.every)
        if scan.geometry == "cone":
            raise ConfigError(
                f"{scan.title} is a cone-beam scan: GANrec works slice by slice, which "
                "requires a parallel or fan beam. Use tv for few projections "
                "(napari-geosr reconstruct --algorithm tv)."
            )
