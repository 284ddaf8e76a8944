"""Define settings, samples and the base class of learning methods for shapes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import Field, field_validator, model_validator

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.orientation import (
    DIRECTIONS,
    half_turn,
    model_frame,
    orientation_of,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.learning.config import MULTIPLE_FILES, Files, TrainingConfig
from napari_geosr.learning.method import Arrays, Method
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.learning.shapes.filled_cells import FilledCells, block_around
from napari_geosr.physics.shapes import SOLIDS, Solid

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.core.volume import Volume
    from napari_geosr.models.card import LabelledGreyValues

ShapeKind = Literal["skulls", "mixed"]

#: Maximum ratio of two voxel edges that count as equal.
NEARLY_CUBIC = 1.05
#: Minimum number of planes that are held out if there is only one volume.
_MIN_HELD_OUT = 8
#: Minimum number of planes of the shape; if it has fewer, none is held out.
_MIN_DEPTH = 32
#: Number of empty planes after the shape that are also used for validation.
_MARGIN = 2
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

    source: Files = Field(
        (),
        title="Source",
        description="Shapes to learn from: label volumes, or folders with one shape "
        "per file. Of the skulls written by simulate skulls, the complete ones are "
        "used. Separate multiple entries with commas. --target is a synonym.",
    )
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
        description="Label of the shape in the volumes. Needed if they have several "
        "labels.",
        json_schema_extra={"unset": "the only label"},
    )
    channels: Annotated[tuple[int, ...], MULTIPLE_FILES] = Field(
        (16, 16, 24),
        title="Channels",
        description="Number of feature maps at each level, from the finest to the "
        "coarsest.",
    )
    dimensions: Literal["2D", "2.5D", "3D"] = Field(
        "3D",
        title="Dimensions",
        description="3D: volumes; the only option for shape networks.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", title="Precision", description="Number format during training."
    )
    batch_size: int = Field(
        1,
        ge=1,
        le=64,
        title="Batch",
        description="Number of shapes per training step.",
    )
    learning_rate: float = Field(
        3e-3,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate (Adam).",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_targets_as_sources(cls, values: object) -> object:
        """Use the targets as sources.

        This applies to methods without targets if no sources are given.
        """
        if not isinstance(values, Mapping) or "target" not in cls.unused_settings:
            return values
        if values.get("source") or not values.get("target"):
            return values
        return {**values, "source": values["target"], "target": ()}

    @field_validator("channels", mode="before")
    @classmethod
    def _split_channels(cls, value: object) -> object:
        """Split a string such as ``"8,16,24"``, or a list of strings, at the commas."""
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
        one, methods that draw blocks hold out its last planes (see `planes`).
    targets : sequence of Volume
        Labels of the volumes, for methods that learn labels.

    Attributes
    ----------
    grey_values : dict of int to LabelledGreyValues
        Grey values of a volume and of its labelled voxels, by the index of the volume;
        set by the method that needs them.
    cells : dict of int to FilledCells
        Cells of a volume around which blocks are drawn, by the index of the volume; set
        by the methods that draw blocks.
    filled : (int, int) or None
        If there is only one volume: first plane that contains the shape, and the plane
        after the last one that does; None if unknown.
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
        self.cells: dict[int, FilledCells] = {}
        self.grey_values: dict[int, LabelledGreyValues] = {}
        self.filled: tuple[int, int] | None = None
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

    def set_filled(self, inside: AnyArray) -> None:
        """Store which planes contain the shape, if there is only one volume.

        Parameters
        ----------
        inside : ndarray of bool
            For each plane, its voxels or a single value; not empty.
        """
        if len(self.volumes) == 1:
            where = np.flatnonzero(inside.reshape(len(inside), -1).any(1))
            self.filled = (int(where[0]), int(where[-1]) + 1)

    @property
    def _is_split(self) -> bool:
        """Whether planes are held out because there is only one volume."""
        if len(self.volumes) != 1 or self._n_filled < _MIN_DEPTH:
            return False
        cells = self.cells.get(0)
        return cells is None or cells.any_in(self._last_planes)

    @property
    def _last_planes(self) -> slice:
        """The planes of the first volume that are held out if it is the only one."""
        share = cast("ShapeConfig", self.config).validation
        n_held_out = max(_MIN_HELD_OUT, round(share * self._n_filled))
        _, last = self._ends(self.volumes[0])
        border = last - n_held_out
        end = min(self.volumes[0].shape[0], last + _MARGIN)
        return slice(border, end - (end - border) % 2)

    @property
    def _n_filled(self) -> int:
        """Number of planes that contain the shape in the first volume."""
        first, last = self._ends(self.volumes[0])
        return last - first

    def _ends(self, volume: Volume) -> tuple[int, int]:
        return self.filled or (0, volume.shape[0])

    @property
    def held_out_note(self) -> str:
        """A note if there is only one volume and no planes are held out; else ""."""
        if len(self.volumes) != 1 or self._is_split:
            return ""
        reason = f"{self._n_filled} planes (fewer than {_MIN_DEPTH})"
        if self._n_filled >= _MIN_DEPTH:
            reason = "no surface in its last planes"
        return (
            f"{self.volumes[0].title} is the only volume, and the shape has {reason}, "
            "so none of them is held out: the validation loss is computed on the "
            "training data and does not show how well the model works for other data. "
            "Give several volumes (--source)."
        )

    def planes(self, volume: Volume) -> slice:
        """Return the planes of a volume from which blocks are drawn.

        If there is only one volume, the last planes of its shape are for validation,
        and those before them for training. If the shape has few planes, or no surface
        in the last ones, no planes are held out.
        """
        depth = volume.shape[0]
        if not self._is_split:
            return slice(0, depth)
        held_out = self._last_planes
        return held_out if self.validation else slice(0, held_out.start)

    def block(
        self, volume: Volume, edge: int, rng: np.random.Generator
    ) -> tuple[slice, ...]:
        """Draw the position of a block, cropped to `planes` and to the volume.

        The block contains one of the `cells` of the volume, which must be known. If
        there is none in these planes, the block is at a random position in them.
        """
        parts = (self.planes(volume), *(slice(0, n) for n in volume.shape[1:]))
        cell = self.cells[self.number_of(volume)].draw(parts[0], rng)
        return block_around(cell, parts, edge, rng)

    def padding(self, shape: Sequence[int], edge: int) -> list[tuple[int, int]]:
        """Return how many voxels to add before and after a block to make it a cube.

        Planes are added only for training: a block for validation may be flatter.
        """
        missing = [(0, edge - n) for n in shape]
        return [(0, 0), *missing[1:]] if self.validation else missing

    @property
    def equal_axes(self) -> tuple[tuple[int, ...], ...]:
        """Groups of axes along which the voxels of every volume have equal edges."""
        sizes = [volume.voxel_size for volume in self.volumes]
        groups: list[list[int]] = []
        for axis in range(3):
            for group in groups:
                edges = [(size[axis], size[group[0]]) for size in sizes]
                if all(max(pair) <= NEARLY_CUBIC * min(pair) for pair in edges):
                    group.append(axis)
                    break
            else:
                groups.append([axis])
        return tuple(map(tuple, groups))

    @property
    def orientation(self) -> str:
        """Orientation of all masks: the first one that is known; empty if none is."""
        return next(filter(None, map(known_orientation, self.volumes)), "")

    def mask_of(self, volume: Volume, place: tuple[slice, ...] = ()) -> AnyArray:
        """Return the mask of the shape in a volume, or in a part of it.

        The mask has the `orientation` of the whole set of volumes, so it may be rotated
        by half a turn about Z.
        """
        found = self.stored_mask(volume, place)
        return half_turn(found) if self._is_turned(volume) else found

    def stored_mask(self, volume: Volume, place: tuple[slice, ...] = ()) -> AnyArray:
        """Return the same mask as `mask_of`, with the orientation of the volume."""
        label = cast("ShapeConfig", self.config).label
        values = np.asarray(volume.data[place] if place else volume.data)
        found: AnyArray = values == label if label else values != 0
        return found

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
        f"({listed}). They are assumed to be oriented like {known[0].title}, with "
        f"{DIRECTIONS[known_orientation(known[0])]}; if they are not, the model "
        "is invalid. Leave out shapes with another orientation."
    ]


def turned(
    rng: np.random.Generator,
    arrays: Sequence[AnyArray],
    equal_axes: Sequence[Sequence[int]] = ((0, 1, 2),),
) -> list[AnyArray]:
    """Return the arrays after one random rotation or reflection of the cube.

    Only axes in the same group of `equal_axes` are exchanged.
    """
    drawn = rng.permutation(3).tolist()
    order = [0, 1, 2]
    for group in equal_axes:
        for axis, other in zip(group, (a for a in drawn if a in group), strict=True):
            order[axis] = other
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
    #: Whether the models can only be used for shapes with nearly cubic voxels.
    needs_cubic: ClassVar[bool] = True
    #: Whether the method draws blocks of shapes, not whole shapes.
    draws_blocks: ClassVar[bool] = False

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
                "sources, so it takes no targets: give all shapes with --source, and "
                "remove --target."
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
    def output_note(self) -> str:
        """Sentence for the card about the network's output, after a space; or ""."""
        return ""

    @property
    def is_oriented(self) -> bool:
        """Whether the model depends on the orientation of the training shapes."""
        return not self.config.augment

    def inspect(self, volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
        """Return notes on shapes of unknown orientation, if the orientation matters."""
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
            source, target = turned(rng, (source, target), patches.equal_axes)
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

    needs_cubic = False

    @property
    def is_oriented(self) -> bool:
        """Whether the model depends on the orientation of the training shapes."""
        return True

    def fit_steps(
        self, shapes: ShapeSet, should_stop: ShouldStop
    ) -> Generator[Step, None, nn.Module | None]:
        """Compute the model; None if it was stopped."""
        raise NotImplementedError
