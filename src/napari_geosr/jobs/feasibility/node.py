"""Resources that a run can use on a node of a cluster; errors if they are too small."""

from __future__ import annotations

from napari_geosr.core.config import format_bytes, format_enough, parse_bytes
from napari_geosr.core.errors import ConfigError
from napari_geosr.jobs.cluster.profiles import Profile, format_walltime
from napari_geosr.jobs.cluster.submission import LOCAL

#: Time in seconds that a run needs before its first part, to start the program and to
#: load libraries and, if used, a model.
START_SECONDS = 10.0
#: Lower bound of the memory budget in bytes; no run is possible with so little memory.
_LEAST_BUDGET = 10**6
#: Proposed walltimes are multiples of this time, in seconds.
_WALLTIME_STEP = 60


class Node:
    """Resources that a run can use on a node of a cluster.

    Parameters
    ----------
    profile : Profile
    workers : int or None
        Number of worker processes of the job; None if there are none.
    threads : int or None
        CPU threads of the run; by default all cores.
    program : int
        Memory of a process without its data, in bytes.
    """

    def __init__(
        self, profile: Profile, workers: int | None, threads: int | None, program: int
    ) -> None:
        self.profile = profile
        if profile.nodes > 1:
            total = workers or profile.nodes * max(1, profile.gpus)
            workers = -(-total // profile.nodes)
        #: Number of worker processes on a node; None if there are none.
        self.workers = workers
        #: Number of processes that compute parts.
        self.n_computing = workers or 1
        #: Number of processes of the run.
        self.n_processes = 1 if workers is None else workers + 1
        #: Memory of all processes without their data, in bytes.
        self.program_bytes = self.n_processes * program
        is_known = profile.memory and profile.queue != LOCAL
        #: Memory of a node in bytes; 0 if unknown.
        self.memory = parse_bytes(profile.memory) if is_known else 0
        #: Whether the CPU time of a run is limited and can be estimated.
        self.is_timed = profile.queue != LOCAL and not profile.gpus
        #: CPU threads of the run.
        self.threads = min(threads or profile.cores, profile.cores)

    @property
    def usable_seconds(self) -> float:
        """Walltime until the queue's warning."""
        return self.profile.seconds - self.profile.warning_seconds

    def budget(self, share: float) -> int:
        """Return the memory budget of a run that uses `share` of the free memory."""
        return max(_LEAST_BUDGET, int((self.memory - self.program_bytes) * share))

    def too_little_memory(self, why: str, enough: float, remedy: str) -> ConfigError:
        """Build the error for a node with less memory than `enough` bytes.

        Parameters
        ----------
        why : str
            Which part of the run needs how much memory, as a clause.
        enough : float
        remedy : str
            What else the user can do, as an imperative clause.
        """
        return ConfigError(
            f"The memory of {self.profile.memory} per node (--mem) is too small for "
            f"this run: {why}, and the program about "
            f"{format_bytes(self.program_bytes)}. Request at least "
            f"{format_enough(enough)}, or {remedy}."
        )

    def check_budget(self, budget: str, used: float) -> None:
        """Reject a budget (``--memory``) with which a run needs more than a node has.

        Parameters
        ----------
        budget : str
        used : float
            Memory of the run with this budget, in bytes, without the program.
        """
        needed = used + self.program_bytes
        if self.memory and needed > self.memory:
            raise ConfigError(
                f"The memory of {self.profile.memory} per node (--mem) is too small: "
                f"with a budget of {budget} (--memory), the run needs "
                f"{format_enough(needed)}, including the program. Request at least "
                "this much, or reduce the budget."
            )

    def check_walltime(
        self, seconds: float, part: str, reason: str, remedy: str
    ) -> None:
        """Reject a walltime that ends before a part of a run is finished.

        Parameters
        ----------
        seconds : float
            Time that the part takes, not counting the start of the program.
        part : str
            The part and its duration, as a clause.
        reason : str
            The consequence, as a clause.
        remedy : str
            What else the user can do, as an imperative clause.
        """
        if not self.is_timed or seconds + START_SECONDS <= self.usable_seconds:
            return
        raise ConfigError(
            f"The walltime of {self.profile.walltime} is too short: {part}, so "
            f"{reason}. Request at least {_walltime_for(seconds + START_SECONDS)} "
            f"(--walltime), or {remedy}."
        )


def _walltime_for(seconds: float) -> str:
    """Return the shortest walltime that leaves `seconds` before the queue's warning."""
    walltime = _WALLTIME_STEP
    while walltime - Profile(walltime=format_walltime(walltime)).warning_seconds < (
        seconds
    ):
        walltime += _WALLTIME_STEP
    return format_walltime(walltime)


def time_text(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
