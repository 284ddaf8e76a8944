"""``napari-geosr train METHOD --projections PATH`` and ``train ganrec``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_geosr.cli.options import AS_FLAGS, SettingsPath
from napari_geosr.cli.run_jobs import HOW_TO_RUN, start
from napari_geosr.core.config import load_yaml
from napari_geosr.core.errors import ConfigError
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import register
from napari_geosr.jobs.naming import taken_names
from napari_geosr.operations.ganrec import GanrecConfig, GanrecJob
from napari_geosr.operations.train.fine_tune import OF_THE_NETWORK, fine_tune_settings
from napari_geosr.operations.train.from_projections import (
    ProjectionsTrainJob,
    ScansConfig,
)
from napari_geosr.operations.train.name import proposed_name, without_no_name

if TYPE_CHECKING:
    from napari_geosr.jobs.folder import JobFolder


def ganrec(
    *,
    out: Path,
    config: GanrecConfig | None = None,
    settings: Path | None = None,
    detach: bool = False,
    prepare: bool = False,
    json: bool = False,
) -> int:
    """Fit networks to the projections of one object: a volume, and no model."""
    given = {} if config is None else config.model_dump(exclude_unset=True)
    kept: dict[str, Any] = {}
    if settings is not None:
        kept = _training_of(settings)
    values = {"training": kept | given}
    job = GanrecJob.from_values(values)
    job.check()
    folder = JobFolder.create(out, job.to_values(), name=job.training.name)
    register(folder)
    return start(folder, detach=detach, prepare=prepare, json=json)


ganrec.__annotations__ = {
    "out": Annotated[Path, Parameter(help="Folder of the job; must be new.")],
    "config": Annotated[GanrecConfig | None, AS_FLAGS],
    "settings": SettingsPath,
    **HOW_TO_RUN,
    "return": int,
}


def _training_of(settings: Path) -> dict[str, Any]:
    """The part of a job's ``config.yaml`` that says how to train."""
    try:
        values = load_yaml(settings.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(
            f"{settings} is not a readable YAML config: {error}"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{settings} holds no settings: a mapping was expected.")
    found = values.get("training", values)
    return {k: v for k, v in dict(found).items() if k != "schema_version"}


def new_job_from_scans(
    method: str, out: Path, config: Any, scans: ScansConfig, settings: Path | None
) -> JobFolder:
    """Make the folder of a job that learns from projections."""
    given = {} if config is None else config.model_dump(exclude_unset=True)
    kept = {} if settings is None else without_no_name(_training_of(settings))
    values = {k: v for k, v in kept.items() if k not in ("source", "target")} | given
    if values.get("from_model") and not values.keys() & OF_THE_NETWORK:
        values = fine_tune_settings(values["from_model"], method) | values
    if "name" not in values and scans.projections is not None:
        values["name"] = proposed_name(method, [scans.projections], taken_names())
    job = ProjectionsTrainJob.create_for(method, scans, values)
    job.check()
    folder = JobFolder.create(out, job.to_values(), name=job.training.name)
    register(folder)
    return folder
