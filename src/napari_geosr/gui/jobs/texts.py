"""Texts and curves of one job."""

from __future__ import annotations

import re
from collections.abc import Sequence

from napari_geosr.core.config import format_bytes
from napari_geosr.gui.jobs.watch import JobWatch
from napari_geosr.gui.kit.plots.loss_plot import Line
from napari_geosr.gui.kit.progress import format_duration
from napari_geosr.jobs.folder import JobStatus
from napari_geosr.jobs.index import STATE_WORDS, describe_state
from napari_geosr.jobs.kinds import FIT_NETWORKS, describe_resume
from napari_geosr.jobs.status import is_stopping, outage_text
from napari_geosr.operations.train import loss_title

VALIDATION = "validation"
#: Units of progress of jobs that do not train a network; the progress of kinds not
#: listed here is shown in per cent.
_UNITS = {"restore": "tiles", "study projections": "reconstructions"}
_PERCENTAGE_AT_END = re.compile(r" \(\d+ %\)$| \d+ % done\.$")
_REQUEST_TEXTS = {"pause": "Pausing…", "finish": "Stopping…", "cancel": "Stopping…"}


def state_text(watch: JobWatch) -> str:
    """Describe the current activity of a job in a sentence."""
    status = watch.status
    done, total = steps_of(watch)
    fits = status.operation in FIT_NETWORKS
    position = f" at {format_progress(status.operation, done, total)}" if total else ""
    if watch.pending_request and status.is_alive:
        return _REQUEST_TEXTS[watch.pending_request]
    if status.queue.queue and status.state == "queued":
        words = describe_state(status)
        return f"{words[:1].upper()}{words[1:]} ({_number(status)})."
    if status.state == "running":
        if not total:
            return f"{watch.stage or 'Starting'}…"
        if not fits:
            activity = watch.progress.get("what") if watch.progress else ""
            progress_text = format_progress(status.operation, done, total)
            prefix = f"{activity}, " if activity else ""
            return f"{watch.stage}… {prefix}{progress_text} done."
        return f"Training, step {done} of {total} ({100 * done // total} %)"
    resumption = ""
    if status.can_resume:
        resumption = describe_resume(status.operation, status.path)
    return {
        "queued": "Waiting for other jobs, or starting…",
        "finishing": f"{status.message or 'Validating the model'}…",
        "paused": f"Paused{position}; it {resumption}.",
        "cancelled": f"Stopped{position}; it {resumption}.",
        "interrupted": f"Interrupted{position}; it {resumption}.",
        "failed": f"Failed{position}.",
        "damaged": f"The state file is damaged; the job {resumption}.",
        "unreadable": "The job cannot be read.",
        "done": f"Done after {done} steps." if fits else "Done.",
    }[status.state]


def detail_text(watch: JobWatch) -> str:
    """Describe a job's activity and, as in the list, its place in a queue."""
    status = watch.status
    texts = [state_text(watch), _queue_text(status), outage_text(status)]
    return " ".join(filter(None, texts))


def _queue_text(status: JobStatus) -> str:
    """Return the queue's message about a running job; empty if there is none."""
    is_new = status.is_alive and status.state != "queued" and not is_stopping(status)
    words = describe_state(status) if status.queue.queue and is_new else ""
    if words in ("", STATE_WORDS.get(status.state, status.state)):
        return ""
    return f"({words[:1].upper()}{words[1:]}.)"


def _number(status: JobStatus) -> str:
    return f"{status.queue.title} job {status.queue.number}".strip()


def format_progress(operation: str, done: int, total: int) -> str:
    """Format the progress of a job in its unit, or in per cent if it has none."""
    if operation in FIT_NETWORKS:
        return f"step {done} of {total}"
    if operation in _UNITS:
        return f"{done} of {total} {_UNITS[operation]}"
    return f"{100 * done // total} %"


def figures_text(watch: JobWatch) -> str:
    """Return the time left, memory and speed of a running job."""
    progress = watch.progress
    if not progress or watch.status.state not in ("running", "finishing"):
        return ""
    parts = []
    if watch.status.state == "running" and progress.get("seconds_left"):
        parts.append(f"{format_duration(float(progress['seconds_left']))} left")
    if progress.get("memory"):
        parts.append(f"{format_bytes(progress['memory'])} of memory")
    if progress.get("images_per_second"):
        parts.append(f"{progress['images_per_second']:.3g} patches/s")
    return ", ".join(parts)


def line_text(watch: JobWatch) -> str:
    """Return a line for an action bar: progress, time left, job name and activity.

    A dock truncates the end of a line that is too long.
    """
    status, parts = watch.status, []
    done, total = steps_of(watch)
    if status.state == "running" and total:
        parts.append(f"{100 * done // total} %")
    seconds = watch.progress.get("seconds_left") if watch.progress else None
    if status.state == "running" and seconds is not None:
        parts.append(f"{format_duration(float(seconds))} left")
    text = f"{status.name}: {state_text(watch)}"
    if parts:  # the percentage is given at the beginning
        text = _PERCENTAGE_AT_END.sub("", text)
    return f"{', '.join(parts)} · {text}" if parts else text


def steps_of(watch: JobWatch) -> tuple[int, int]:
    """Return the steps done and in total, from the progress events or the status."""
    status = watch.status
    if status.operation not in FIT_NETWORKS and not status.is_alive:
        return status.done, status.total
    done = int(watch.progress.get("step", watch.status.done))
    return done, int(watch.progress.get("total", watch.status.total))


def curves_of(watch: JobWatch, others: Sequence[JobWatch] = ()) -> list[Line]:
    """Return the curves of a job; with `others`, the main curves of all these jobs."""
    if others:
        return [
            # Add a single legend entry for the dashed lines of all runs.
            _line(each, name, "" if name == VALIDATION else each.status.name, run)
            for run, each in enumerate((watch, *others))
            for name in _main_curves(each)
        ]
    # Give the main loss and its validation loss the same colour.
    names = [name for name in watch.curves if name != VALIDATION]
    colors = {VALIDATION: 0} | {name: i for i, name in enumerate(names)}
    return [_line(watch, name, loss_title(name), colors[name]) for name in watch.curves]


def _line(watch: JobWatch, name: str, title: str, color: int) -> Line:
    curve = watch.curves[name]
    return Line(title, curve.steps, curve.values, color, name == VALIDATION)


def _main_curves(watch: JobWatch) -> list[str]:
    first = [name for name in watch.curves if name != VALIDATION][:1]
    return first + [name for name in watch.curves if name == VALIDATION]
