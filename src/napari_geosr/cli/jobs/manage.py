"""``napari-geosr jobs list | show | watch | stop | resume | remove``."""

from __future__ import annotations

import json as json_module
import math
import shutil
import sys
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_geosr.cli.jobs.listing import (
    all_reasons,
    environment_text,
    explanations,
    kept_results,
    outages,
    queue_text,
    resume_hint,
    table,
    values_of,
)
from napari_geosr.cli.kit.console import print_json, print_notes, run_command
from napari_geosr.cli.kit.elsewhere import on_any_host
from napari_geosr.cli.kit.options import AS_FLAGS, Json
from napari_geosr.cli.kit.queue_options import Where
from napari_geosr.cli.kit.run_jobs import print_done, run_here
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.errors import JobDoneError, JobError
from napari_geosr.core.steps import (
    StageStarted,
    TrainingProgress,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.jobs import feasibility, index, local
from napari_geosr.jobs.cluster import queries, queue_record, remote, submission
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.reservation import check_only_writer
from napari_geosr.jobs.cost import cost_of
from napari_geosr.jobs.facts import RUN
from napari_geosr.jobs.index import describe_state, find
from napari_geosr.jobs.job_files import (
    check_inputs,
    check_is_job,
    check_same_input_steps,
    unfinished_results,
)
from napari_geosr.jobs.kinds import MAKE_MODELS, read_job, result_kind
from napari_geosr.jobs.queues import load_queue
from napari_geosr.jobs.settings import change_training
from napari_geosr.jobs.status import is_stopping, outage_text, stopping_text
from napari_geosr.operations.train.card_summary import summarise_card

if TYPE_CHECKING:
    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.jobs.folder import JobFolder, JobStatus

#: A job, given by its folder, output, name or number in a queue.
Job = Annotated[str, Parameter(help="Folder, output, name or queue number of the job.")]
_POLL_SECONDS = 0.3
#: Seconds between two queries to the queue of a cluster.
_QUEUE_SECONDS = 3.0
#: Seconds to wait for a job that is missing from its queue, because the queue may be
#: resubmitting it.
_DOUBT_SECONDS = 10.0
#: Hint below a list that contains missing jobs.
_MISSING_HINT = (
    "If you have moved a job, run `napari-geosr jobs show FOLDER` once with its new "
    "folder to add it to the list again. `jobs remove` removes a job from the list "
    "if its folder no longer exists."
)
#: Kinds of events that are also recorded between two runs of a job.
_BETWEEN_RUNS = ("state", "queue", "settings")
#: States for which `jobs watch` returns an error code.
_FAILED_STATES = ("failed", "interrupted", "damaged", "unreadable")


@on_any_host
def list_jobs(*, json: Json = False) -> int:
    """List the jobs on this computer with their states; return the exit code."""
    problems = queries.refresh(index.list_jobs())
    jobs = index.list_jobs()
    problems = outages(jobs) or problems
    if json:
        values = [values_of(status) for status in jobs]
        print_json({"jobs": values, "problems": problems})
        return 0
    if not jobs:
        print("No jobs yet: training runs, studies and submitted runs are listed here.")
        suggest_next("train --list")
        return 0
    # If the output goes to a file or a pipe, only long states are shortened.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join(table(jobs, width)))
    if any(status.state == "missing" for status in jobs):
        print(_MISSING_HINT)
    if known := [status for status in jobs if status.state != "missing"]:
        suggest_next(f"jobs show {quoted(known[0].path)}")
    print_notes((*problems, *explanations(jobs)))
    return 0


@on_any_host
def show_jobs(job: Job, /, *, json: Json = False) -> int:
    """Show the state, metrics and settings of a job; return the exit code."""
    folder = find(job)
    queries.refresh([folder.status()])
    status, last = folder.status(), _last_progress(folder)
    warnings = folder.warnings()
    if json:
        more = {"warnings": warnings, "progress": last, "config": folder.values()}
        print_json(values_of(status) | more)
        return 0
    rows: list[tuple[str, object]] = [
        ("name", status.name),
        ("method", status.method),
        ("state", describe_state(status)),
        ("folder", status.path),
    ]
    if status.total:
        rows.insert(3, ("steps", f"{status.done} of {status.total}"))
    if status.queue.number:
        rows.append(("queue", queue_text(status.queue)))
    rows += [("message", text) for text in all_reasons(status)]
    for name, value in last.get("losses", {}).items():
        rows.append((name, f"{value:.5g}"))
    if last.get("watts") is not None:
        watts = last["watts"]
        rows.append(("power", f"{watts:.0f} W" if watts >= 1 else "less than 1 W"))
    if (cost := cost_of(status)) is not None:
        rows.append(("energy", cost.text))
    if status.result is not None:
        rows.append((result_kind(status.operation), status.result))
    rows += [("warning", text) for text in warnings]
    for label, value in rows:
        print(f"{label:<12} {value}")
    if status.can_resume:
        print(resume_hint(status))
    return 0


@on_any_host
def watch_jobs(
    job: Job,
    /,
    *,
    json: Annotated[
        bool,
        Parameter(
            negative="",
            help="Print each step as one line of JSON: losses, learning rate, "
            "images per second, memory and, where known, power.",
        ),
    ] = False,
) -> int:
    """Follow a running job until it ends; Ctrl-C stops watching, not the job."""
    folder = find(job)
    if json:
        for event in _events(folder, never_stop):
            print(json_module.dumps(event), flush=True)
        return 1 if folder.status().state in _FAILED_STATES else 0
    run_command(
        lambda should_stop: _watch(folder, should_stop),
        stopping="stopped watching; the job keeps running",
    )
    status = folder.status()
    print(f"{status.name}: {describe_state(status)}")
    for text in all_reasons(status):
        print(text, file=sys.stderr)
    if status.can_resume:
        print(resume_hint(status), file=sys.stderr)
    if status.result is not None:
        print(f"{result_kind(status.operation).capitalize()}: {status.result}")
        if status.operation in MAKE_MODELS:
            print(summarise_card(status.result))
    return 1 if status.state in _FAILED_STATES else 0


@on_any_host
def cancel_jobs(job: Job, /) -> int:
    """Stop a job; finished work is kept, so that the job can be resumed."""
    folder = find(job)
    status = folder.status()
    elsewhere = index.elsewhere_of(folder.path)
    if elsewhere is not None:
        print_notes(remote.stop(elsewhere))
    else:
        submission.stop(folder)
    place = status.queue
    which = f" ({place.title} job {place.number})" if place.number else ""
    if elsewhere is None and not folder.status().is_alive:
        print(f"{status.name} has been cancelled{which}.")
    else:
        print(
            f"{status.name} is being cancelled{which}: it stops after its current "
            "tile, slice or training step, and keeps its finished work."
        )
    return 0


@on_any_host
def resume_jobs(
    job: Job,
    /,
    *,
    detach: Annotated[
        bool,
        Parameter(
            negative="",
            help="Run in the background and return at once; the job waits until "
            "other jobs have finished. Without --detach, it starts at once.",
        ),
    ] = False,
    learning_rate: Annotated[
        float | None,
        Parameter(
            help="New learning rate. Choose a lower rate if the loss became NaN."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, Parameter(help="New number of patches per step.")
    ] = None,
    steps: Annotated[int | None, Parameter(help="New total number of steps.")] = None,
    where: Annotated[Where | None, AS_FLAGS] = None,
    json: Json = False,
) -> int:
    """Resume a job; training can be resumed with other settings.

    A job that was submitted to the queue of a cluster is submitted again, with the same
    resources unless others are given; --queue local runs it on this computer instead.

    A finished job is left unchanged; its result is printed, and the exit code is 0.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    JobError
        If the job is already running, its settings cannot be read, or other settings
        are given for a finished job.
    """
    folder = index.find(job)
    check_is_job(folder)
    given = {"learning_rate": learning_rate, "batch_size": batch_size, "steps": steps}
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        if changes:
            change_training(folder, **changes)
        return _resume(folder, where, detach=detach, json=json)
    except JobDoneError:
        # Not an error unless settings would change: a script that resumes killed jobs
        # cannot know that one of them has finished.
        if changes and not (changes.items() <= folder.values()["training"].items()):
            raise
        return print_done(folder, json=json)


def _resume(folder: JobFolder, where: Where | None, *, detach: bool, json: bool) -> int:
    """Resume a job in this process, in the background or in a queue.

    Raises
    ------
    JobDoneError
        If the job is done, or another process is completing it.
    JobError
        If the job is already running, its settings cannot be read, or its input no
        longer exists.
    """
    queries.refresh([folder.status()])
    status = folder.status()
    folder.check_not_done()
    if status.is_unfinished_in_queue or status.silence:
        raise JobError(index.in_use_text(status, "be resumed"))
    is_waiting = status.state == "queued" and not (status.pid or status.queue.number)
    if is_stopping(status) and not is_waiting:  # a waiting job has no process to stop
        raise JobError(stopping_text(status))
    if not status.can_resume and not is_waiting:
        raise JobError(
            f"{status.name} is already {describe_state(status)}, so it cannot be "
            f"resumed. Follow it with: napari-geosr jobs watch {quoted(folder.path)}"
        )
    profile = _profile(folder, where, detach=detach)
    elsewhere = index.elsewhere_of(folder.path)
    if elsewhere is None:
        check_inputs(folder)
        check_only_writer(folder)
        run_command(lambda stop: check_same_input_steps(folder, stop))
    if elsewhere is not None and profile == submission.profile_of(folder):
        print_notes(remote.resume(elsewhere, in_queue=True))
        print(f"Submitted {status.name} on {elsewhere.host}.")
        return 0
    if profile is not None:
        if elsewhere is not None:
            raise JobError(
                f"{status.name} was submitted on {elsewhere.host}. To resume it with "
                "other queue settings, run this command on that computer. To resume "
                "it there with the same settings, omit these options."
            )
        if not status.done or status.operation in MAKE_MODELS:
            job, _ = read_job(folder.values(), folder.path)
            run_command(lambda _should_stop: feasibility.check_steps(job, profile))
        number = submission.submit(folder, profile)
        title = load_queue(profile.queue).title
        print(f"Submitted {status.name} as {title} job {number}.")
        return 0
    if submission.profile_of(folder) is not None:
        print_notes([environment_text(status)])
    folder.clear_request()  # drop earlier requests
    queue_record.forget_number(folder.path)
    index.register(folder)
    if detach:
        print(f"Resumed as process {local.start(folder)}.")
        return 0
    return run_here(folder, json=json)


def _profile(folder: JobFolder, where: Where | None, *, detach: bool) -> Profile | None:
    """Find the profile for submitting a job; None to run it on this computer."""
    before = submission.profile_of(folder)
    if where is None or not where.model_fields_set:
        return None if detach else before
    profile = where.resolve(before)
    return None if profile.queue == submission.LOCAL else profile


def remove_jobs(
    job: Job,
    /,
    *,
    force: Annotated[
        bool,
        Parameter(
            negative="",
            help="Delete the job's files even if the folder contains other files, "
            "which are kept.",
        ),
    ] = False,
) -> int:
    """Delete a job's folder with all of the job's files, and its unfinished result.

    A finished result that is not in the job's folder is kept.
    Missing and damaged jobs are only removed from the list; the files of damaged jobs
    are kept. If the folder contains other files, nothing is deleted without --force.
    """
    missing = index.find_missing(job)
    if missing is not None:
        index.forget(missing.path)
        print(
            f"Removed {missing.name} from the list; {missing.path} no longer existed."
        )
        return 0
    folder = index.find(job)
    if folder.status().state in index.UNVERIFIED and index.is_listed(folder.path):
        index.forget(folder.path)
        print(
            f"Removed {folder.path} from the list; its files were kept, because they "
            f"may not belong to a job: {folder.status().message}"
        )
        return 0
    queries.refresh([folder.status()])
    unfinished, results = unfinished_results(folder), kept_results(folder)
    kept = index.remove(folder, keep_foreign=force)
    if kept:
        print(f"Removed the job in {folder.path}; kept {index.format_names(kept)}")
    else:
        print(f"Removed {folder.path}")
    for part in unfinished:
        print(f"Removed the unfinished result {part}")
    for sentence in results:
        print(sentence)
    return 0


def _last_progress(folder: JobFolder) -> AnyDict:
    events, _ = folder.events()
    progress = [e for e in events if e.get("event") == "progress"]
    return progress[-1] if progress else {}


def _watch(folder: JobFolder, should_stop: ShouldStop) -> Generator[Step, None, None]:
    """Convert the events of another process to steps."""
    n_runs, is_running = 0, False
    for event in _events(folder, should_stop):
        # A killed run does not record its end, so each recorded start begins a run.
        # Earlier releases recorded no start: the first event after an end begins one.
        kind = event["event"]
        if kind == RUN or (not is_running and kind not in _BETWEEN_RUNS):
            n_runs += 1
            if n_runs > 1:
                yield StageStarted(message=f"Run {n_runs}")
        is_running = kind != "state" and (is_running or kind not in _BETWEEN_RUNS)
        if kind == "progress":
            yield TrainingProgress(
                int(event["step"]), int(event["total"]), losses=event["losses"]
            )
        elif kind == "warning":
            yield WarningIssued(message=str(event["message"]))
        elif kind in ("queue", "stage"):
            text = str(event["message"])
            yield StageStarted(message=f"{text[:1].upper()}{text[1:]}")


def _events(folder: JobFolder, should_stop: ShouldStop) -> Iterator[AnyDict]:
    """Yield past and new events until the job has ended and left its queue."""
    offset, said, next_question, alive_at = 0, "", 0.0, -math.inf
    outage = ""
    while not should_stop():
        events, offset = folder.events(offset)
        yield from events
        status = folder.status()
        if status.queue.queue:
            now = time.monotonic()
            if now >= next_question or not _is_unfinished(status):
                queries.refresh([status])
                next_question = now + _QUEUE_SECONDS
                status = folder.status()
            if _is_unfinished(status):
                alive_at = now
            if (words := describe_state(status)) != said and status.state == "queued":
                said = words
                yield {"event": "queue", "time": time.time(), "message": words}
            if (text := outage_text(status)) != outage:
                outage = text
                if text:
                    yield {"event": "queue", "time": time.time(), "message": text}
        # A queue may not find a job while it resubmits the job.
        is_in_doubt = status.state == "interrupted" and (
            time.monotonic() - alive_at < _DOUBT_SECONDS
        )
        if not (events or is_in_doubt or _is_unfinished(status)):
            return
        time.sleep(_POLL_SECONDS)


def _is_unfinished(status: JobStatus) -> bool:
    return status.is_alive or status.is_unfinished_in_queue
