"""Train a network by a learning method and write it as a model bundle."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lazy_loader

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.methods import config_class, loss_title, needs, purposes
from napari_geosr.models import bundle
from napari_geosr.operations.train.fine_tune import NETWORK_FIELDS, fine_tune_settings
from napari_geosr.operations.train.job import TrainJob, networks, open_roles, roles
from napari_geosr.operations.train.name import proposed_name

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.models.bundle import Model
    from napari_geosr.operations.train.run import train_steps

# Loaded lazily because it imports torch.
__getattr__, _, _ = lazy_loader.attach(__name__, submod_attrs={"run": ["train_steps"]})

__all__ = [
    "TrainJob",
    "TrainingConfig",
    "config_class",
    "loss_title",
    "needs",
    "networks",
    "open_roles",
    "purposes",
    "roles",
    "train_steps",
    "training_steps",
]


def training_steps(
    method: str,
    folder: str | Path,
    *,
    in_memory: Mapping[Path, Volume] | None = None,
    should_stop: ShouldStop = never_stop,
    **settings: Any,
) -> Generator[Step, None, Model]:
    """Train with the given settings and return the model.

    After an interruption, call the function again to resume training.

    Parameters
    ----------
    method : str
        A name listed by `needs`.
    folder : str or Path
        Receives checkpoints and the model's bundle.
    in_memory : mapping of Path to Volume, optional
        Volumes passed directly, by their entry in ``source`` or ``target``
        (`in_memory.entry_for`).
    should_stop : callable
    **settings
        Fields of the method's config: ``source``, ``target``, ``steps``, …; without a
        ``name`` the model is named after the method and the first source.

    Returns
    -------
    Model

    Raises
    ------
    ConfigError, FileError, VolumeError, TrainingError, DeviceMemoryError
        If the run fails; the message states the problem and what to do.
    Cancelled
        If `should_stop` returns True; the last checkpoint is kept.
    """
    from napari_geosr.operations.train.run import train_steps

    if settings.get("from_model") and not settings.keys() & NETWORK_FIELDS:
        settings = fine_tune_settings(settings["from_model"], method) | settings
    training = config_class(method).create(**settings)
    if "name" not in settings:
        name = proposed_name(method, training.source)
        training = training.model_copy(update={"name": name})
    job = TrainJob(method=method, training=training).with_absolute_paths()
    opened = job.check(in_memory)
    path = yield from train_steps(
        job, Path(folder), should_stop=should_stop, opened=opened
    )
    if path is None:
        raise Cancelled("Training was stopped.")
    return bundle.load(path)
