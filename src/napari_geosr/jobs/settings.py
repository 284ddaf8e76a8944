"""Changes settings of a stopped job before it is resumed."""

from __future__ import annotations

from typing import Any

from napari_geosr.core.errors import JobError
from napari_geosr.core.types import AnyDict
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import read_job

#: Settings that the command line and Jobs dock can change; many others are refused.
CHANGEABLE = ("learning_rate", "batch_size", "steps")


def change_training(job: JobFolder, **changes: Any) -> None:
    """Write new training settings into ``config.yaml``, and record the old ones.

    They hold from the last checkpoint on; ``events.jsonl`` says when they were changed.

    Parameters
    ----------
    **changes : object
        Fields of the method's config.

    Raises
    ------
    ConfigError
        If one is not allowed; nothing is changed then.
    JobError
        If a process works on the job, it is done or no training, or has done more
        steps than it is to do.
    """
    with job.hold():
        job.refuse_done()
        status, values = job.status(), job.values()
        if status.is_alive and status.pid:
            raise JobError(f"{status.name} is {status.state}: pause it first.")
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
                f"{status.name} has already done {status.done} steps: give at least "
                "as many."
            )
        values["training"] = {**before, **new}
        _check(job, values)
        job.replace_values(values)
        changed = {k: {"before": before.get(k), "after": v} for k, v in new.items()}
        job.append("settings", step=status.done, changed=changed)


def _check(job: JobFolder, values: AnyDict) -> None:
    read_job(values, job.path)
