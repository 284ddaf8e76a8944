"""Starts the processes of a job on its nodes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from napari_geosr.core.errors import WorkerError


def start_all(
    commands: Sequence[Sequence[str]], env: Mapping[str, str] | None = None
) -> list[subprocess.Popen[bytes]]:
    """Start all commands, or none.

    Parameters
    ----------
    commands : sequence of sequence of str
        Program and arguments of each command.
    env : mapping of str to str, optional
        Environment; by default, that of this process.

    Returns
    -------
    list of subprocess.Popen

    Raises
    ------
    WorkerError
        If a program is missing or cannot be started; those already started are ended.

    Examples
    --------
    >>> [process.wait() for process in start_all([["true"], ["false"]])]
    [0, 1]
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        for words in commands:
            started.append(subprocess.Popen(words, env=env))
    except OSError as error:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
        raise WorkerError(
            f"{words[0]!r} could not be started on this node ({error.strerror}), so "
            "the job has no processes."
        ) from error
    return started
