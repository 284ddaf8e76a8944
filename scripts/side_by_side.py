"""Run commands at the same time, and fail if one of them fails.

``python scripts/side_by_side.py COMMAND … -- COMMAND … --then COMMAND …``

Commands separated by ``--`` run at the same time; those joined by ``--then`` run one
after another, up to the first that fails. The output of the very last command is shown
immediately. The output of the others is shown when they end: all of it after a failure,
and otherwise only the last line.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from tempfile import TemporaryFile
from threading import Thread


def split(arguments: list[str], separator: str) -> list[list[str]]:
    """Split a command line at a separator."""
    groups = itertools.groupby(arguments, lambda word: word == separator)
    return [list(words) for is_separator, words in groups if not is_separator]


def run_quietly(command: list[str]) -> int:
    """Run a command and print its output; after a success, only the last line."""
    with TemporaryFile() as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, check=False
        )
        output.seek(0)
        text = output.read().decode(errors="replace").rstrip()
    if done.returncode == 0:
        text = text.rpartition("\n")[2]
    said = f"\n{' '.join(command)}: exit status {done.returncode}\n{text}"
    print(said, flush=True)
    return done.returncode


class Group:
    """Commands that run one after another, in a thread.

    Parameters
    ----------
    commands : list of list of str
    shows_last : bool
        Whether the output of the last command is shown immediately.
    """

    def __init__(self, commands: list[list[str]], *, shows_last: bool) -> None:
        self._commands, self._shows_last, self.status = commands, shows_last, 0
        self.thread = Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for command in self._commands:
            if self._shows_last and command is self._commands[-1]:
                self.status = subprocess.run(command, check=False).returncode
            else:
                self.status = run_quietly(command)
            if self.status:
                return


def run(arguments: list[str]) -> int:
    """Run all groups; return the first exit status other than 0, or 0."""
    groups = [split(words, "--then") for words in split(arguments, "--")]
    started = [Group(each, shows_last=each is groups[-1]) for each in groups]
    for group in started:
        group.thread.join()
    return next((group.status for group in started if group.status), 0)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
