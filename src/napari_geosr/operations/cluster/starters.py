"""Starts the processes of a job on its nodes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from napari_geosr.core.errors import WorkerError


def start_all(
    commands: Sequence[Sequence[str]],
    env: Mapping[str, str] | None = None,
    passed: str = "",
) -> list[subprocess.Popen[bytes]]:
    """Start all commands, or none.

    Parameters
    ----------
    commands : sequence of sequence of str
        Program and arguments of each command.
    env : mapping of str to str, optional
        Environment; by default, that of this process.
    passed : str
        Text that each command receives as its standard input.

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
            pipe = subprocess.PIPE if passed else None
            started.append(subprocess.Popen(words, env=env, stdin=pipe))
    except OSError as error:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
        raise WorkerError(
            f"{words[0]!r} could not be started on this node ({error.strerror}), so "
            "the job has no processes."
        ) from error
    for process in started:
        if process.stdin is not None:
            # A process that has already ended is reported by its exit code.
            with suppress(OSError), process.stdin as stream:
                stream.write(passed.encode())
    return started
