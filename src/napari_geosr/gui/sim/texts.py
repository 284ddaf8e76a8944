"""Texts of the SIM dock about frames and results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_geosr.core.sim_frames import ORDER_PRESETS, SimFrames
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


def figures(result: SimResult) -> str:
    """Describe a result in one line."""
    facts = result.summary
    parts = [f"{METHOD_TITLES[result.method]}: {facts['seconds']:.1f} s"]
    if used := facts.get("iterations"):
        numbers = sorted({int(n) for n in np.ravel(used)})
        shown = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"
        parts.append(f"{shown} iterations")
    text = ", ".join(parts) + "."
    if (snr := facts.get("snr")) is not None:
        text += f" Signal-to-noise ratio of the frames: {snr:.3g}."
    return text + (_checks(result.checks) if result.checks is not None else "")


def _checks(checks: SimTrust) -> str:
    """Describe the residuals and the resolution in one line."""
    patterns = float(np.sqrt(np.square(checks.pattern_residuals).mean()))
    parts = [f"residual {checks.rms:.2f} times the noise"]
    if checks.held_out is not None:
        parts.append(f"{checks.held_out:.2f} for held-out frames")
    parts.append(f"residual of the patterns {patterns:.2f}")
    for name, value in (
        ("ring correlation", checks.frc_resolution),
        ("decorrelation", checks.decorrelation_resolution),
    ):
        if value is not None:
            parts.append(f"resolution {value:.3g} {checks.unit} (by {name})")
    text = "; ".join(parts)
    return f" {text[0].upper()}{text[1:]}."


def warnings_of(result: SimResult) -> tuple[str, ...]:
    """Return the warnings of the checks of a result."""
    return () if result.checks is None else tuple(result.checks.warnings)
