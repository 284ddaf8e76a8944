"""Save and load checkpoints, and check settings that are fixed in resumed runs."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.errors import TrainingError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.learning.config import TrainingConfig
    from napari_geosr.learning.sampling.patches import TrainingSubject

FILE = "latest.pt"
_SCHEMA = 1
#: Settings that determine which patches are used for training and which are held out.
#: If they changed, a resumed run could train on its own validation data.
_DATA_SETTINGS = ("seed", "validation", "augment", "sampling", "patch")


def save(folder: Path, state: AnyDict) -> Path:
    """Replace the checkpoint in `folder`; on failure the previous one is kept.

    Raises
    ------
    FileError
        If it cannot be written, e.g. because the disk is full.
    """
    import torch

    with atomic.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for remnant in folder.glob(".*.partial"):
            remnant.unlink(missing_ok=True)  # from a run that was killed while writing
    path = folder / FILE
    with atomic.replacing(path, overwrite=True) as temporary:
        try:
            torch.save({"schema": _SCHEMA, **state}, temporary)
        except RuntimeError as error:  # raised by torch's zip writer on a full disk
            raise OSError(*_os_error_args(error)) from error
    return path


def load(folder: Path) -> AnyDict | None:
    """Return the state last saved in `folder`, or None; no code in the file is run.

    Raises
    ------
    TrainingError
        If the file is damaged, or was written by another release.
    """
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
            f"{path} is damaged ({type(error).__name__}). Delete it to start again."
        ) from error
    if state.get("schema") != _SCHEMA:
        raise TrainingError(
            f"{path} was written by another release of napari-geosr: start training "
            "again."
        )
    return state


def _os_error_args(error: RuntimeError) -> tuple[int, str]:
    text = str(error)
    full = "No space" in text or "unexpected pos" in text or "write" in text
    return (errno.ENOSPC, "no space left") if full else (errno.EIO, text)


def fixed_settings(
    config: TrainingConfig, scenes: Iterable[TrainingSubject]
) -> AnyDict:
    """Return settings that must not change during training, for checkpoints.

    For files, only their number is stored: paths may change, and the contents are
    compared elsewhere.
    """
    settings: AnyDict = {n: getattr(config, n) for n in _DATA_SETTINGS}
    roles: dict[str, list[str]] = {}
    for scene in scenes:
        for role, volume in scene.volumes.items():
            name = volume.name if is_simulated(volume.name) else ""
            roles.setdefault(role, []).append(name)
    return settings | {"roles": roles}


def check_settings_unchanged(
    config: TrainingConfig, current: AnyMapping, stored: AnyMapping
) -> None:
    """Compare settings with those in a checkpoint; older releases stored none.

    Parameters
    ----------
    config : TrainingConfig
        Settings that supply the titles used in messages.
    current, stored : mapping
        Results of `fixed_settings`.

    Raises
    ------
    TrainingError
        If a setting has changed; the message names the first one.
    """
    for name in (n for n in current if n in stored and current[n] != stored[n]):
        if name == "roles":
            changed = "different volumes"
        else:
            title = type(config).model_fields[name].title or name
            changed = f"{title.lower()} {stored[name]} (now {current[name]})"
        raise TrainingError(
            f"This training run began with {changed}, so it cannot be resumed. Use the "
            "original settings and data, or start a new training run in another folder."
        )


def find_non_finite(modules: Mapping[str, nn.Module]) -> str | None:
    """Return the name of the first module with NaN or infinite weights, if any."""
    import torch

    for name, module in modules.items():
        if not all(torch.isfinite(p).all() for p in module.parameters()):
            return name
    return None


def divergence_error(what: str, step: int, config: TrainingConfig) -> TrainingError:
    """Return the error for a training run in which `what` became NaN or infinite.

    Parameters
    ----------
    what : str
        Subject of the sentence, such as ``"The loss"``.
    step : int
    config : TrainingConfig
    """
    return TrainingError(
        f"{what} became NaN or infinite at step {step}. The last good checkpoint is "
        "kept; resume with half the learning rate: 'Resume with…' in the Jobs dock, or "
        "napari-geosr jobs resume JOB --learning-rate "
        f"{config.learning_rate / 2:.6g}."
    )
