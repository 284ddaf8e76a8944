"""Run the job of a folder in this process and record its events."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from napari_geosr import io
from napari_geosr.core.errors import (
    Cancelled,
    FileError,
    GeoSRError,
    describe_system_error,
)
from napari_geosr.core.machine.heartbeats import Heartbeats
from napari_geosr.core.steps import (
    BlockDone,
    CheckpointSaved,
    JudgingProgress,
    JudgingStarted,
    PreviewReady,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    TrainingProgress,
    VerdictReached,
    WarningIssued,
    never_stop,
)
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.io.unfinished_files.claims import claimed
from napari_geosr.io.unfinished_files.discarded import discard_recorded
from napari_geosr.io.unfinished_files.journal import written_by_job
from napari_geosr.jobs.cluster.allocation import on_all_nodes
from napari_geosr.jobs.cost import recorded_time
from napari_geosr.jobs.facts import RUN, State, count, recorded
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import (
    advice_on_inputs,
    check_is_job,
    check_output_paths,
)
from napari_geosr.jobs.kinds import outputs_of, read_job
from napari_geosr.jobs.meter import JobMeter
from napari_geosr.jobs.speed import Speed
from napari_geosr.operations.cluster.passed_on import PRIVATE_FOLDERS

#: Seconds between checks for a request.
_POLL_SECONDS = 0.2
#: Seconds between heartbeats.
_BEAT_SECONDS = 5.0


def is_worker() -> bool:
    """Return whether this is a worker process, which records nothing."""
    return int(os.environ.get("RANK", "0")) > 0


class _Requests:
    """Watches for requests by the user or the caller to stop the job."""

    def __init__(self, job: JobFolder, should_stop: ShouldStop) -> None:
        self.job, self.should_stop = job, should_stop
        self.request = ""
        self._next = 0.0

    def __call__(self) -> bool:
        # After ``finish``, a request may still stop the evaluation of the model.
        if self.request in ("", "finish"):
            self._poll()
        return bool(self.request)

    def _poll(self) -> None:
        if self.should_stop():
            # A queue that cancels a job also ends its process.
            is_cancelled = self.job.pending_request() == "cancel"
            self.request = "cancel" if is_cancelled else "pause"
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _POLL_SECONDS
            self.request = self.job.pending_request() or self.request


class _CallerRequests(_Requests):
    """Stops only at the caller's request; another process handles those of the user."""

    def _poll(self) -> None:
        if self.should_stop():
            self.request = "pause"


def run_steps(
    job: JobFolder, *, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, Path | None]:
    """Run the job until it ends or a stop is requested, yielding its steps.

    A job that was started before resumes from its last checkpoint.

    Returns
    -------
    Path or None
        Path of the result; None if the job was paused or cancelled.

    Raises
    ------
    JobError
        If another process is running the job, or the job is done; the job is then
        unchanged.
    GeoSRError
        Raised by the operation; it is also recorded in the job's state.
    """
    if is_worker():
        # The process that records the job watches for requests on behalf of all
        # workers.
        with recorded_time(job.path):
            return (yield from _operation(job, _CallerRequests(job, should_stop)))
    check_is_job(job)
    check_output_paths(job)
    with job.hold():
        before = job.status()
        n_saved = count(recorded(job.path)[0].get("saved"))
        meter = JobMeter(before, n_saved)
        job.claim("running")
        with suppress(FileError):  # the run itself reports a full disk
            job.append(RUN)
        # A run on several nodes that was killed leaves the keys of its workers behind.
        for left in job.path.glob(PRIVATE_FOLDERS):
            shutil.rmtree(left, ignore_errors=True)
        with _heartbeats(job, meter), written_by_job(job.own_path):
            return (yield from _run(job, should_stop, meter))


def _heartbeats(job: JobFolder, meter: JobMeter) -> Heartbeats:
    """Return an object that sends heartbeats, even while the run reports no steps."""
    return Heartbeats(lambda: _send_heartbeat(job, **meter.facts()), _BEAT_SECONDS)


