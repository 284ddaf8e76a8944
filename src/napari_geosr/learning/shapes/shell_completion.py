"""Complete closed shells, such as skulls, with a statistical shape model.

The model is computed from complete shells in one pass, without optimisation steps; this
takes a fraction of a second per shell. See `networks.sparse.shell_atlas`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from napari_geosr.core.errors import ConfigError, FileError, VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.shapes.data import (
    FittedMethod,
    ShapeConfig,
    ShapeSet,
    random_solid,
)
from napari_geosr.networks import sparse
from napari_geosr.networks.sparse._directions import direction_grid
from napari_geosr.networks.sparse._shells import (
    MIN_PRESENT,
    fit_ellipsoid,
    shell_maps,
    wall_share,
)
from napari_geosr.physics.shapes import sampled

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.networks.sparse.shell_atlas import ShellAtlas

PURPOSE = "Complete damaged shells"
NEEDS = "three or more intact shells in the same orientation, or simulated skulls"

#: Minimum number of shells.
_MIN_SHELLS = 3


class Config(ShapeConfig):
    """Settings of shell completion."""

    # The shapes are analysed in one pass, without gradient descent.
    unused_settings: ClassVar[frozenset[str]] = ShapeConfig.unused_settings | {
        "augment",
        "averaging",
        "batch_size",
        "channels",
        "checkpoint_seconds",
        "device",
        "final_rate",
        "from_model",
        "gradient_clip",
        "learning_rate",
        "precision",
        "steps",
        "validate_every",
        "warm_up",
    }

    network: str = Field("shell_atlas", title="Network", description="Kind of model.")
    number: int = Field(
        100,
        ge=_MIN_SHELLS,
        le=10_000,
        title="Shells",
        description="Number of simulated shells. If files are given, all of them are "
        "used.",
    )
    components: int = Field(
        16,
        ge=1,
        le=200,
        title="Components",
        description="Number of principal components; must be smaller than the number "
        "of shells.",
    )
    directions: int = Field(
        6000,
        ge=200,
        le=100_000,
        title="Directions",
        description="Number of directions in which shells are described.",
    )
    patch: int = Field(
        96,
        ge=32,
        le=512,
        title="Grid",
        description="Edge length of the simulated volumes in voxels.",
    )


class Method(FittedMethod):
    """Fits mean and principal components of complete shells."""

    config: Config

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Raise an error if a file is missing, or there are too few shells.

        A file pattern without matches would otherwise count as a single shell.
        """
        super().check(config)
        assert isinstance(config, Config)
        for path in config.source:
            if not path.exists() and not any(path.parent.glob(path.name)):
                raise FileError(
                    f"{path} does not exist. Check the name and the folder."
                )
        n = len(config.source) or config.number
        if n < max(_MIN_SHELLS, config.components + 1):
            raise ConfigError(
                f"There are {n} shells for {config.components} components. Use at "
                f"least {max(_MIN_SHELLS, config.components + 1)} complete shells, "
                "or fewer components (--components)."
            )

    @classmethod
    def check_shape(cls, shapes: ShapeSet, volume: Volume, inside: AnyArray) -> None:
        """Raise `VolumeError` if a shape is not a closed shell, but solid or open."""
        share = wall_share(np.ascontiguousarray(inside))
        if share < MIN_PRESENT:
            raise VolumeError(
                f"{volume.title} is not a closed shell around a cavity: only "
                f"{100 * share:.0f} % of the rays from its centre meet a wall. Leave "
                "it out, or use train shape-completion instead."
            )

    def network_kwargs(self) -> AnyDict:
        """Return the settings of the model, for its card."""
        return {
            "directions": self.config.directions,
            "components": self.config.components,
        }

    def fit_steps(
        self, shapes: ShapeSet, should_stop: ShouldStop
    ) -> Generator[Step, None, ShellAtlas | None]:
        """Measure all shells and fit the model; None if stopped."""
        grid = direction_grid(self.config.directions)
        total = len(shapes.volumes) or self.config.number
        yield StageStarted(message="Measuring shells", total=total)
        shells = []
        for i in range(total):
            if should_stop():
                return None
            inside = self._shell(shapes, i)
            frame = shapes.frame_of(shapes.volumes[i]) if shapes.volumes else None
            shells.append(shell_maps(inside, fit_ellipsoid(inside, frame), grid))
            yield BlockDone(i + 1, total)
        return sparse.ShellAtlas.fitted(shells, self.config.components)

    def _shell(self, shapes: ShapeSet, i: int) -> AnyArray:
        if shapes.volumes:
            inside = shapes.mask_of(shapes.volumes[i])
            if not inside.any():
                raise ConfigError(
                    f"{shapes.volumes[i].title} is empty: no voxel belongs to a shell."
                )
            return np.ascontiguousarray(inside)
        assert self.config.simulated is not None
        rng = np.random.default_rng([self.config.seed, 4, i])
        _, solid = random_solid(rng, self.config.simulated)
        return sampled(solid, (self.config.patch,) * 3)
