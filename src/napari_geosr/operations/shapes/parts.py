"""The part that completes a shape."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.steps import Step, WarningIssued
from napari_geosr.core.types import AnyArray

#: Minimum fraction of the input that a model reproduces; below it, the shape differs
#: from the training data.
_MIN_REPRODUCED = 0.8


@dataclass(frozen=True)
class CompletedPart:
    """The part that completes a shape.

    Attributes
    ----------
    implant : ndarray of bool, shape (Z, Y, X)
        Mask on the grid of the input, with which it shares no voxel.
    n_pieces : int
    reproduced : float
        Fraction of the input that the network predicts, too.
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


def large_pieces(part: AnyArray, smallest: float) -> tuple[AnyArray, int]:
    """Pieces of at least the fraction `smallest` of the largest, and their number."""
    from scipy.ndimage import label

    pieces, n = label(part, np.ones((3, 3, 3)))
    if not n:
        return part, 0
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    keep = (sizes > 0) & (sizes >= smallest * sizes.max())
    found: AnyArray = keep[pieces]
    return found, int(keep.sum())
