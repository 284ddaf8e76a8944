"""``python -m napari_geosr.jobs FOLDER``: run a job in this process."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_geosr.core.errors import GeoSRError, JobError
from napari_geosr.core.machine.processes import let_threads_sleep
from napari_geosr.jobs.cluster import queue_record, submission
from napari_geosr.jobs.cluster.torchrun import TORCHRUN, run_processes
from napari_geosr.jobs.facts import recorded
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import check_is_job
from napari_geosr.jobs.local import turn
from napari_geosr.jobs.queues import RESUBMIT, load_queue
from napari_geosr.jobs.run import is_worker, run_steps

#: Maximum wait, in seconds, for the starting process to release the job.
_MAX_START_SECONDS = 5.0
#: Seconds without a heartbeat after which a process on another host is considered dead
#: if the queue has replaced it with this one. A live process sends several heartbeats
#: in that time.
_MAX_SILENCE = 20.0


#: Maximum time, in seconds, by which the queue's warning before the walltime may be
#: early. SLURM sends it up to a minute early, because it checks its jobs every 30 s.
_MAX_EARLY = 90.0
#: Maximum time, in seconds, by which a queue may end a job before its walltime is over.
_MAX_KILL = 15.0


@dataclass
class _Asked:
    """Requests received as signals.

    There is no lock, because signal handlers must not wait.

    Attributes
    ----------
    warning_due : float
        Time at which the queue should warn this process, by `time.monotonic`. A warning
        that comes shortly before this time takes effect at this time; one that comes
        much earlier has another reason, such as a more urgent job, and takes effect
        immediately.
    walltime_end : float
        Time at which the walltime ends, by `time.monotonic`.
    terminated : bool
        Whether this process was asked to end.
    asks_pause : callable
        Returns whether the user has asked for a pause.
    warned : bool
        Whether the queue has warned this process.
    by_walltime : bool
        Whether the job was stopped by the warning, not by a pause that the user
        requested earlier.
    """

    warning_due: float = 0.0
    walltime_end: float = 0.0
    asks_pause: Callable[[], bool] = lambda: False
    terminated: bool = False
    warned: bool = False
    by_walltime: bool = False
    _stop_at: float = 0.0
    _terminated_at: float = 0.0
    _is_over: bool = False

    @property
    def stop(self) -> bool:
        """Whether to stop now."""
        is_over = self.warned and time.monotonic() >= self._stop_at
        if is_over and not self._is_over:
            self._is_over = True
            self.by_walltime = not self.asks_pause()
        return self.terminated or is_over

    @property
    def ended_by_queue(self) -> bool:
        """Whether the queue has ended this process before the end of its walltime.

        The job was cancelled in the queue, or has to give way to another one.
        """
        is_before = self._terminated_at < self.walltime_end - _MAX_KILL
        return self.terminated and (not self.warned or is_before)

    def to_stop(self, *_: object) -> None:
        if not self.terminated:
            self._terminated_at = time.monotonic()
            self.terminated = True

    def by_queue(self, *_: object) -> None:
        if not self.warned:
            now = time.monotonic()
            is_early = 0 < self.warning_due - now <= _MAX_EARLY
            self._stop_at = self.warning_due if is_early else now
            self.warned = True


def main(folder: str, *, in_queue: bool = False, torchrun: Sequence[str] = ()) -> int:
    """Wait for the job's turn and run it; SIGTERM pauses it.

    Parameters
    ----------
    folder : str
        Folder of the job.
    in_queue : bool
        Whether the queue of a cluster started this process. The process then does not
        wait for other jobs on this host. SIGUSR1, the queue's warning before the
        walltime, pauses the job, and the process ends with exit code 99 so that the job
        is resubmitted.
    torchrun : sequence of str
        Options of torchrun, which then runs the job in several processes; this process
        starts torchrun and forwards the requests of the queue.
    """
    try:
        job = JobFolder(folder)
        asked = _Asked(asks_pause=lambda: _is_pausing(job))
        signal.signal(signal.SIGTERM, asked.to_stop)
        if in_queue:
            asked.warning_due = time.monotonic() + submission.seconds_until_warning(job)
            asked.walltime_end = asked.warning_due + submission.warning_seconds(job)
            signal.signal(signal.SIGUSR1, asked.by_queue)
        if is_worker():  # started by torchrun; the first process owns the folder
            return _run(job, asked)
        check_is_job(job)
        if job.values().get("workers"):
            let_threads_sleep()
        if torchrun:
            return _run_processes_in_queue(job, asked, torchrun)
        with job.hold(_MAX_START_SECONDS):
            if in_queue:
                return _run_in_queue(job, asked)
            job.claim("queued")
            with turn(job, lambda: asked.stop) as request:
                if request:
                    job.set_state("cancelled" if request == "cancel" else "paused")
                    job.clear_request()
                    return 0
                return _run(job, asked)
    except GeoSRError as error:
        print(f"napari-geosr: {error}", file=sys.stderr)
        return error.exit_code


def _is_pausing(job: JobFolder) -> bool:
    """Return whether the user asked for a pause, even if the job has already paused."""
    return job.pending_request() == "pause" or recorded(job.path)[1] == "paused"


def _run_in_queue(job: JobFolder, asked: _Asked) -> int:
    began = time.monotonic()
    if submission.was_stopped(job):
        submission.note_stop(job)
        return 0
    submission.note_start(job)
    _replace_lost_process(job, asked)
    code = _run(job, asked)
    return _end_in_queue(job, asked, code, time.monotonic() - began)


def _end_in_queue(job: JobFolder, asked: _Asked, code: int, seconds: float) -> int:
    """Request another run if the walltime has ended this one, which took `seconds`."""
    # The job script repeats the warning until this process has ended. Before exiting,
    # Python resets all signal handlers except SIG_IGN.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Use the recorded state: the queue may already list the job as waiting.
    if recorded(job.path)[1] != "paused":
        return code
    if asked.ended_by_queue:
        title = job.status().queue.title
        message = (
            f"{title} ended this run before its walltime was over. The job was "
            "cancelled in the queue, or interrupted in favour of another job."
        )
        job.set_state("interrupted", pid=0, host="", message=message)
        job.append("state", state="interrupted", message=message)
    elif asked.by_walltime:
        again = submission.note_walltime(job, seconds)
        return RESUBMIT if again else JobError.exit_code
    return code


def _run_processes_in_queue(
    job: JobFolder, asked: _Asked, torchrun: Sequence[str]
) -> int:
    """Run a job in several processes, the first of which holds the job's lock."""
    began = time.monotonic()
    with job.hold(_MAX_START_SECONDS):
        job.check_not_done()
        if submission.was_stopped(job):
            submission.note_stop(job)
            return 0
        submission.note_start(job)
        _replace_lost_process(job, asked)
        if recorded(job.path)[1] == "paused":  # by an earlier run
            job.set_state("queued", pid=0, host="")
    queue = load_queue(queue_record.read_record(job.path).queue)
    profile = submission.profile_of(job)
    cores, gpus = (1, 0) if profile is None else (profile.cores, profile.gpus)

    def commands(script: Path, n_nodes: int) -> list[list[str]]:
        return queue.start_workers(script, n_nodes, cores, together=True)

    replaced: list[str] = []  # the earlier request, replaced by a request to pause

    def should_stop() -> bool:
        if asked.stop and not replaced:
            replaced.append(job.pending_request())
        return asked.stop

    threads = max(1, cores // max(1, gpus))
    try:
        code = run_processes(job, torchrun, commands, threads, should_stop)
    except GeoSRError as error:
        print(f"napari-geosr: {error}", file=sys.stderr)
        code = error.exit_code
    with job.hold(_MAX_START_SECONDS):
        if asked.stop and job.pending_request() == "pause":
            job.clear_request()  # no process that could read it has started
        if replaced == ["finish"] and recorded(job.path)[1] == "paused":
            job.request("finish")  # for the next run
        if job.status().state == "queued" and not asked.stop:
            message = (
                "The training processes could not be started. The reason is in log.txt "
                "in the job folder."
            )
            job.set_state("failed", pid=0, host="", message=message)
            job.append("state", state="failed", message=message)
        return _end_in_queue(job, asked, code, time.monotonic() - began)


def _replace_lost_process(job: JobFolder, asked: _Asked) -> None:
    """Take over from a process that was lost together with its node.

    The last heartbeat of the lost process may be so recent that other processes still
    consider it alive.
    """
    status = job.status()
    if status.state not in ("running", "finishing"):
        return
    deadline = time.monotonic() + _MAX_SILENCE
    while time.monotonic() < deadline and not asked.stop:
        if job.status().updated != status.updated:
            return  # the process is alive, so `claim` will raise an error
        time.sleep(0.5)
    job.set_state("queued", pid=0, host="")


def _run(job: JobFolder, asked: _Asked) -> int:
    try:
        for _ in run_steps(job, should_stop=lambda: asked.stop):
            pass
    except GeoSRError as error:
        print(f"napari-geosr: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _options(words: Sequence[str]) -> tuple[bool, Sequence[str]]:
    """Return whether a queue started this process, and the options of torchrun."""
    known = list(words)
    at = known.index(TORCHRUN) if TORCHRUN in known else len(known)
    return submission.IN_QUEUE in known[:at], known[at + 1 :]


if __name__ == "__main__":
    is_in_queue, options = _options(sys.argv[2:])
    sys.exit(main(sys.argv[1], in_queue=is_in_queue, torchrun=options))
