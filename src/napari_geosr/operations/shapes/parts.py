"""Describes and checks the part that a model adds to complete a shape."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.interruption import check_stop
from napari_geosr.core.orientation import (
    DIRECTIONS,
    LPS,
    model_frame,
    orientation_of,
    rotation_angle,
)
from napari_geosr.core.steps import Step, WarningIssued
from napari_geosr.core.text.counts import counted
from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.operations.shapes.models import ATLAS

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model

#: If the volume of a completed part is at most this fraction of that of the given
#: shape, the shape may already have been complete.
_SMALL_PART = 0.01
#: Volume of a completed part, relative to that of the given shape, above which a
#: warning is given. In the tests of ``benchmarks/bench_completion.py largest``, at most
#: 0.19 was missing and 0.17 was completed.
_LARGE_PART = 0.2
#: Minimum fraction of the directions with an expected wall in which the shape has a
#: wall. In the tests of ``benchmarks/bench_completion.py largest``, it is at least
#: 0.85.
_MIN_WALL = 0.8
#: Minimum fraction of the given shape that a model must reproduce; below it, a warning
#: says that the shape differs from the training shapes.
_MIN_REPRODUCED = 0.8
#: Number of voxels of the input that are read at a time.
_AT_ONCE = 2**24
#: Maximum number of other labels that are listed if the completed part overlaps them.
_MAX_LISTED = 10
#: Rotation of the axes in degrees up to which no warning is given.
_MAX_ROTATION = 10.0


@dataclass(frozen=True)
class CompletedPart:
    """The part that a model adds to complete a shape.

    Attributes
    ----------
    implant : ndarray of bool, shape (Z, Y, X)
        Mask on the grid of the input; it shares no voxel with the input.
    n_pieces : int
    reproduced : float
        Fraction of the input that the network also predicts.
    refine_model : mapping or None
        Record of the model that refined the part; None if no model did.
    """

    implant: AnyArray
    n_pieces: int
    reproduced: float
    refine_model: AnyMapping | None = None


@dataclass(frozen=True)
class ShapePose:
    """Rotation of a shape relative to the training shapes of a model.

    Attributes
    ----------
    turned : bool
        Whether the voxels must be rotated by half a turn about Z.
    frame : ndarray of shape (3, 3), or None
        For an oblique shape, the directions of the model's axes on its grid after this
        half turn; see `model_frame`.
    """

    turned: bool = False
    frame: AnyArray | None = None


#: Pose of a shape that is not rotated.
UPRIGHT = ShapePose()


def warn_if_unlike(reproduced: float) -> Generator[Step, None, None]:
    """Warn if a shape differs from the training shapes of the model."""
    if reproduced < _MIN_REPRODUCED:
        yield WarningIssued(
            message=f"The model reproduces only {100 * reproduced:.0f} % of the given "
            "shape, so the shape is unlike those that it was trained on. Do not trust "
            "the completed part."
        )


def unlike_shell_steps(agreement: float, share: float) -> Generator[Step, None, None]:
    """Warn if the wall of a shell differs from that of the training shells.

    Parameters
    ----------
    agreement : float
        Fraction of the directions with both an expected and an actual wall in which the
        wall is as predicted.
    share : float
        Fraction of the directions with an expected wall in which the shape has a wall.
    """
    if share < _MIN_WALL:
        yield WarningIssued(
            message="The shape has a wall in only "
            f"{100 * share:.0f} % of the directions in which the model expects one: it "
            "is unlike the shapes that the model was trained on, or more of it is "
            "missing than in the tests of the model. Do not trust the completed part."
        )
    elif agreement < _MIN_REPRODUCED:
        yield WarningIssued(
            message="The wall of the shape is as the model predicts in only "
            f"{100 * agreement:.0f} % of the directions, so the shape is unlike those "
            "that it was trained on. Do not trust the completed part."
        )


def cut_warning(beyond: Sequence[int]) -> str:
    """Return a warning that the completed part is cut off at the border of the volume.

    Parameters
    ----------
    beyond : sequence of int
        Number of voxels by which the part extends beyond the volume along Z, Y and X.
        If all are 0, there is no warning, and the text is empty.
    """
    lengths = [f"{n} along {axis}" for axis, n in zip("ZYX", beyond, strict=True) if n]
    if not lengths:
        return ""
    return (
        "The missing part extends beyond the border of the volume (voxels: "
        f"{', '.join(lengths)}), so the completed part is cut off there. Add empty "
        "planes around the shape, and complete it again."
    )


def part_size_warning(n_added: int, n_given: int) -> str:
    """Return a warning about a very small or large completed part, or ``""``."""
    share = 100 * n_added / n_given
    if n_added <= _SMALL_PART * n_given:
        return (
            f"The volume of the completed part is only {share:.2g} % of that of the "
            "given shape. The shape may already be complete: check the part before "
            "using it."
        )
    if n_added > _LARGE_PART * n_given:
        return (
            f"The completed part is large: its volume is {share:.0f} % of that of the "
            f"given shape. Parts above {100 * _LARGE_PART:.0f} % were not tested, and "
            "are mostly invented. Do not trust the completed part."
        )
    return ""


def overlap_steps(
    volume: Volume, label: int | None, part: AnyArray
) -> Generator[Step, None, None]:
    """Warn if a completed part contains voxels that have other labels in the input.

    Parameters
    ----------
    volume : Volume
        Labels of the input.
    label : int or None
        Label of the shape; None if the volume has only one label.
    part : ndarray of bool, shape (Z, Y, X)
        The completed part; at least one voxel.
    """
    if label is None:
        return
    found, n_other = set[int](), 0
    occupied = np.flatnonzero(part.any((1, 2)))
    depth = max(1, _AT_ONCE // math.prod(part.shape[1:]))
    for start in range(int(occupied[0]), int(occupied[-1]) + 1, depth):
        planes = slice(start, start + depth)
        values = np.asarray(volume.data[planes])[part[planes]]
        others = values[(values != 0) & (values != label)]
        n_other += others.size
        found.update(np.unique(others).astype(int).tolist())
    if not n_other:
        return
    share = 100 * n_other / np.count_nonzero(part)
    listed = ", ".join(map(str, sorted(found)[:_MAX_LISTED]))
    more = ", …" if len(found) > _MAX_LISTED else ""
    yield WarningIssued(
        message=f"{counted(n_other, 'voxel')} ({share:.2g} %) of the completed "
        f"part {'has' if n_other == 1 else 'have'} other labels in {volume.title} "
        f"({listed}{more}). The model does not take these labels into account. If the "
        "part must not overlap them, remove the overlap from it."
    )


def assumed_directions(volume: Volume, model: Model) -> str:
    """Return the directions of the axes that a model assumes for a volume.

    The result is empty if the model needs no directions, or if the volume's directions
    are known.
    """
    if orientation_of(volume.metadata) in DIRECTIONS:
        return ""
    return DIRECTIONS.get(orientation_needed(model), "")


def pose_steps(volume: Volume, model: Model) -> Generator[Step, None, ShapePose]:
    """Return how a volume is rotated relative to the training shapes of a model.

    If the model needs an orientation but the orientation of the volume is unknown, a
    warning is issued, and the volume is assumed to have the orientation of the model. A
    warning is also issued if the model cannot take the rotation of an oblique volume
    into account.
    """
    needed, known = orientation_needed(model), orientation_of(volume.metadata)
    if not needed:
        return UPRIGHT
    if assumed := assumed_directions(volume, model):
        yield WarningIssued(
            message=f"The orientation of {volume.title} is unknown. The model needs "
            f"{assumed}; for any other orientation, the completed part is "
            "wrong. Shapes from NIfTI or NRRD files, and results made from them, are "
            "reoriented as needed."
        )
        return UPRIGHT
    turned = known != needed
    if model.card.network == ATLAS:
        frame = model_frame(volume.metadata, volume.voxel_size, turned=turned)
        return ShapePose(turned, frame)
    if (angle := rotation_angle(volume.metadata)) > _MAX_ROTATION:
        yield WarningIssued(
            message=f"The axes of {volume.title} are rotated by {angle:.0f}° relative "
            f"to the directions {DIRECTIONS[known]}. The model does not take this "
            "rotation into account, so the completed part may be wrong. Resample the "
            "volume to unrotated axes first."
        )
    return ShapePose(turned)


def orientation_needed(model: Model) -> str:
    """Return the orientation of the shapes that a model was trained on.

    The result is empty if the orientation is unknown.
    """
    record = model.card.provenance
    settings, training = record.get("settings"), record.get("training")
    chosen = settings.get("training") if isinstance(settings, dict) else None
    if isinstance(chosen, dict) and chosen.get("simulated") == "skulls":
        return LPS
    stated = orientation_of(training) if isinstance(training, dict) else ""
    return stated if stated in DIRECTIONS else ""


def large_pieces(part: AnyArray, smallest: float) -> tuple[AnyArray, int]:
    """Return the pieces not much smaller than the largest one, and their number.

    Voxels that touch only at an edge or corner belong to different pieces, because a
    mesh does not join them. `smallest` is the minimum size of a piece, as a fraction of
    the largest one.

    Raises
    ------
    Cancelled
        If the run is stopped inside the context `interruptible`.
    """
    from scipy.ndimage import label

    check_stop()
    pieces, n = label(part)
    check_stop()
    if not n:
        return part, 0
    sizes = np.bincount(pieces.ravel())
    check_stop()
    sizes[0] = 0
    keep = (sizes > 0) & (sizes >= smallest * sizes.max())
    found: AnyArray = keep[pieces]
    return found, int(keep.sum())
