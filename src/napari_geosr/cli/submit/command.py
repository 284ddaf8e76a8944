"""Turn a command into one that runs in a queue with the same arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_type_hints

from napari_geosr import io
from napari_geosr.cli.kit.console import print_json, print_notes, run_command
from napari_geosr.cli.kit.elsewhere import on_any_host
from napari_geosr.cli.kit.options import AS_FLAGS
from napari_geosr.cli.kit.queue_options import SubmitOptions
from napari_geosr.cli.kit.run_plan import rows_for_job
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.cli.submit.paths import absolute_path
from napari_geosr.core.errors import ConfigError, FileError, GeoSRError
from napari_geosr.core.text.counts import counted
from napari_geosr.io.unfinished_files.atomic import check_new_folder
from napari_geosr.io.unfinished_files.discarded import record_discarded
from napari_geosr.jobs import feasibility
from napari_geosr.jobs.cluster import submission
from napari_geosr.jobs.cluster.allocation import automatic_workers, with_workers
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.reservation import check_no_other_writer
from napari_geosr.jobs.cluster.torchrun import SHARED_OPERATIONS, count_processes
from napari_geosr.jobs.data import removed_on_failure
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import START_AGAIN, Job, PlacedJob
from napari_geosr.jobs.queues import load_queue
from napari_geosr.operations.restore.job import RestoreJob


@dataclass(frozen=True)
class SubmitRequest:
    """A job to be run elsewhere.

    Attributes
    ----------
    job : Job
        Validated settings of the job.
    name : str
        Name of the job.
    out : Path
        Path of the output; for training, the folder of the job.
    folder : Path or None
        Folder of the job, if the kind of job determines it.
    companions : tuple of Path
        Other volumes that the job writes; they are checked like the volume. Whether
        other files may be replaced is checked when the request is created.
    overwrite, resume : bool
        Whether a complete file or a partial file, respectively, may exist at `out`.
    """

    job: Job
    name: str
    out: Path
    folder: Path | None = None
    is_volume: bool = False
    companions: tuple[Path, ...] = ()
    overwrite: bool = False
    resume: bool = False


def submitted(
    verb: Callable[..., int], request: Callable[..., SubmitRequest]
) -> Callable[..., int]:
    """Create a command with the arguments of `verb` and the options of a queue.

    Parameters
    ----------
    verb : callable
        The command that runs on this computer.
    request : callable
        Turns the same arguments into a job. Arguments that this function does not
        accept are left out of the command: they do not apply to jobs, or require work
        that cannot be divided. Measurement jobs always write labels, for the dock.
    """
    hints = get_type_hints(verb, include_extras=True)
    accepted = {*inspect.signature(request).parameters, "json"}
    known = inspect.signature(verb).parameters.values()
    parameters = [p for p in known if p.name in accepted]

    def command(
        *args: object,
        where: SubmitOptions | None = None,
        json: bool = False,
        **kwargs: object,
    ) -> int:
        return _submit(request(*args, **kwargs), where or SubmitOptions(), json=json)

    extra = inspect.Parameter("where", inspect.Parameter.KEYWORD_ONLY, default=None)
    command.__signature__ = inspect.Signature([*parameters, extra])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: hints[p.name] for p in parameters} | {
        "where": Annotated[SubmitOptions | None, AS_FLAGS],
        "return": int,
    }
    command.__doc__ = verb.__doc__
    return on_any_host(command)


def _submit(request: SubmitRequest, where: SubmitOptions, *, json: bool) -> int:
    """Create the job and submit it, or print what would be done."""
    profile = where.resolve()
    _check_output(request)
    folder = _folder_of(request, where)
    operation = str(request.job.to_values().get("operation", ""))
    script = submission.script_of(request.name, folder, profile, operation)
    title = load_queue(profile.queue).title
    run_command(lambda _should_stop: feasibility.check_steps(request.job, profile))
    if where.dry_run:
        plan = _plan(request, folder, profile, title)
        if isinstance(request.job, RestoreJob):
            plan |= rows_for_job(request.job, profile)
        if json:
            print_json({**plan, "script": script})
        else:
            print("\n".join(f"{name:<10} {value}" for name, value in plan.items()))
            print(f"\n{script}", end="")
        return 0
    if getattr(request.job, "workers", None) is None and profile.queue != (
        submission.LOCAL
    ):
        processes = _processes(request.job, profile)
        print_notes([f"Processes: {processes}"] if processes else [])
    job = _create(request, folder)
    with removed_on_failure(job.path):
        if request.is_volume and request.overwrite and not request.resume:
            record_discarded(job.path, (request.out, *request.companions))
        number = submission.submit(job, profile)
    if json:
        print_json(
            {
                "job": str(job.path),
                "queue": profile.queue,
                "number": number,
                "output": str(request.out),
            }
        )
        return 0
    if profile.queue == submission.LOCAL:
        print(f"Started {request.name} as process {number}: {job.path}")
    else:
        print(f"Submitted {request.name} as {title} job {number}: {job.path}")
    suggest_next(f"jobs watch {quoted(job.path)}")
    return 0


def _plan(
    request: SubmitRequest, folder: Path, profile: Profile, title: str
) -> dict[str, str]:
    """Describe what would be done, as text for users."""
    values = request.job.to_values()
    resources = [counted(profile.nodes, "node"), counted(profile.cores, "core")]
    if profile.gpus:
        resources.append(counted(profile.gpus, "GPU"))
    resources.append(profile.memory or "the cluster's default memory")
    plan = {
        "job": f"{values['operation']}: {request.name}",
        "folder": str(folder),
        "output": str(request.out),
        "queue": title,
    }
    plan |= feasibility.describe_run(request.job, profile)
    if profile.queue == submission.LOCAL:
        return plan
    plan["resources"] = ", ".join(resources)
    if processes := _processes(request.job, profile):
        plan["processes"] = processes
    then = (
        f"{profile.warning_seconds} s before it expires, the job saves its finished "
        "work, and is resubmitted and resumed"
    )
    if values["operation"] in START_AGAIN:
        then = "the job must end within it, because a stopped run keeps nothing"
    plan["walltime"] = f"{profile.walltime}; {then}"
    return plan


def _processes(job: Job, profile: Profile) -> str:
    """Describe the processes that share a job; empty if there is nothing to report.

    If a job does not specify the number of workers, the resources determine it.
    """
    operation = str(job.to_values().get("operation", ""))
    unit = "GPU" if profile.gpus else "node"
    if operation in SHARED_OPERATIONS:
        n = count_processes(profile)
        return f"{n}, one on each {unit}" if n > 1 else ""
    given = getattr(job, "workers", None)
    if given is not None:
        return f"{counted(given, 'worker')} (--workers)"
    n = automatic_workers(operation, profile.nodes, profile.gpus)
    if not n or not hasattr(job, "workers"):
        return ""
    try:
        # If the profile names no Python interpreter, the nodes use the one running now.
        with_workers(job, n, is_here=not profile.python)
    except GeoSRError as error:
        used = "node" if profile.nodes > 1 else unit
        return f"one; only one {used} is used. {error}"
    return f"{counted(n, 'worker')}, one on each {unit}"


def _check_output(request: SubmitRequest) -> None:
    """Reject outputs that cannot be written or that another job is writing.

    With --overwrite, the finished part of an earlier run is discarded only when the job
    starts, because the submission may still be refused.
    """
    check_no_other_writer(_outputs(request), request.folder)
    if request.is_volume:
        continues = request.resume
        nbytes = 0
        if isinstance(request.job, RestoreJob) and not request.resume:
            nbytes = request.job.output_bytes()
        io.check_output(request.out, request.overwrite, nbytes, continues=continues)
        for path in request.companions:
            io.check_output(path, request.overwrite, continues=continues)
    elif request.folder is None:
        if not request.out.parent.is_dir():
            raise FileError(
                f"{request.out.parent} does not exist, so {request.out.name} cannot be "
                "written there. Create the folder first, or choose another one."
            )
        check_new_folder(request.out)


def _create(request: SubmitRequest, folder: Path) -> JobFolder:
    """Create the job's folder, unless the same job has just been submitted."""
    try:
        return JobFolder.create(folder, request.job.to_values(), name=request.name)
    except FileError:
        check_no_other_writer(_outputs(request), request.folder)
        raise


def _outputs(request: SubmitRequest) -> list[Path]:
    """Return everything that the job writes; for training, including its folder."""
    job = request.job
    return [request.out, *(job.outputs() if isinstance(job, PlacedJob) else ())]


def _folder_of(request: SubmitRequest, where: SubmitOptions) -> Path:
    """Choose a new folder for the job, by default next to its output."""
    if request.folder is not None:
        if where.job_folder is not None:
            raise ConfigError(
                "The output of training is the folder of its job. Omit --job-folder."
            )
        return request.folder
    if where.job_folder is not None:
        return absolute_path(where.job_folder)
    first = path = request.out.with_name(f"{request.name}.job")
    number = 1
    while path.exists():
        number += 1
        path = first.with_name(f"{request.name}-{number}.job")
    return path
