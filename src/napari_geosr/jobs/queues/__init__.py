"""Queue systems of clusters, one file each, found by file name.

A queue system writes the script of a job, submits it, says in plain words what has
become of it, and cancels it. The job itself is the same everywhere: one process that
runs the job's folder, and that ends with exit code 99 if the queue warned it of its
walltime and it is to be started again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from napari_geosr.core.registry import Registry
from napari_geosr.jobs.profiles import Profile

Phase = Literal["waiting", "running", "ended"]

QUEUES = Registry("napari_geosr.jobs.queues", "napari_geosr.queues", "queue")
#: Exit code of a job that wants to be started again, as OAR documents it.
RESUBMIT = 99


@dataclass(frozen=True)
class QueueState:
    """What a queue says about a job.

    Attributes
    ----------
    phase : str
        ``"waiting"``, ``"running"`` or ``"ended"``.
    words : str
        The state in plain words, such as ``"waiting: priority"``.
    number : str
        The job's number; OAR gives a resubmitted job a new one.
    """

    phase: Phase
    words: str
    number: str


class QueueSystem(Protocol):
    """One queue system."""

    @property
    def title(self) -> str:
        """Its name, as its users write it."""

    @property
    def number_variable(self) -> str:
        """Environment variable with the job's number on a node; empty if none."""

    def script(
        self, name: str, folder: Path, profile: Profile, command: tuple[str, ...]
    ) -> str:
        """Shell script that runs `command` for the job in `folder`.

        Raises
        ------
        ConfigError
            If a name contains line breaks.
        """

    def submit(self, folder: Path) -> str:
        """Submit ``submit.sh`` in a folder and return the job's number.

        Raises
        ------
        JobError
            With the queue's own reason, if it refuses; or if there is no such queue.
        """

    def states(self, numbers: Mapping[Path, str]) -> dict[Path, QueueState]:
        """What has become of the jobs with these numbers, by their folders.

        Raises
        ------
        JobError
            If the queue does not answer.
        """

    def cancel(self, number: str) -> None:
        """Cancel a job; one that has ended is no error.

        Raises
        ------
        JobError
            If the queue refuses.
        """


def load_queue(name: str) -> QueueSystem:
    """Return the queue system called `name`.

    Raises
    ------
    ConfigError
        If there is none.
    """
    return cast("QueueSystem", QUEUES.load(name).QUEUE)
