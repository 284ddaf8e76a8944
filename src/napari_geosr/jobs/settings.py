"""Change settings of a stopped job before it is resumed."""

from __future__ import annotations

from typing import Any

from napari_geosr.core.errors import JobError
from napari_geosr.core.types import AnyDict
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import read_job

#: Settings that the command line and the Jobs dock can change.
CHANGEABLE = ("learning_rate", "batch_size", "steps")


def change_training(job: JobFolder, **changes: Any) -> None:
    """Write new training settings into ``config.yaml`` and record the old ones.

    The new settings take effect when training resumes from the last checkpoint;
    ``events.jsonl`` records the change.

    Parameters
    ----------
    **changes : object
        Fields of the method's config.

    Raises
    ------
    ConfigError
        If a value is invalid; nothing is changed.
    JobError
        If a process is running the job, the job is done or is not a training run, or it
        has already done more than the new number of steps.
    """
    with job.hold():
        job.check_not_done()
        status, values = job.status(), job.values()
        if status.is_alive and status.pid:
            raise JobError(f"{status.name} is {status.state}. Pause it first.")
        if "training" not in values:
            raise JobError(
                f"{status.name} is not a training run, so {' and '.join(changes)} "
                "cannot be changed. Resume it as it is, or start it again with "
                "different settings."
            )
        before = values["training"]
        new = {k: v for k, v in changes.items() if before.get(k) != v}
        if not new:
            return
        if new.get("steps", status.done) < status.done:
            raise JobError(
                f"{status.name} has already done {status.done} steps. Specify at "
                "least that many."
            )
        values["training"] = {**before, **new}
        _check(job, values)
        job.replace_values(values)
        changed = {k: {"before": before.get(k), "after": v} for k, v in new.items()}
        job.append("settings", step=status.done, changed=changed)


def _check(job: JobFolder, values: AnyDict) -> None:
    read_job(values, job.path)