def _send_heartbeat(job: JobFolder, **facts: Any) -> None:
    """Send a heartbeat; a failed write does not stop the job.

    If the disk is full, the run itself reports the error.
    """
    with suppress(GeoSRError, OSError):
        job.send_heartbeat(**facts)


def _run(
    job: JobFolder, should_stop: ShouldStop, meter: JobMeter
) -> Generator[Step, None, Path | None]:
    requests = _Requests(job, should_stop)
    last_beat = 0.0
    # Until the first step, the progress of the earlier run is shown.
    before = job.status()
    last = Step(done=before.done, total=before.total)
    stage, speed = "", Speed()
    is_reported = False  # whether a failed preview was reported
    try:
        with StepIterator(_claiming(job, _operation(job, requests))) as iterator:
            for step in iterator:
                failure = _record_step(job, step)
                if failure and not is_reported:
                    is_reported = True
                    with suppress(FileError):  # the disk may be full
                        _record_step(job, WarningIssued(message=failure))
                    yield WarningIssued(message=failure)
                # These steps count voxels or rows, not training steps.
                is_separate = isinstance(step, JudgingProgress | BlockDone)
                if isinstance(step, StageStarted):
                    stage = step.message
                if step.total and not is_separate:
                    last = step
                elif isinstance(step, StageStarted) and last.total:
                    _send_heartbeat(job, done=last.done, total=last.total)
                now = time.monotonic()
                if step.total and now - last_beat > _BEAT_SECONDS:
                    message = _describe_progress(step, stage) if is_separate else ""
                    _send_heartbeat(
                        job, done=last.done, total=last.total, message=message
                    )
                    last_beat = now
                speed.record(job, step)
                meter.record(step)
                if type(step) is not Step:  # a plain `Step` is only recorded in the job
                    yield step
    except GeneratorExit:
        _set_final_state(job, "paused")
        raise
    except KeyboardInterrupt:  # not an error, because the checkpoint holds the progress
        _set_final_state(job, "interrupted", done=last.done, total=last.total)
        raise
    except BaseException as error:
        _record_failure(job, error)
        raise
    result = iterator.result
    if result is None:
        state: State = "cancelled" if requests.request == "cancel" else "paused"
        # If the queue stops the job, keep a request to finish for its next run.
        is_kept = requests.request == "pause" and bool(before.queue.number)
        kept = "finish" if is_kept else ""
        _set_final_state(job, state, kept, done=last.done, total=last.total)
    else:
        inside = result.is_relative_to(job.path)  # otherwise, the initial model
        result_path = (result.relative_to(job.path) if inside else result).as_posix()
        _set_final_state(
            job, "done", result=result_path, done=last.done, total=last.total
        )
    return result


def _claiming(
    job: JobFolder, steps: Generator[Step, None, Path | None]
) -> Generator[Step, None, Path | None]:
    """Keep other runs from writing the files of a job until the job has ended.

    If the job replaces the finished part of an earlier run, this part is then removed.
    Files in folders that do not exist yet are claimed by the operation.
    """
    with ExitStack() as stack:
        for path in outputs_of(job):
            if path.parent.is_dir():
                stack.enter_context(claimed(path))
        discard_recorded(job.path, outputs_of(job))
        return (yield from steps)


def _describe_progress(step: Step, stage: str) -> str:
    what = "Evaluating the model" if isinstance(step, JudgingProgress) else stage
    return f"{what}: {100 * step.done // step.total} %"


def _operation(
    job: JobFolder, requests: _Requests
) -> Generator[Step, None, Path | None]:
    spec, run = read_job(job.values(), job.path)
    try:
        with on_all_nodes(job, spec, requests) as shared:
            return (
                yield from run(
                    shared,
                    job.path,
                    should_stop=requests,
                    keep_unfinished=lambda: requests.request == "finish",
                )
            )
    except Cancelled:  # the job was stopped while its workers were starting
        return None


