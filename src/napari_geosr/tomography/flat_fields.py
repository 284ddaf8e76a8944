"""Flat and dark fields: convert counts to transmission; estimate counts per photon."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyArray

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: Pixels with at most this fraction of their row's median light (flat minus dark field)
#: are dead.
_DEAD_FRACTION = 0.01
#: Number of projections from which the counts without a sample are estimated, and the
#: fraction of their pixels that are brighter than the estimate.
_SAMPLE_VIEWS = 32
_BRIGHTER = 0.01
#: Maximum number of values from which the counts without a sample are estimated; for
#: large detectors, only every n-th row and column is used.
_SAMPLE_VALUES = 2**24
#: Minimum number of frames for estimating a variance.
_FRAMES = 3
#: Number of pixels per patch over which the variance is averaged; the median over all
#: patches is used, so that hot pixels do not affect it.
_PATCH = 256
#: Maximum number of values from which the variance is estimated; for more, only every
#: n-th row is used.
_VALUES = 2**23
#: Pixels with less than this fraction of the median light are ignored.
_LIT = 0.1
#: Counts are treated as photons if the estimated counts per photon differ from 1 by at
#: most this value.
_COUNT_TOLERANCE = 0.05
#: Limit of this difference in standard errors of the estimate; the larger of the two
#: limits applies.
_COUNT_ERRORS = 3.0


def transmission(
    projections: Projections,
    start: int,
    stop: int,
    *,
    frames: str = "mean",
    incident: float | None = None,
) -> tuple[FloatArray, BoolArray, AnyArray]:
    """Compute the transmission for some detector rows.

    Parameters
    ----------
    projections : Projections
        Projections as counts.
    start, stop : int
        First row and the row after the last.
    frames : str
        How flat and dark fields are combined: ``"mean"`` or ``"median"``.
    incident : float, optional
        Counts without a sample, required if there are no flat fields.

    Returns
    -------
    transmitted : ndarray of shape (row, angle, column), float32
        (I - dark) / (flat - dark); 0 at dead pixels.
    dead : ndarray of bool, shape (row, column)
        Dead pixels, according to the flat field.
    counts : ndarray of shape (angle, row, column)
        Counts as measured.

    Raises
    ------
    ProjectionsError
        If the flat field is nowhere brighter than the dark field, one of them contains
        NaN, or there is no signal.
    """
    counts = np.asarray(projections.data[:, start:stop, :])
    dark = _frame(projections, "dark", start, stop, frames)
    flat = _frame(projections, "flat", start, stop, frames)
    if flat is None:
        if incident is None:
            raise ProjectionsError(
                f"{projections.title} has no flat fields: give the counts without the "
                "sample (incident)."
            )
        light = np.full(counts.shape[1:], incident, np.float32)
    else:
        light = flat if dark is None else flat - dark
    usual = np.median(light, axis=1, keepdims=True)
    dead = light <= np.maximum(_DEAD_FRACTION * usual, 0)
    if dead.all():
        _require_light(projections, frames)
    measured = counts.transpose(1, 0, 2).astype(np.float32)
    if dark is not None:
        measured -= dark[:, None, :]
    # Dead pixels may contain any value, including NaN, which must not propagate.
    measured[np.broadcast_to(dead[:, None, :], measured.shape)] = 0
    measured /= np.where(dead, np.float32(1), light)[:, None, :]
    return measured, dead, counts


def incident_counts(projections: Projections) -> float:
    """Estimate the counts without a sample from the brightest pixels.

    Uses evenly spaced projections and the whole detector. Call this function before
    selecting rows; otherwise each selection would have a different beam intensity.

    Raises
    ------
    ProjectionsError
        If the projections are dark throughout.
    """
    n = projections.n_angles
    chosen = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE_VIEWS)).astype(int))
    pixels = projections.n_rows * projections.n_columns
    step = max(1, math.ceil(math.sqrt(len(chosen) * pixels / _SAMPLE_VALUES)))
    views = np.concatenate(
        [
            # Keep a copy, not a view, so that the whole projection is not kept in
            # memory.
            np.array(projections.data[i : i + 1, :, :][:, ::step, ::step], np.float32)
            for i in chosen.tolist()
        ]
    )
    dark = _frame(projections, "dark", 0, projections.n_rows, "mean")
    if dark is not None:
        views = views - dark[::step, ::step]
    finite = views[np.isfinite(views)]
    level = float(np.quantile(finite, 1 - _BRIGHTER)) if finite.size else 0.0
    if level <= 0:
        raise ProjectionsError(
            f"{projections.title} is dark: its projections contain no signal (no "
            "value above the dark field). Check that these are the right projections."
        )
    return level


def _frame(
    projections: Projections, word: str, start: int, stop: int, how: str
) -> FloatArray | None:
    """Return the mean or median of the flat or dark fields for some rows, or None."""
    stack = projections.flats if word == "flat" else projections.darks
    if stack is None:
        return None
    values = np.asarray(stack[:, start:stop, :], np.float32)
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))[0]
        raise ProjectionsError(
            f"{projections.title}: {word} field {bad[0]} contains NaN or infinite "
            f"values (row {start + bad[1]}, column {bad[2]}). Exclude that image, or "
            f"record the {word} fields again."
        )
    combine = np.median if how == "median" else np.mean
    frame: FloatArray = combine(values, axis=0).astype(np.float32)
    return frame


def _require_light(projections: Projections, how: str) -> None:
    """Raise `ProjectionsError` if no pixel of the whole detector has a signal."""
    flat = _frame(projections, "flat", 0, projections.n_rows, how)
    dark = _frame(projections, "dark", 0, projections.n_rows, how)
    if flat is None:
        return
    if not (flat > 0).any():
        raise ProjectionsError(
            f"{projections.title}: the flat fields contain no signal (every value is "
            "zero or below). Use flat fields that were recorded with the beam on."
        )
    if dark is not None and not (flat > dark).any():
        raise ProjectionsError(
            f"{projections.title}: the flat field is nowhere brighter than the dark "
            "field (they are identical or swapped). Use dark fields that were recorded "
            "with the beam off, and flat fields with the beam on."
        )


def counts_per_photon(projections: Projections) -> float | None:
    """Estimate the counts per photon from the variance and mean of the flat fields.

    The variance of the number of photons in a pixel equals its mean, and counts are the
    gain times that number. Flicker of the whole beam and the variance of the dark
    fields are removed.

    Returns
    -------
    float or None
        The estimate; 1 if counts may be photons; None without at least three flat
        fields that vary and contain light.
    """
    if projections.flats is None or projections.flats.shape[0] < _FRAMES:
        return None
    n_frames, n_rows = projections.flats.shape[:2]
    pixels = n_rows * projections.flats.shape[2]
    step = max(1, -(-n_frames * pixels // _VALUES))
    flats, noise = _flat(projections.flats[:, ::step]), 0.0
    if projections.darks is not None:
        darks = _flat(projections.darks[:, ::step])
        flats -= darks.mean(axis=0)
        if len(darks) >= _FRAMES:
            noise = float(np.median(_patches(darks.var(axis=0, ddof=1))))
    mean = flats.mean(axis=0)
    lit = mean > _LIT * np.median(mean)
    if not lit.any():
        return None
    flats, mean = flats[:, lit], mean[lit]
    flicker = flats.mean(axis=1) / mean.mean()
    if not (flicker > 0).all():
        return None
    variance = (flats / flicker[:, None]).var(axis=0, ddof=1)
    ratios = (_patches(variance) - noise) / _patches(mean)
    found = float(np.median(ratios))
    if not np.isfinite(found) or found <= 0:
        return None
    error = np.sqrt(2 / ((n_frames - 1) * mean.size))
    return (
        1.0 if abs(found - 1) <= max(_COUNT_TOLERANCE, _COUNT_ERRORS * error) else found
    )


def _flat(frames: object) -> Floats:
    values: Floats = np.asarray(frames, np.float64)
    return values.reshape(len(values), -1)


def _patches(values: Floats) -> Floats:
    """Return the means of patches of pixels."""
    edges = np.arange(0, max(len(values) - _PATCH, 0) + 1, _PATCH)
    sizes = np.diff(edges, append=len(values))
    found: Floats = np.add.reduceat(values, edges) / sizes
    return found
