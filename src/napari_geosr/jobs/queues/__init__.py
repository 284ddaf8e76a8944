"""Queue systems of clusters, one module each, found by file name.

A queue system writes the script of a job, submits it, describes its state in plain
words and cancels it. The job itself is the same everywhere: one process that runs the
job in its folder. The process ends with exit code 99 if the queue has warned it about
the walltime and it needs to be restarted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from napari_geosr.core.registry import Registry
from napari_geosr.jobs.cluster.profiles import Profile

Phase = Literal["waiting", "running", "ended"]

QUEUES = Registry("napari_geosr.jobs.queues", "napari_geosr.queues", "queue")
#: Exit code by which a job asks OAR to resubmit it, as documented by OAR.
RESUBMIT = 99
#: First words of the state of a waiting job that will never start.
NEVER_STARTS = "will not start"


@dataclass(frozen=True)
class QueueState:
    """State of a job in a queue.

    Attributes
    ----------
    phase : str
        ``"waiting"``, ``"running"`` or ``"ended"``.
    words : str
        The state in plain words, such as ``"waiting: priority"``.
    number : str
        Number of the job; OAR gives a resubmitted job a new number.
    """

    phase: Phase
    words: str
    number: str


class QueueSystem(Protocol):
    """Interface of a queue system."""

    @property
    def title(self) -> str:
        """Display name of the queue system."""

    @property
    def number_variable(self) -> str:
        """Environment variable that holds the job's number on its nodes; "" if none."""

    @property
    def renumbers(self) -> bool:
        """Whether a resubmitted job gets a new number."""

    def script(
        self, name: str, folder: Path, profile: Profile, command: tuple[str, ...]
    ) -> str:
        """Return the shell script that runs `command` for the job in `folder`.

        Raises
        ------
        ConfigError
            If a name contains line breaks.
        """

    def submit(self, folder: Path) -> str:
        """Submit ``submit.sh`` in a folder and return the job's number.

        If a site has several clusters, ``@`` and the cluster's name are appended.

        Raises
        ------
        JobError
            If the queue refuses the job (with its reason), or is not available.
        """

    def states(self, numbers: Mapping[Path, str]) -> dict[Path, QueueState]:
        """Return the states of the jobs with these numbers, keyed by folder.

        Raises
        ------
        JobError
            If the queue does not respond.
        """

    def count_nodes(self) -> int:
        """Count the nodes reserved for the job in which this process runs."""

    def start_workers(
        self, script: Path, n: int, threads: int, *, together: bool = False
    ) -> list[list[str]]:
        """Return commands that run a script `n` times, spread evenly over the nodes.

        Parameters
        ----------
        script : Path
            Script that expects the number of its worker, from 0, as an argument.
        n : int
        threads : int
            CPU cores of each worker.
        together : bool
            Whether the other workers must end if one fails.

        Raises
        ------
        JobError
            If the queue does not state the nodes of the job.
        """

    def cancel(self, number: str) -> None:
        """Cancel a job; it is not an error if the job has ended.

        Raises
        ------
        JobError
            If the queue refuses to cancel it.
        """


def load_queue(name: str) -> QueueSystem:
    """Return the queue system called `name`.

    Raises
    ------
    ConfigError
        If there is no such queue system.
    """
    return cast("QueueSystem", QUEUES.load(name).QUEUE)
