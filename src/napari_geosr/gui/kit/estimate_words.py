"""What an estimate says to people. No Qt here."""

from __future__ import annotations

from napari_geosr.core.config import format_bytes
from napari_geosr.gui.kit.duration import duration
from napari_geosr.jobs.estimate import TrainingEstimate


def estimate_text(estimate: TrainingEstimate) -> str:
    """Time and memory of a training, and what else took part in the measurement."""
    text = (
        f"Estimate: {duration(estimate.seconds)} and "
        f"{format_bytes(estimate.memory)} of memory, from {estimate.steps} steps "
        "timed on this machine as busy as it is now"
    )
    if not estimate.beside:
        return text
    names = " and ".join(repr(name) for name in estimate.beside)
    trains = "trains" if len(estimate.beside) == 1 else "train"
    return (
        f"{text}. {names} {trains} on it meanwhile: alone it is faster, and when "
        "started it waits for its turn"
    )
