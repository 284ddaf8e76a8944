"""Show the steps of an operation as bars on a terminal or as lines in a log file."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from napari_geosr.cli.kit.verbosity import QUIET
from napari_geosr.core.documents import json_values
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import (
    IterationDone,
    NoteIssued,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    VerdictReached,
    WarningIssued,
)
from napari_geosr.io.unfinished_files.claims import claimed

T = TypeVar("T")

#: Width of a progress bar, in columns of the terminal.
_BAR = 24
#: Width of the percentage and the time next to the bar, in columns of the terminal.
_FIGURES = 16
#: Minimum width of a message before the bar, in columns of the terminal.
_MIN_MESSAGE = 20

MakeSteps = Callable[[ShouldStop], Generator[Step, None, T]]

#: First words of the part of a stop message that applies only to Ctrl-C.
_AGAIN = " (press Ctrl-C again"
#: Message on the first Ctrl-C, for operations that do not work in tiles.
STOPPING = f"stopping{_AGAIN} to stop at once)"


def run_command(
    make_steps: MakeSteps[T],
    *,
    stopping: str = "stopping after this tile (press Ctrl-C again to stop at once)",
    out: Path | None = None,
    notes: list[str] | None = None,
) -> tuple[T, list[str]]:
    """Consume an operation's steps, showing progress on stderr.

    The first Ctrl-C (or a cluster's SIGTERM) stops the operation at its next tile, so
    that the finished part is kept; a second one ends the program.

    Parameters
    ----------
    stopping : str
        Message printed at the first Ctrl-C. After SIGTERM, the advice in parentheses
        to press Ctrl-C again is omitted.
    out : Path, optional
        Output path that no other run may write to during this run.
    notes : list of str, optional
        Receives the messages of `NoteIssued` steps, which are otherwise among the
        warnings.

    Returns
    -------
    result : object
        Return value of the operation.
    warnings : list of str
        Messages of its `WarningIssued` steps.
    """
    warnings: list[str] = []
    with (
        nullcontext() if out is None else claimed(out.expanduser()),
        _stop_on_signal(stopping) as should_stop,
        _ProgressDisplay() as bars,
        StepIterator(make_steps(should_stop)) as iterator,
    ):
        for step in iterator:
            if isinstance(step, WarningIssued):
                is_note = isinstance(step, NoteIssued)
                kept = notes if notes is not None and is_note else warnings
                kept.append(step.message)
                bars.warn(step.message)
            else:
                bars.show(step)
    return iterator.result, warnings


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Prefix errors about a volume with the name of its file."""
    try:
        yield
    except VolumeError as error:
        text = str(error)
        if path.name in text:
            raise
        if (stem := repr(path.stem)) in text:
            raise VolumeError(text.replace(stem, path.name)) from error
        raise VolumeError(f"{path.name}: {text}") from error


def print_notes(sentences: Iterable[str]) -> None:
    """Print sentences on stderr in the same way as the warnings of a run."""
    console = _new_console()
    for sentence in sentences:
        _print_note(console, sentence)


def print_json(values: object) -> None:
    """Print one JSON object on stdout, and nothing else."""
    values = json_values(values)
    text = json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # an ASCII terminal, or a name with undecodable bytes
        text = json.dumps(values, indent=2, allow_nan=False)
    print(text)


@contextmanager
def _stop_on_signal(stopping: str) -> Iterator[ShouldStop]:
    stop = threading.Event()

    def request_stop(number: int, _frame: object) -> None:
        """Request a stop; the second time, end the program."""
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        text = stopping if number == signal.SIGINT else stopping.partition(_AGAIN)[0]
        with suppress(OSError):  # stderr may be closed
            print(text, file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return
    names = ("SIGINT", "SIGTERM")
    old = {n: signal.signal(getattr(signal, n), request_stop) for n in names}
    try:
        yield stop.is_set
    finally:
        for name, handler in old.items():
            signal.signal(getattr(signal, name), handler)


def _new_console() -> Console:
    # Names of files and models must not be parsed as markup.
    return Console(stderr=True, markup=False, highlight=False)


def _print_note(console: Console, sentence: str) -> None:
    """Print a sentence: on one line in a file, wrapped at spaces on a terminal."""
    wide = not console.is_terminal
    console.print(f"note: {sentence}", style="yellow", soft_wrap=wide)


class _ProgressDisplay:
    """Shows a bar for each stage; outside a terminal, prints a line at every 10 %."""

    def __init__(self) -> None:
        self._console = _new_console()
        self._quiet = QUIET.get()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._message = ""
        self._tenths = -1

    def __enter__(self) -> _ProgressDisplay:
        if self._console.is_terminal and not self._quiet:
            # A long message must not displace the bar and the percentage.
            room = max(_MIN_MESSAGE, self._console.width - _BAR - _FIGURES)
            message = Column(no_wrap=True, overflow="ellipsis", max_width=room)
            self._progress = Progress(
                TextColumn("{task.description}", markup=False, table_column=message),
                BarColumn(bar_width=_BAR),
                TaskProgressColumn(),  # in per cent, because units differ
                TimeRemainingColumn(),
                console=self._console,
                # A permanent bar would remain between the lines of the result.
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def warn(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        _print_note(self._console, sentence)

    def show(self, step: Step) -> None:
        """Show a new stage, or its progress."""
        if self._quiet:
            if isinstance(step, VerdictReached) and step.has_limits:
                self.warn(step.message)
            return
        if isinstance(step, VerdictReached):
            # Print a line, because a bar would truncate the sentence and disappear.
            wide = not self._console.is_terminal
            self._console.print(step.message, soft_wrap=wide)
        elif isinstance(step, StageStarted):
            self._start(step.message)
        elif step.total:
            self._advance(step)

    def _start(self, message: str) -> None:
        self._message, self._tenths = message, -1
        if self._progress is None:
            self._console.print(message)
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(message, total=None)

    def _advance(self, step: Step) -> None:
        if self._progress is not None:
            if self._task is None:
                self._start(self._message)
            assert self._task is not None
            text = step.text if isinstance(step, IterationDone) else ""
            self._progress.update(
                self._task,
                description=f"{self._message}: {text}" if text else self._message,
                completed=step.done,
                total=step.total,
            )
            return
        tenths = 10 * step.done // step.total
        if tenths > self._tenths:
            self._tenths = tenths
            self._console.print(f"  {self._message}: {10 * tenths} %")
