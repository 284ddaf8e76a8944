"""Adapts a denoiser to a scan until the expected error on the scan stops decreasing.

`risk` estimates the error on held-out blocks; `run` trains until this error stops
decreasing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_geosr.learning.methods import config_class
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.train.fine_tune import fine_tune_settings
from napari_geosr.operations.train.job import TrainJob
from napari_geosr.operations.train.name import proposed_name

METHOD = "adapt"


def adaptation_job(
    model: str | Path,
    source: Sequence[Path],
    second: Sequence[Path] = (),
    *,
    reading: InputConfig | None = None,
    **settings: Any,
) -> TrainJob:
    """Create a job that adapts `model` to scans, using the same network.

    Parameters
    ----------
    model : str or Path
        Name of a model in the zoo, or its bundle.
    source, second : sequence of Path
        Scans, and second scans of the same objects in the same order.
    **settings
        Further fields of the method's config, such as ``minutes`` and ``name``.

    Raises
    ------
    ModelError, ConfigError
        If there is no such model, or it cannot be trained further.
    """
    values = fine_tune_settings(model, METHOD) | settings
    values |= {"source": tuple(source), "target": tuple(second)}
    values.setdefault("name", proposed_name(METHOD, source))
    training = config_class(METHOD).create(**values)
    job = TrainJob(method=METHOD, training=training, reading=reading or InputConfig())
    return job.with_absolute_paths()
