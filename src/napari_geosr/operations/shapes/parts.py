"""The part that completes a shape."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr import io
from napari_geosr.core.steps import Step, WarningIssued
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.io.orientation import ORIENTATION

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model

#: Maximum volume of a completed part, as a fraction of the shape, at which the shape
#: may already be complete.
_SMALL_PART = 0.01
#: Minimum fraction of the input that a model reproduces; below it, the shape differs
#: from the training data.
_MIN_REPRODUCED = 0.8


@dataclass(frozen=True)
class CompletedPart:
    """The part that completes a shape.

    Attributes
    ----------
    implant : ndarray of bool, shape (Z, Y, X)
        Mask on the grid of the input; it shares no voxel with the input.
    n_pieces : int
    reproduced : float
        Fraction of the input that the network also predicts.
    """

    implant: AnyArray
    n_pieces: int
    reproduced: float


def warn_if_unlike(reproduced: float) -> Generator[Step, None, None]:
    """Warn if a shape differs from the training shapes of the model."""
    if reproduced < _MIN_REPRODUCED:
        yield WarningIssued(
            message=f"The model reproduces only {100 * reproduced:.0f} % of the given "
            "shape, so the shape is unlike those that it was trained on. Do not trust "
            "the completed part."
        )


def small_part_warning(n_added: int, n_given: int) -> str:
    """Warning about a small completed part; empty if it is large enough."""
    if n_added > _SMALL_PART * n_given:
        return ""
    return (
        f"The completed part has only {100 * n_added / n_given:.2g} % of the volume of "
        "the given shape. The shape may already be complete: check the part before "
        "using it."
    )


def is_turned(volume: Volume, model: Model) -> bool:
    """Whether Y points to the front in a volume, but to the back for a model.

    The Y axis of simulated skulls points to the back; that of NIfTI and NRRD volumes,
    to the front (see `napari_geosr.io.orientation`).
    """
    settings = model.card.provenance.get("settings", {})
    training = settings.get("training", {}) if isinstance(settings, dict) else {}
    simulated = training.get("simulated") if isinstance(training, dict) else None
    if simulated != "skulls":
        return False
    metadata, source = volume.metadata, volume.source
    if "format" not in metadata and source is not None and source.is_file():
        metadata = io.read(source).metadata  # a layer without its file's metadata
    return ORIENTATION in metadata


def half_turn(mask: AnyArray) -> AnyArray:
    """Rotate a mask by half a turn about Z, without mirroring it."""
    return np.ascontiguousarray(mask[:, ::-1, ::-1])


def large_pieces(part: AnyArray, smallest: float) -> tuple[AnyArray, int]:
    """Pieces at least `smallest` times as large as the largest, and their number."""
    from scipy.ndimage import label

    pieces, n = label(part, np.ones((3, 3, 3)))
    if not n:
        return part, 0
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    keep = (sizes > 0) & (sizes >= smallest * sizes.max())
    found: AnyArray = keep[pieces]
    return found, int(keep.sum())
