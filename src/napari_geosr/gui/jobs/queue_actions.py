"""Submit jobs to queues and stop them, in a worker because queues may be slow."""

from __future__ import annotations

from collections.abc import Callable, Generator

from napari.utils.notifications import show_info
from qtpy.QtCore import QObject

from napari_geosr.core.steps import Step, WarningIssued
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.jobs import index, local
from napari_geosr.jobs.cluster import remote, submission
from napari_geosr.jobs.folder import JobFolder, JobStatus

#: References to running tasks; without one, the callbacks of a task would be lost.
_running: set[BackgroundTask] = set()


def resume(
    job: JobFolder,
    owner: QObject,
    on_error: Callable[[Exception], None],
    on_finished: Callable[[], None] | None = None,
    on_note: Callable[[str], None] = show_info,
) -> None:
    """Resume a job where it ran before: on this computer, or in its queue.

    Parameters
    ----------
    owner : QObject
        Owner of the worker.
    on_error : callable
        Called with the error if the job cannot be started, or if its queue does not
        accept it.
    on_finished : callable, optional
        Called once the job has started, or after an error.
    on_note : callable
        Called with a message if the computer of the job has another version of
        napari-geosr; by default, napari shows the message.

    Raises
    ------
    GeoSRError
        If the profile of the job's last submission is damaged.
    """
    elsewhere = index.elsewhere_of(job.path)
    if elsewhere is not None:
        _run(
            lambda: remote.resume(elsewhere, in_queue=True),
            owner,
            on_error,
            on_finished,
            on_note,
        )
        return
    profile = submission.profile_of(job)
    if profile is None:
        _run(lambda: local.start(job), owner, on_error, on_finished)
        return
    known = profile
    _run(lambda: submission.submit(job, known), owner, on_error, on_finished)


def is_without_process(status: JobStatus) -> bool:
    """Whether the job is waiting, so that no process can act on a request to pause."""
    is_unstarted = status.state == "queued" and not status.pid
    return is_unstarted or status.is_waiting_in_queue


def stop(
    job: JobFolder,
    owner: QObject,
    on_error: Callable[[Exception], None],
    on_note: Callable[[str], None] = show_info,
) -> None:
    """Ask a job to stop and cancel it in its queue.

    The other parameters are as for `resume`.
    """
    elsewhere = index.elsewhere_of(job.path)
    if elsewhere is not None:
        _run(lambda: remote.stop(elsewhere), owner, on_error, on_note=on_note)
        return
    _run(lambda: submission.stop(job), owner, on_error)


def _run(
    action: Callable[[], object],
    owner: QObject,
    on_error: Callable[[Exception], None],
    on_finished: Callable[[], None] | None = None,
    on_note: Callable[[str], None] = show_info,
) -> None:
    def steps(_stop: object) -> Generator[Step, None, None]:
        notes = action()
        if isinstance(notes, list):  # notes from the other computer
            yield from (WarningIssued(message=note) for note in notes)

    def show(step: Step) -> None:
        if isinstance(step, WarningIssued):
            on_note(step.message)

    def finish() -> None:
        _running.discard(task)
        if on_finished is not None:
            on_finished()

    task = BackgroundTask(
        steps, owner=owner, on_step=show, on_error=on_error, on_finished=finish
    )
    _running.add(task)
