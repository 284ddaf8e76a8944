"""Find the position of the rotation axis on the detector from the projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from napari_geosr.core.angles import along_turn
from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.tomography.centre_scores import (
    WedgeScore,
    opposite_correlation,
    vertex,
)
from napari_geosr.tomography.preparation_config import PreparationConfig
from napari_geosr.tomography.preprocess import LineIntegrals

Curve = npt.NDArray[np.float64]

#: Maximum number of projections for the search; more would only use more memory.
_MAX_VIEWS = 2048
#: Step of the search over the whole range, in columns.
_COARSE_STEP = 0.5
#: Step of the search around the best column, in columns.
_FINE_STEP = 0.05
#: Minimum difference between the best and the median score for a reliable result.
_MIN_CONTRAST = {"wedge": 0.05, "opposite": 0.3, "pair": 0.3}
#: Tolerance for two views to count as opposite, in degrees.
_OPPOSITE = 2.0


class CentreConfig(Config):
    """Settings of the search for the rotation axis."""

    method: Literal["auto", "wedge", "opposite", "pair"] = Field(
        default="auto",
        title="Method",
        description="How the rotation axis is found. wedge: from all projections "
        "over 180 degrees; opposite: from the two halves of a full turn; pair: from "
        "the projections at 0 and 180 degrees only.",
    )

    low: float | None = Field(
        default=None,
        title="From column",
        description="First column of the search; by default near the edge of the "
        "detector.",
    )

    high: float | None = Field(
        default=None,
        title="To column",
        description="Last column of the search; by default near the edge of the "
        "detector.",
    )

    n_rows: int = Field(
        default=8,
        ge=1,
        le=64,
        title="Rows",
        description="Number of adjacent detector rows that the search uses.",
    )

    row: int | None = Field(
        default=None,
        ge=0,
        title="First row",
        description="First of the detector rows that the search uses; by default, rows "
        "in the middle of the detector are used.",
    )


@dataclass(frozen=True, eq=False)
class Centre:
    """The rotation axis that was found.

    Attributes
    ----------
    column : float
        Position in columns; 0 is the middle of the first column.
    method : str
        ``"wedge"``, ``"opposite"`` or ``"pair"``.
    columns, scores : ndarray
        The curve of scores, for plotting; its extremum is at the axis.
    lower_is_better : bool
        Whether the best score is the lowest one.
    contrast : float
        Difference between the best and the median score; 0 means no extremum.
    notes : tuple of str
        Notes for the user, for instance that the extremum is not clear.
    """

    column: float
    method: str
    columns: Curve
    scores: Curve
    lower_is_better: bool
    contrast: float
    notes: tuple[str, ...] = ()


def find_centre(
    projections: Projections,
    config: CentreConfig | None = None,
    preparation: PreparationConfig | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Centre:
    """Find the column of the rotation axis.

    For scans that cover a full turn, projections are registered with the mirrored
    projections from the opposite side, which also finds an axis near the detector's
    edge. For scans that cover half a turn, the mirror image completes the sinogram, and
    the energy outside the double wedge of its Fourier transform is minimised (Vo et al.
    2014). Both methods use up to 2048 projections and need no reconstruction.

    Parameters
    ----------
    projections : Projections
    config : CentreConfig, optional
    preparation : PreparationConfig, optional
        How counts are converted to line integrals.
    should_stop : callable
        Called at regular intervals.

    Returns
    -------
    Centre

    Raises
    ------
    ProjectionsError
        If the angles cover less than half a turn, or the axis cannot be determined.
    Cancelled
        If `should_stop` returns True.
    """
    config = config or CentreConfig()
    thinned = projections.every(max(1, -(-projections.n_angles // _MAX_VIEWS)))
    method = config.method
    if method == "auto":
        # With few projections in a full turn, there may be no opposite pairs.
        paired = (
            projections.is_full_turn
            and _nearest_opposition_error(thinned).min() <= _OPPOSITE
        )
        method = "opposite" if paired else "wedge"
    first, last = _rows(projections, config)
    sinogram, _ = LineIntegrals(thinned, preparation).rows(first, last)
    if should_stop():
        raise Cancelled("Stopped before the rotation centre was found.")
    low, high = _range(projections, config)
    if method == "wedge":
        half = _half_turn(sinogram, thinned)
        columns, scores = _search(WedgeScore(half), low, high, should_stop)
    else:
        columns, scores = _correlate(sinogram, thinned, method, low, high)
    return _judge(projections, method, columns, scores)


def _rows(projections: Projections, config: CentreConfig) -> tuple[int, int]:
    n = min(config.n_rows, projections.n_rows)
    first = (projections.n_rows - n) // 2 if config.row is None else config.row
    if first >= projections.n_rows:
        raise ProjectionsError(
            f"{projections.title} has rows 0 to {projections.n_rows - 1} and no row "
            f"{first}. Choose another row for the rotation centre."
        )
    return first, min(first + n, projections.n_rows)


def _range(projections: Projections, config: CentreConfig) -> tuple[float, float]:
    margin = max(1.0, 0.05 * projections.n_columns)
    low = margin if config.low is None else config.low
    high = projections.n_columns - 1 - margin if config.high is None else config.high
    if not low <= high:
        raise ProjectionsError(
            f"{projections.title}: the search range for the rotation axis, columns "
            f"{low:g} to {high:g}, is empty. Choose a range within columns 0 … "
            f"{projections.n_columns - 1}."
        )
    return low, high


def _half_turn(
    sinogram: npt.NDArray[np.float32], projections: Projections
) -> npt.NDArray[np.float32]:
    """Return projections at evenly spaced angles over half a turn, by interpolation.

    Raises
    ------
    ProjectionsError
        If too much of the half turn is missing.
    """
    turned = along_turn(projections.angles)
    _, order = np.unique(np.round(turned, 6), return_index=True)
    angles = turned[order] - turned[order[0]]
    keep = angles < 180 + 1e-6
    order, angles = order[keep], angles[keep]
    reach = float(angles[-1])
    n = len(angles)
    # Also check the step from the last view to the mirror image of the first.
    if n < 4 or 180 - reach > 2.5 * reach / (n - 1):
        raise ProjectionsError(
            f"{projections.title}: its {projections.n_angles} projections cover "
            f"{reach:.4g} degrees; finding the rotation centre requires 180 degrees "
            "without gaps. Give the centre (--center COLUMN)."
        )
    if 180 - reach > 1e-6:
        n = min(n, int(180 / (180 - reach) + 1e-6))
    else:
        n -= 1
    targets = np.arange(n) * (180 / n)
    at = np.clip(np.searchsorted(angles, targets), 1, len(angles) - 1)
    gap = np.maximum(angles[at] - angles[at - 1], 1e-12)
    share = np.clip((targets - angles[at - 1]) / gap, 0, 1).astype(np.float32)
    before, after = sinogram[:, order[at - 1]], sinogram[:, order[at]]
    even: npt.NDArray[np.float32] = (
        before * (1 - share[:, None]) + after * share[:, None]
    )
    return even


def _search(
    score: WedgeScore, low: float, high: float, should_stop: ShouldStop
) -> tuple[Curve, Curve]:
    """Return the scores over the whole range, with finer steps around the minimum."""
    columns = np.arange(low, high + 1e-9, _COARSE_STEP)
    parts = []
    for some in np.array_split(columns, max(1, len(columns) // 64)):
        if should_stop():
            raise Cancelled("Stopped before the rotation centre was found.")
        parts.append(score(some))
    scores = np.concatenate(parts)
    best = columns[np.argmin(scores)]
    near = np.arange(max(low, best - 1), min(high, best + 1) + 1e-9, _FINE_STEP)
    columns = np.concatenate([columns, near])
    scores = np.concatenate([scores, score(near)])
    columns, first = np.unique(np.round(columns, 6), return_index=True)
    return columns, scores[first]


def _correlate(
    sinogram: npt.NDArray[np.float32],
    projections: Projections,
    method: str,
    low: float,
    high: float,
) -> tuple[Curve, Curve]:
    near, far = _opposite_views(sinogram, projections, method)
    if method == "opposite" and near.shape[1] > 1:
        # Subtract stripes, which are the same at all angles, unlike the sample.
        near = near - near.mean(axis=1, keepdims=True)
        far = far - far.mean(axis=1, keepdims=True)
    overlap = max(4, int(0.03 * projections.n_columns))
    columns, scores = opposite_correlation(near, far, overlap)
    inside = (columns >= low) & (columns <= high)
    return columns[inside], scores[inside]


def _opposite_views(
    sinogram: npt.NDArray[np.float32], projections: Projections, method: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return views that have an opposite view, and their opposite views."""
    angles = projections.angles
    partner = _opposition_errors(projections).argmin(axis=1)
    error = _nearest_opposition_error(projections)
    if method == "pair":
        chosen = np.array([int(error.argmin())])
    else:
        step = projections.angular_range / len(np.unique(np.round(angles % 360, 6)))
        is_first = np.arange(len(angles)) < partner
        chosen = np.flatnonzero((error <= 0.5 * step + 1e-3) & is_first)
    if not chosen.size or error[chosen].min() > _OPPOSITE:
        raise ProjectionsError(
            f"{projections.title} has no views from opposite sides (the closest pair "
            f"differs from 180 degrees by {error.min():.3g}). Use the method "
            "'wedge', or give the centre (--center COLUMN)."
        )
    return sinogram[:, chosen], sinogram[:, partner[chosen]]


