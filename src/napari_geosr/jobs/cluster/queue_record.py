"""Records in a job's folder about the queue in which it waits or runs.

``queue.json``
    Queue, number and resources of the job; written when it is submitted, and by the
    job itself when it starts and when it is resubmitted.
``queue_state.json``
    Last known state in the queue, written by the command or dock that queried it.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from napari_geosr.core.errors import CommandMissingError, FileError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs import facts as reading
from napari_geosr.jobs.cluster.profiles import Profile

RECORD, STATE = "queue.json", "queue_state.json"
#: Number of attempts to read a record.
_ATTEMPTS = 3
#: Seconds between two attempts.
_PAUSE = 0.3
#: Number of consecutive full runs without progress after which a job is not
#: resubmitted.
MAX_IDLE = 3
#: Limit for full and shorter runs together: a queue may warn a run so early (SLURM up
#: to a minute early) that there is no time for a step.
MAX_IDLE_OR_SHORT = 12


@dataclass(frozen=True)
class QueueRecord:
    """A job's entry in a queue: its number, resubmissions and profile.

    Attributes
    ----------
    queue : str
        Name of the queue system; empty for a job that was never submitted.
    title : str
        Display name of the queue system.
    number : str
        Number of the job in the queue; at a site with several clusters,
        ``"NUMBER@CLUSTER"``.
    resubmitted : int
        Number of times that the job was resubmitted after reaching its walltime.
    done : int
        Number of steps done when the job was last resubmitted.
    saved : int
        Number of parts (`PartSaved`) that had been saved at that time.
    idle : int
        Number of runs since the last progress that used most of their walltime, but
        neither completed a further step nor saved a part of one.
    short : int
        Number of other runs since the last progress, which ended much earlier.
    longer : str
        Walltime to try next, if the walltime was too short; otherwise empty.
    profile : dict
        Fields of the `Profile` with which the job was submitted.
    earlier : tuple of str
        Numbers of earlier submissions of the job, automatic or by the user.
    """

    queue: str = ""
    title: str = ""
    number: str = ""
    resubmitted: int = 0
    done: int = 0
    saved: int = 0
    idle: int = 0
    short: int = 0
    longer: str = ""
    profile: AnyDict = field(default_factory=dict)
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True)
class LastState:
    """Last known state of a job in its queue.

    Attributes
    ----------
    phase, words : str
        As in `QueueState`; empty if the queue was never queried.
    updated : float
        Time stamp of the job's own state when the queue was queried. The queue's state
        is valid until this time stamp changes; clocks are not compared.
    checked : float
        Time of the query, by the clock of the computer that made it.
    since : float
        Time of the first query that returned this phase for this state of the job.
    submitted, number : str
        Number in the job's record at the time of the query, and the number under which
        the queue had resubmitted it. Only the job itself changes the record of a
        submitted job, so that no change is lost.
    problem : str
        Why a later query failed, as a sentence without a full stop; empty if no query
        failed.
    """

    phase: str = ""
    words: str = ""
    updated: float = 0.0
    checked: float = 0.0
    since: float = 0.0
    submitted: str = ""
    number: str = ""
    problem: str = ""


@dataclass(frozen=True)
class QueuePlace:
    """A job's entry in a queue and its last known state, for display.

    Attributes
    ----------
    queue, title, number : str
        As in `QueueRecord`; empty for a job that was never submitted.
    words : str
        Last known state in the queue, in plain words.
    resubmitted : int
        Number of times that the job was resubmitted after reaching its walltime.
    has_ended : bool
        Whether the job has ended according to the queue, and has not updated its own
        state since.
    is_waiting : bool
        Whether the job is waiting according to the queue, and has not updated its own
        state since.
    is_running : bool
        Whether the job is running, suspended or ending according to the queue, and has
        not updated its own state since.
    checked : float
        Time of the last query that the queue answered.
    since : float
        Time of the first query that returned this state.
    longer : str
        Walltime to try next, as in `QueueRecord`.
    problem : str
        Why a later query failed; see `LastState`.
    earlier : tuple of str
        Earlier numbers of the job.
    """

    queue: str = ""
    title: str = ""
    number: str = ""
    words: str = ""
    resubmitted: int = 0
    has_ended: bool = False
    is_waiting: bool = False
    is_running: bool = False
    checked: float = 0.0
    since: float = 0.0
    longer: str = ""
    problem: str = ""
    earlier: tuple[str, ...] = ()

    @property
    def outage(self) -> str:
        """Why the state may be outdated, and its time; empty if it is current."""
        if not self.problem:
            return ""
        if not self.checked:
            return f"{self.problem}; its state there is not known yet."
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.checked))
        return f"{self.problem}; state as of {when}."

    @property
    def numbers(self) -> tuple[str, ...]:
        """All numbers of the job, the latest one last."""
        return (*self.earlier, *([self.number] if self.number else []))

    @property
    def is_unfinished(self) -> bool:
        """Whether the queue has not ended the job, which runs or may start again."""
        return self.is_waiting or self.is_running

    @property
    def message(self) -> str:
        """Explain why a job that did not finish is no longer running."""
        if self.words == "cancelled":
            return f"{self.title} job {self.number} was cancelled in the queue."
        return (
            f"{self.title} job {self.number} no longer exists ({self.words}); "
            "log.txt in the job folder may contain the reason."
        )

    @property
    def _message_before_start(self) -> str:
        """Explain why a job ended although its process never started."""
        if self.words not in ("ended", "failed") or self.resubmitted:
            return self.message
        return (
            f"{self.title} job {self.number} no longer exists ({self.words}), and "
            "napari-geosr was not started in it. Unless it was cancelled, check the "
            "setup commands and the Python interpreter of its profile; log.txt in the "
            "job folder may contain the reason."
        )

    def without_number(self) -> QueuePlace:
        """Return the entry without number and state, for a job outside the queue."""
        return QueuePlace(self.queue, self.title, resubmitted=self.resubmitted)

    def silence(self, seconds: float) -> str:
        """Explain why a job without heartbeats counts as running, if it does."""
        if not self.is_running:
            return ""
        state = "suspended" if self.words == "suspended" else "running"
        minutes = f"no heartbeat for {seconds / 60:.0f} min"
        return f"{minutes}; {self.title} reports it as {state}"

    def correct(
        self, state: reading.State, message: str, request: str
    ) -> tuple[reading.State, str]:
        """Return the state and message of a job, taking its queue into account.

        A job that the user stopped always ends as ``"cancelled"``, and a job that the
        queue ended as ``"interrupted"``.

        Parameters
        ----------
        state, message : str
            State and message according to the job's own files.
        request : str
            Request that the job's process has not yet followed.
        """
        has_stopped = state in ("paused", "interrupted")
        if self.is_waiting and has_stopped:  # the queue itself ended the run
            return "queued", message
        if self.has_ended and state == "queued":
            state, message = "interrupted", self._message_before_start
        elif self.has_ended and state in ("running", "finishing"):
            state, message = "interrupted", self.message
        elif self.has_ended and state == "interrupted":
            message = self.message
        if request == "cancel" and state in ("paused", "interrupted"):
            return "cancelled", ""
        return state, message


#: Place in the queue of a job that was never submitted.
NO_QUEUE = QueuePlace()


def place_of(folder: Path, updated: float) -> QueuePlace:
    """Read a job's queue entry and last known state from its folder.

    Parameters
    ----------
    updated : float
        Time stamp of the job's state.
    """
    try:
        record = read_record(folder)
    except FileError:  # reading a status must not fail
        return NO_QUEUE
    if not record.queue:
        return NO_QUEUE
    last = read_state(folder)
    is_valid = last.updated == updated
    number, known = _latest_number(record, last), (*record.earlier, record.number)
    return QueuePlace(
        queue=record.queue,
        title=record.title or record.queue,
        number=number,
        words=last.words,
        resubmitted=record.resubmitted,
        has_ended=last.phase == "ended" and is_valid,
        is_waiting=last.phase == "waiting" and is_valid,
        is_running=last.phase == "running" and is_valid,
        checked=last.checked,
        since=last.since,
        longer=record.longer,
        problem=last.problem,
        earlier=tuple(each for each in known if each not in (number, "")),
    )


def _latest_number(record: QueueRecord, last: LastState) -> str:
    """Return the job's latest number, even if the run has not yet recorded it."""
    is_known = bool(record.number) and last.submitted == record.number
    return last.number if is_known and last.number else record.number


