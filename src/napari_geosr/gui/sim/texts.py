"""Texts of the SIM dock about frames and results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_geosr.core.sim_frames import ORDER_PRESETS, SimFrames
from napari_geosr.core.text.figures import Figure
from napari_geosr.operations.sim import METHOD_TITLES, SimResult
from napari_geosr.operations.sim.trust import SimTrust

#: Warnings about patterns that no longer belong to the frames or settings.
CHANGED = (
    "The frames or settings changed during the search, so its result was discarded. "
    "Find the patterns again."
)
CORRECTION_LOST = (
    "The frames or settings changed, so the corrected patterns were discarded. Find "
    "the patterns again, and check them."
)
#: Residuals of a result, and what they mean.
_RESIDUALS = {
    "Residual": "RMS difference between the frames and those expected from the result; "
    "about 1 if the result explains the frames.",
    "Residual of held-out frames": "Residual of frames that were not used for the "
    "reconstruction.",
    "Residual of the patterns": "Residual of an object fitted with these patterns; "
    "does not depend on the method.",
}


def arrangement(frames: SimFrames, notes: Sequence[str] = ()) -> str:
    """Describe how the frames are arranged, followed by notes."""
    order = ORDER_PRESETS.get(frames.order, frames.order)
    parts = [f"{frames.angles} angles × {frames.phases} phases", f"order: {order}"]
    for number, word in (
        (frames.n_planes, "slices"),
        (frames.n_times, "time points"),
        (frames.n_channels, "channels"),
    ):
        if number > 1:
            parts.append(f"{number} {word}")
    if frames.offset:
        parts.append(f"camera offset {frames.offset:.4g}")
    return " ".join(["; ".join(parts) + ".", *notes])


def figures(result: SimResult) -> list[Figure]:
    """Return the method, the measured values and the checks of a result."""
    facts = result.summary
    found = [
        Figure("Method", METHOD_TITLES[result.method]),
        Figure("Duration", f"{facts['seconds']:.1f}", "s"),
    ]
    if used := facts.get("iterations"):
        numbers = sorted({int(n) for n in np.ravel(used)})
        shown = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"
        found.append(Figure("Iterations", shown))
    if (snr := facts.get("snr")) is not None:
        found.append(Figure("Signal-to-noise ratio of the frames", f"{snr:.3g}"))
    return found if result.checks is None else [*found, *_checks(result.checks)]


def _checks(checks: SimTrust) -> list[Figure]:
    """Return the residuals and the resolution."""
    patterns = float(np.sqrt(np.square(checks.pattern_residuals).mean()))
    found = [
        Figure(label, f"{value:.2f}", "× noise", help=_RESIDUALS[label])
        for label, value in zip(
            _RESIDUALS, (checks.rms, checks.held_out, patterns), strict=True
        )
        if value is not None
    ]
    return found + [
        Figure(f"Resolution ({name})", _digits(value), checks.unit)
        for name, value in (
            ("ring correlation", checks.frc_resolution),
            ("decorrelation", checks.decorrelation_resolution),
        )
        if value is not None
    ]


def _digits(value: float) -> str:
    """Return a number with three significant digits, without a trailing point."""
    return f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")


def warnings_of(result: SimResult) -> tuple[str, ...]:
    """Return the warnings of the checks of a result."""
    return () if result.checks is None else tuple(result.checks.warnings)
