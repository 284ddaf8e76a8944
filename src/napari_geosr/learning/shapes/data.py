"""Define settings, samples and the base class of learning methods for shapes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import Field, field_validator

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.orientation import (
    DIRECTIONS,
    half_turn,
    model_frame,
    orientation_of,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.learning.config import MULTIPLE_FILES, TrainingConfig
from napari_geosr.learning.method import Arrays, Method
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.physics.shapes import SOLIDS, Solid

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.core.volume import Volume

ShapeKind = Literal["skulls", "mixed"]

#: Maximum number of files that a note lists.
_MAX_LISTED = 10
#: Unused settings: those for grey values and for other networks.
_UNUSED = frozenset(
    {
        "adjacent_slices",
        "dimensions",
        "layers",
        "network",
        "network_options",
        "normalisation",
        "preview_slice",
        "sampling",
        "similarity_index",
        "width",
    }
)


class ShapeConfig(TrainingConfig):
    """Settings that all methods for shapes share.

    The settings for grey values, such as the normalisation, have no effect.
    """

    unused_settings: ClassVar[frozenset[str]] = _UNUSED | {"target"}

    simulated: ShapeKind | None = Field(
        None,
        title="Simulated shapes",
        description="Learn from simulated shapes instead of files: skulls, or a "
        "mixture of ellipsoids, trabeculae, pores, trees and skulls.",
    )
    label: int | None = Field(
        None,
        ge=1,
        title="Label",
        description="Label of the shape in the volumes; by default all non-zero "
        "voxels.",
        json_schema_extra={"unset": "all"},
    )
    channels: Annotated[tuple[int, ...], MULTIPLE_FILES] = Field(
        (16, 16, 24),
        title="Channels",
        description="Feature maps per level, from the finest to the coarsest.",
    )
    dimensions: Literal["2D", "2.5D", "3D"] = Field(
        "3D",
        title="Dimensions",
        description="Shapes are volumes, so the networks are 3D.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", title="Precision", description="Number format during training."
    )
    batch_size: int = Field(
        1, ge=1, le=64, title="Batch", description="Shapes per step."
    )
    learning_rate: float = Field(
        3e-3,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate (Adam).",
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _split_channels(cls, value: object) -> object:
        """Split ``"8,16,24"``, alone or as a command-line word, into three numbers."""
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, Sequence):
            return value
        return [n for word in words for n in str(word).split(",")]

    @field_validator("network")
    @classmethod
    def _replace_hyphens(cls, value: str) -> str:
        return value.replace("-", "_")


class ShapeSet(Patches):
    """The shapes of a training run: simulated, or read from volumes.

    Parameters
    ----------
    config : ShapeConfig
    volumes : sequence of Volume
        Empty for simulated shapes. Some are held out for validation; if there is only
        one, methods that draw blocks of planes hold out its last planes.
    targets : sequence of Volume
        Labels of the volumes, for methods that learn labels.
    """

    def __init__(
        self,
        config: ShapeConfig,
        volumes: Sequence[Volume] = (),
        targets: Sequence[Volume] = (),
    ) -> None:
        self.config, self.volumes = config, tuple(volumes)
        self.targets = tuple(targets)
        self.scenes, self.validation = [], False
        self.n_held_out = max(1, round(config.validation * len(volumes)))

    def volume(self, rng: np.random.Generator) -> Volume:
        """Draw a volume for training, or for validation."""
        chosen = self.volumes
        if len(chosen) > 1:
            kept = len(chosen) - self.n_held_out
            chosen = chosen[kept:] if self.validation else chosen[:kept]
        return chosen[int(rng.integers(len(chosen)))]

    def number_of(self, volume: Volume) -> int:
        """Return the index of a volume in the sequence of all volumes."""
        return [v is volume for v in self.volumes].index(True)

    def target_of(self, volume: Volume) -> Volume:
        """Return the labels of one of the volumes."""
        return self.targets[self.number_of(volume)]

    def planes(self, volume: Volume, size: int) -> tuple[int, int]:
        """Return the first and last plane at which a block of planes may begin."""
        depth, last = volume.shape[0], max(0, volume.shape[0] - size)
        if len(self.volumes) > 1:
            return 0, last
        border = int(depth * (1 - cast("ShapeConfig", self.config).validation))
        if self.validation:
            return min(border, last), last
        return 0, max(0, min(last, border - size))

    @property
    def orientation(self) -> str:
        """Orientation of all masks: the first one that is known; empty if none is."""
        return next(filter(None, map(known_orientation, self.volumes)), "")

    def mask_of(self, volume: Volume, place: tuple[slice, ...] = ()) -> AnyArray:
        """Return the mask of the shape in a volume, or in a part of it.

        The mask has the orientation of the set, so it may be rotated by half a turn
        about Z.
        """
        label = cast("ShapeConfig", self.config).label
        values = np.asarray(volume.data[place] if place else volume.data)
        found: AnyArray = values == label if label else values != 0
        return half_turn(found) if self._is_turned(volume) else found

    def frame_of(self, volume: Volume) -> AnyArray | None:
        """Return the directions of the model on the grid of a mask; see `model_frame`.

        The result is None for volumes that are not oblique.
        """
        turned = self._is_turned(volume)
        return model_frame(volume.metadata, volume.voxel_size, turned=turned)

    def _is_turned(self, volume: Volume) -> bool:
        known = known_orientation(volume)
        return bool(known) and known != self.orientation


def known_orientation(volume: Volume) -> str:
    """Return the orientation of a volume, RAS or LPS; empty if it is unknown."""
    found = orientation_of(volume.metadata)
    return found if found in DIRECTIONS else ""


def orientation_notes(volumes: Sequence[Volume]) -> list[str]:
    """Return a note on the volumes with an unknown orientation; empty if none."""
    unknown = [volume.title for volume in volumes if not known_orientation(volume)]
    if not unknown:
        return []
    known = [volume for volume in volumes if known_orientation(volume)]
    if not known:
        return [
            "The orientation of the shapes is unknown. All of them must have the same "
            "orientation, and the model is only valid for shapes in this orientation."
        ]
    listed = ", ".join(unknown[:_MAX_LISTED]) + (", …" * (len(unknown) > _MAX_LISTED))
    return [
        f"The orientation of {len(unknown)} of {len(volumes)} shapes is unknown "
        f"({listed}). They are assumed to have that of {known[0].title}, "
        f"{DIRECTIONS[known_orientation(known[0])]}; if they do not, the model is "
        "wrong. Leave out shapes with another orientation."
    ]


def turned(rng: np.random.Generator, arrays: Sequence[AnyArray]) -> list[AnyArray]:
    """Return the arrays after one random rotation or reflection of the cube."""
    order = rng.permutation(3)
    flips = tuple(int(axis) for axis in range(3) if rng.random() < 0.5)
    return [
        np.ascontiguousarray(np.flip(array.transpose(order), flips)) for array in arrays
    ]


def moved(solid: Solid, scale: float, shift: AnyArray) -> Solid:
    """Scale a solid by the factor `scale`, then move it by `shift` (Z, Y, X)."""
    sz, sy, sx = (np.float32(value) for value in shift)

    def found(z: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
        return solid((z - sz) / scale, (y - sy) / scale, (x - sx) / scale)

    return found


def random_solid(rng: np.random.Generator, kind: ShapeKind) -> tuple[str, Solid]:
    """Return the name and shape of a simulated solid."""
    names = ("skull",) if kind == "skulls" else tuple(SOLIDS)
    name = names[int(rng.integers(len(names)))]
    make: Callable[[np.random.Generator], Solid] = SOLIDS[name]
    return name, make(rng)


class ShapeMethod(Method):
    """Base of learning methods for shapes, which train a sparse network."""

    task = "denoise"
    config: ShapeConfig

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Raise `ConfigError` if there is nothing to learn from."""
        assert isinstance(config, ShapeConfig)
        if bool(config.source) == (config.simulated is not None):
            raise ConfigError(
                "Give either volumes of shapes to learn from (--source), or a kind of "
                "simulated shapes (--simulated)."
            )
        if config.target:
            raise ConfigError(
                "This method generates the incomplete or coarse shapes from the "
                "sources, so it takes no targets: remove --target."
            )

    @classmethod
    def check_shape(cls, shapes: ShapeSet, volume: Volume, inside: AnyArray) -> None:
        """Raise `VolumeError` if the method cannot learn from one of the shapes.

        Parameters
        ----------
        shapes : ShapeSet
        volume : Volume
            One of the volumes of `shapes`.
        inside : ndarray of bool, shape (Z, Y, X)
            Voxels of the shape; neither empty nor the whole volume.
        """

    def network_kwargs(self) -> AnyDict:
        """Return the settings of the network, for its card."""
        return {"channels": tuple(self.config.channels)}

    @property
    def is_oriented(self) -> bool:
        """Whether the model depends on the orientation of the training shapes."""
        return not self.config.augment

    def inspect(self, volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
        """Return notes on shapes with an unknown orientation, if it matters."""
        return orientation_notes(volumes["source"]) if self.is_oriented else []

    def optimiser(self, group: str, parameters: list[nn.Parameter]) -> object:
        """Return Adam with the maximum of past squared gradients (amsgrad)."""
        import torch

        return torch.optim.Adam(parameters, self.config.learning_rate, amsgrad=True)

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw ``"source"`` and ``"target"``: uint8 (1, Z, Y, X)."""
        assert isinstance(patches, ShapeSet)
        source, target = self.pair(patches, rng)
        if self.config.augment and not patches.validation:
            source, target = turned(rng, (source, target))
        return {
            "source": source[None].astype(np.uint8),
            "target": target[None].astype(np.uint8),
        }

    def pair(
        self, shapes: ShapeSet, rng: np.random.Generator
    ) -> tuple[AnyArray, AnyArray]:
        """Draw the network's input and desired output: bool arrays (Z, Y, X)."""
        raise NotImplementedError


class FittedMethod(ShapeMethod):
    """Base of methods that compute their model in one pass, without optimisation."""

    @property
    def is_oriented(self) -> bool:
        """Whether the model depends on the orientation of the training shapes."""
        return True

    def fit_steps(
        self, shapes: ShapeSet, should_stop: ShouldStop
    ) -> Generator[Step, None, nn.Module | None]:
        """Compute the model; None if it was stopped."""
        raise NotImplementedError
