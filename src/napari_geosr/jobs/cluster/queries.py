"""Query the queues of clusters about the states of jobs."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from napari_geosr.core.errors import ConfigError, FileError, JobError
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queue_record
from napari_geosr.jobs.queues import load_queue
from napari_geosr.jobs.status import JobStatus

#: Seconds after a query during which the queue is not queried again.
_FRESH_SECONDS = 1.5
#: Seconds for which a queue that no longer finds a job is still queried about it.
_DOUBT_SECONDS = 300.0
#: Time between two queries by a dock, as a fraction of the time since a job last
#: changed.
_WAIT_FRACTION = 1 / 30
#: Maximum time between two queries by a dock, in seconds.
_MAX_WAIT = 30.0


class QueueWatch:
    """Queries queues on behalf of a dock, less often while nothing changes.

    Queries start again at once if the state of any job changes, or if a job is asked
    to stop.
    """

    def __init__(self) -> None:
        self._known: list[tuple[object, ...]] = []
        self._changed = self._asked = -math.inf

    def refresh(self, jobs: Iterable[JobStatus]) -> None:
        """Query the queues if it is time to do so; see `refresh`."""
        jobs, now = list(jobs), time.monotonic()
        known: list[tuple[object, ...]] = [
            (job.path, job.state, job.queue.number, job.queue.words, job.request)
            for job in jobs
            if job.queue.number
        ]
        if known != self._known:
            self._known, self._changed, self._asked = known, now, -math.inf
        wait = min(_WAIT_FRACTION * (now - self._changed), _MAX_WAIT)
        if now - self._asked >= wait:
            self._asked = now
            refresh(jobs)


def refresh(statuses: Iterable[JobStatus]) -> list[str]:
    """Query the queues about waiting and running jobs, with one call per queue.

    A job that has stopped is queried as well until it has left the queue: if the queue
    ends a run, the job is paused and may wait in the queue to start again.

    Returns
    -------
    list of str
        The reason for each failed query. The last known states are then kept, and the
        reason is noted in the folders of the jobs.
    """
    due: dict[str, dict[Path, JobStatus]] = defaultdict(dict)
    for status in statuses:
        is_due = may_be_in_queue(status) or _is_doubtful(status)
        if not is_due or _is_fresh(status):
            continue
        if index.elsewhere_of(status.path) is None:
            due[status.queue.queue][status.path] = status
    problems = []
    for name, jobs in due.items():
        try:
            query(name, jobs)
        except (ConfigError, FileError, JobError) as error:
            if any(status.is_alive for status in jobs.values()):
                problems.append(str(error))
            for path in jobs:
                queue_record.write_problem(path, error)
    return problems


def query(name: str, jobs: Mapping[Path, JobStatus]) -> None:
    """Query a queue about jobs, and record their states.

    Raises
    ------
    ConfigError, JobError
        If the queue is unknown, or does not respond.
    FileError
        If the record of a job cannot currently be read.
    """
    submitted = {path: queue_record.read_record(path).number for path in jobs}
    numbers = {path: status.queue.number for path, status in jobs.items()}
    for path, state in load_queue(name).states(numbers).items():
        queue_record.write_state(
            path,
            state.phase,
            state.words,
            jobs[path].updated,
            submitted=submitted[path],
            number=state.number,
        )


def _is_fresh(status: JobStatus) -> bool:
    """Return whether the queue's last answer is recent enough to still be valid."""
    # The last answer is no longer valid for a job that has stopped since then.
    is_valid = status.is_alive or status.queue.has_ended or status.queue.is_unfinished
    return is_valid and 0 <= time.time() - status.queue.checked < _FRESH_SECONDS


def _is_doubtful(status: JobStatus) -> bool:
    """Return whether a queue may be resubmitting a job that it no longer finds."""
    place = status.queue
    is_new = time.time() - place.since < _DOUBT_SECONDS
    has_number = bool(place.number)
    return has_number and place.has_ended and status.state == "interrupted" and is_new


def may_be_in_queue(status: JobStatus) -> bool:
    """Return whether the job may still be in its queue."""
    if not status.queue.number:
        return False
    if status.queue.has_ended:
        return False
    return status.is_alive or status.state in ("paused", "cancelled", "interrupted")