def _opposition_errors(projections: Projections) -> Curve:
    """Return the deviation of the angle between any two views from 180°, (n, n)."""
    angles = projections.angles
    turns = np.abs(angles[None, :] - angles[:, None])
    return np.asarray(np.abs(turns % 360 - 180))


def _nearest_opposition_error(projections: Projections) -> Curve:
    """Return the smallest deviation from 180° of each view to any other, (n,)."""
    return np.asarray(_opposition_errors(projections).min(axis=1))


def _judge(
    projections: Projections, method: str, columns: Curve, scores: Curve
) -> Centre:
    lower = method == "wedge"
    towards = scores if lower else -scores
    if not len(scores) or not np.isfinite(scores).all() or np.ptp(scores) == 0:
        raise ProjectionsError(
            f"{projections.title}: the rotation axis cannot be determined; the "
            "projections may be empty. Give the centre (--center COLUMN)."
        )
    best = int(np.argmin(towards))
    contrast = float(np.median(towards) - towards[best])
    notes = []
    if contrast < _MIN_CONTRAST[method]:
        notes.append(
            f"The rotation axis, column {columns[best]:.2f}, is uncertain: no column "
            "fits much better than the others. Check it in a preview, or give the "
            "column (--center)."
        )
    if projections.geometry != "parallel":
        notes.append(
            f"The rotation axis, column {columns[best]:.2f}, was determined as for a "
            "parallel beam, which is only approximate here. Check it in a preview."
        )
    if best in (0, len(columns) - 1):
        notes.append(
            f"The best column, {columns[best]:.2f}, is at the end of the search "
            "range. Search a wider range."
        )
    return Centre(
        column=vertex(columns, scores, best),
        method=method,
        columns=columns,
        scores=scores,
        lower_is_better=lower,
        contrast=contrast,
        notes=tuple(notes),
    )