def plain_number(number: str) -> str:
    """Return the number of a job without its cluster."""
    return number.partition("@")[0]


def _read_facts(path: Path) -> AnyDict:
    """Read a record, with several attempts: another node may be replacing the file."""
    for attempt in range(_ATTEMPTS):
        try:
            return reading.read_mapping(path)
        except (FileNotFoundError, ValueError):
            return {}
        except OSError as error:
            if attempt + 1 == _ATTEMPTS:
                raise FileError(
                    f"{path} cannot be read at the moment "
                    f"({error.strerror or error}). Try again "
                    "later."
                ) from error
            time.sleep(_PAUSE)
    raise AssertionError


def read_record(folder: Path) -> QueueRecord:
    """Read a job's record; return an empty one if it is missing or damaged.

    Raises
    ------
    FileError
        If the record exists but cannot currently be read; it must not be overwritten.
    """
    facts = _read_facts(folder / RECORD)
    profile, earlier = facts.get("profile"), facts.get("earlier")
    return QueueRecord(
        queue=_text(facts, "queue"),
        title=_text(facts, "title"),
        number=_text(facts, "number"),
        resubmitted=reading.count(facts.get("resubmitted")),
        done=reading.count(facts.get("done")),
        saved=reading.count(facts.get("saved")),
        idle=reading.count(facts.get("idle")),
        short=reading.count(facts.get("short")),
        longer=_text(facts, "longer"),
        profile=profile if isinstance(profile, dict) else {},
        earlier=tuple(map(str, earlier)) if isinstance(earlier, list) else (),
    )


