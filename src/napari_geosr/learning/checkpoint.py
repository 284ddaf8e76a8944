"""Checkpoints: one file, replaced in one step, so that there is always a whole one."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.core.errors import TrainingError
from napari_geosr.core.types import AnyDict
from napari_geosr.io import atomic

FILE = "latest.pt"
_SCHEMA = 1


def save(folder: Path, state: AnyDict) -> Path:
    """Replace the checkpoint in `folder`; on any failure the one before stays.

    Raises
    ------
    FileError
        If it cannot be written, e.g. because the disk is full.
    """
    import torch

    with atomic.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for remnant in folder.glob(".*.partial"):
            remnant.unlink(missing_ok=True)  # of a run that was killed while writing
    path = folder / FILE
    with atomic.replacing(path, overwrite=True) as temporary:
        try:
            torch.save({"schema": _SCHEMA, **state}, temporary)
        except RuntimeError as error:  # what torch's zip writer raises on a full disk
            raise OSError(*_reason(error)) from error
    return path


def load(folder: Path) -> AnyDict | None:
    """Return the state last saved in `folder`, or None; nothing in it is executed.

    Raises
    ------
    TrainingError
        If the file is damaged.
    """
    import pickle

    import torch

    path = folder / FILE
    if not path.exists():
        return None
    try:
        state: AnyDict = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        ValueError,
    ) as error:
        raise TrainingError(
            f"{path} is damaged ({type(error).__name__}). Remove it to start again."
        ) from error
    if state.get("schema") != _SCHEMA:
        raise TrainingError(f"{path} was written by another release; start again.")
    return state


def _reason(error: RuntimeError) -> tuple[int, str]:
    import errno

    text = str(error)
    full = "No space" in text or "unexpected pos" in text or "write" in text
    return (errno.ENOSPC, "no space left") if full else (errno.EIO, text)