def _set_final_state(
    job: JobFolder, state: State, kept: str = "", **facts: Any
) -> None:
    """Record how a run has ended, and delete the current request unless it is `kept`.

    A job that the user stops ends as cancelled, even if a signal from the queue, or an
    error caused by stopping the job, ends the run first.
    """
    request = job.pending_request()
    if request == "cancel" and state != "done":
        state = "cancelled"
    # Write the state first, because it is small and may fit on a nearly full disk.
    known: dict[str, object] = {"message": ""}
    if state == "done":
        known["warnings"] = len(job.warnings())
    job.set_state(state, **(known | facts))
    with suppress(FileError):  # the state contains the same information
        # A request that was made just now is kept as well.
        if job.pending_request() == request and request != kept:
            job.clear_request()
        job.append("state", state=state, **facts)


def _record_failure(job: JobFolder, error: BaseException) -> None:
    """Record why the job failed, in the log if the state file cannot be written."""
    message = describe_system_error(error) or str(error) or type(error).__name__
    text = "" if isinstance(error, GeoSRError) else _traceback(error)
    if advice := advice_on_inputs(job):  # missing inputs are the cause
        text, message = f"{message}\n{text}", advice
    try:
        _set_final_state(job, "failed", message=message)
    except FileError as why:
        text += f"{message}\n{why}\n"
    with suppress(OSError):  # the error itself is still raised
        _log(job, text)


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _log(job: JobFolder, text: str) -> None:
    with (job.path / "log.txt").open(
        "a", encoding="utf-8", errors="backslashreplace"
    ) as stream:
        stream.write(text)


def _record_step(job: JobFolder, step: Step) -> str:
    """Convert a step to an event; write previews to a file.

    Returns
    -------
    str
        Warning if a preview could not be written (training continues), or empty.

    Raises
    ------
    FileError
        If an event cannot be written, for example on a full disk.
    """
    writer = _WRITERS.get(type(step))
    if writer is None:
        return ""
    try:
        writer(job, step)
    except FileError as error:
        if not isinstance(step, PreviewReady):
            raise
        return f"Training continues without new previews. {error}"
    return ""


def _progress(job: JobFolder, step: TrainingProgress) -> None:
    job.append(
        "progress",
        step=step.done,
        total=step.total,
        losses=dict(step.losses),
        learning_rate=step.learning_rate,
        images_per_second=step.images_per_second,
        seconds_left=step.seconds_left,
        memory=step.memory,
        watts=step.watts,
    )


def _preview(job: JobFolder, step: PreviewReady) -> None:
    with explained(job.preview):
        job.preview.parent.mkdir(exist_ok=True)
    io.write(step.volume, job.preview, overwrite=True)
    job.append("preview", step=step.done, path="previews/latest.tif")


def _stage(job: JobFolder, step: StageStarted) -> None:
    job.append("stage", message=step.message)


def _judging(job: JobFolder, step: JudgingStarted) -> None:
    with suppress(FileError):  # not fatal, like a failed heartbeat
        job.set_state("finishing", message=step.message)
    _stage(job, step)


def _warning(job: JobFolder, step: WarningIssued) -> None:
    with suppress(OSError):  # the event contains the same message
        _log(job, f"{step.message}\n")
    job.append("warning", message=step.message)


def _checkpoint(job: JobFolder, step: CheckpointSaved) -> None:
    job.append("checkpoint", step=step.done)


_WRITERS: dict[type[Step], Callable[[JobFolder, Any], None]] = {
    TrainingProgress: _progress,
    PreviewReady: _preview,
    StageStarted: _stage,
    JudgingStarted: _judging,
    VerdictReached: _stage,
    WarningIssued: _warning,
    CheckpointSaved: _checkpoint,
}