def write_record(folder: Path, record: QueueRecord) -> None:
    """Write a job's record.

    Raises
    ------
    FileError
        If the record cannot be written.
    """
    text = json.dumps(asdict(record))
    atomic.write_text(folder / RECORD, text, overwrite=True, durable=False)


def forget_number(folder: Path) -> None:
    """Mark a job's queue number as an earlier one; the job now runs outside its queue.

    The job can still be found by this number. Its profile is kept, so that the job can
    be submitted again.
    """
    record = read_record(folder)
    if record.number:
        numbers = place_of(folder, 0.0).numbers
        forget_state(folder)
        write_record(folder, replace(record, number="", earlier=numbers))


def read_state(folder: Path) -> LastState:
    """Read the last known state in the queue."""
    facts = AnyDict()
    with suppress(OSError, ValueError):
        facts = reading.read_mapping(folder / STATE)
    return LastState(
        phase=_text(facts, "phase"),
        words=_text(facts, "words"),
        updated=reading.number(facts.get("updated")),
        checked=reading.number(facts.get("checked")),
        since=reading.number(facts.get("since")),
        submitted=_text(facts, "submitted"),
        number=_text(facts, "number"),
        problem=_text(facts, "problem"),
    )


def write_state(
    folder: Path,
    phase: str,
    words: str,
    updated: float,
    *,
    submitted: str = "",
    number: str = "",
) -> None:
    """Write the state in the queue, if the folder is writable.

    For the other parameters, see `LastState`.
    """
    before, now = read_state(folder), time.time()
    is_same = (before.phase, before.updated) == (phase, updated)
    state = LastState(
        phase,
        words,
        updated,
        checked=now,
        since=before.since if is_same else now,
        submitted=submitted,
        number=number,
    )
    _write_state(folder, state)


def write_problem(folder: Path, error: Exception) -> None:
    """Note why a query failed; the last known state and its time are kept.

    A command that is missing on this computer is not noted, because other computers
    that share the folder may have it.

    Parameters
    ----------
    error : Exception
        The first sentence of its message is noted.
    """
    if isinstance(error, CommandMissingError):
        return
    reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
    before = read_state(folder)
    if before.problem != reason:
        _write_state(folder, replace(before, problem=reason))


def _write_state(folder: Path, state: LastState) -> None:
    with suppress(FileError):
        text = json.dumps(asdict(state))
        atomic.write_text(folder / STATE, text, overwrite=True, durable=False)


def forget_state(folder: Path) -> None:
    """Delete the state of an earlier submission."""
    with atomic.explained(folder / STATE):
        (folder / STATE).unlink(missing_ok=True)


def with_run(
    record: QueueRecord, done: int, *, is_full: bool, saved: int = 0
) -> QueueRecord:
    """Count one more run that ended after `done` steps because of its walltime.

    Parameters
    ----------
    is_full : bool
        Whether the run used most of its walltime.
    saved : int
        Number of parts (`PartSaved`) that all runs have saved.
    """
    moved = done > record.done or saved > record.saved
    return replace(
        record,
        resubmitted=record.resubmitted + 1,
        done=max(done, record.done),
        saved=max(saved, record.saved),
        idle=0 if moved else record.idle + is_full,
        short=0 if moved else record.short + (not is_full),
    )


def is_stuck(record: QueueRecord) -> bool:
    """Return whether further runs are pointless after several without progress."""
    return record.idle >= MAX_IDLE or record.idle + record.short >= MAX_IDLE_OR_SHORT


def describe_stuck(record: QueueRecord, *, starts_again: bool) -> str:
    """Describe a job that cannot end within its walltime, and what to change.

    Parameters
    ----------
    record : QueueRecord
        With the walltime to try next.
    starts_again : bool
        Whether each run of the job starts from the beginning.
    """
    walltime = record.profile.get("walltime") or Profile().walltime
    n = record.idle + record.short
    why = f"{n} consecutive runs ended without completing a step"
    if starts_again:
        why = "the job did not finish in one run, and cannot be divided among several"
    return (
        f"The walltime of {walltime} is too short: {why}. Resume the job with a longer "
        f"walltime (--walltime {record.longer})."
    )


def times(n: int) -> str:
    """Return a count in words: ``once``, ``twice``, ``3 times``."""
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _text(facts: AnyMapping, name: str) -> str:
    value = facts.get(name)
    return value if isinstance(value, str) else ""
