"""Find the pattern of each angle, and decide how many harmonics to use."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import (
    BlockDone,
    NoteIssued,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.operations.sim.agreement import agreeing_fits, orders_remark
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.patterns import FringeFit, fit_fringe

FloatArray = npt.NDArray[np.float32]


def fit_steps(
    block: FloatArray,
    otf: Otf,
    variance: float,
    *,
    harmonics: int | None = None,
    near: PatternSet | None = None,
    is_first: bool = False,
    where: str = "",
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, list[FringeFit]]:
    """Find the pattern of each angle.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        Raw frames with the offset subtracted, without outliers.
    otf : Otf
    variance : float
        Noise of a pixel of a frame.
    harmonics : int, optional
        By default as many as in `near`, or 2 if most angles have two patterns in the
        same direction, otherwise 1.
    near : PatternSet, optional
        Approximate patterns.
    is_first : bool
        Whether to report a second pattern in each direction.
    where : str
        Names the channel in the report, as in ``" (channel 2)"``.
    should_stop : callable
    """
    yield StageStarted(message="Finding the patterns")
    if harmonics is None and near is not None:
        harmonics = near.harmonics
    fits = yield from _angle_steps(
        block, otf, variance, harmonics or 1, near, should_stop
    )
    message = orders_remark(fits, harmonics, where)
    if message and is_first:
        kind = NoteIssued if harmonics is None else WarningIssued
        yield kind(message=message)
    if message and harmonics is None:
        fits = yield from _angle_steps(block, otf, variance, 2, near, should_stop)
    return fits


def _angle_steps(
    block: FloatArray,
    otf: Otf,
    variance: float,
    harmonics: int,
    near: PatternSet | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, list[FringeFit]]:
    """Find the pattern of each angle with a given number of harmonics."""

    def search(angle: int, frequency: float | None = None) -> FringeFit:
        return fit_fringe(
            block[angle],
            otf,
            noise=variance,
            harmonics=harmonics,
            near=None if near is None else near.fringes[angle].wave_vector,
            frequency=frequency,
        )

    fits: list[FringeFit] = []
    for angle in range(len(block)):
        if should_stop():
            raise Cancelled("Stopped before the patterns were found.")
        fits.append(search(angle))
        yield BlockDone(angle + 1, len(block))
    return fits if near is not None else agreeing_fits(fits, search)
