"""Run commands at the same time, and fail if one of them fails.

``python scripts/side_by_side.py COMMAND [ARGUMENTS] -- COMMAND [ARGUMENTS] …``

Of a command that succeeds, only the last line of its output is shown.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from tempfile import TemporaryFile


def split(arguments: list[str]) -> list[list[str]]:
    """The commands between the double hyphens."""
    groups = itertools.groupby(arguments, lambda word: word == "--")
    return [list(words) for is_between, words in groups if not is_between]


def run(commands: list[list[str]]) -> int:
    """Run all commands; return the first exit status other than 0, or 0."""
    started = []
    for command in commands:
        output = TemporaryFile()  # noqa: SIM115 - closed when the command has ended
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        started.append((command, process, output))
    status = 0
    for command, process, output in started:
        status = process.wait() or status
        output.seek(0)
        text = output.read().decode(errors="replace").rstrip()
        if process.returncode == 0:
            text = text.rpartition("\n")[2]
        print(
            f"{' '.join(command)}: exit status {process.returncode}\n{text}", flush=True
        )
        output.close()
    return status


if __name__ == "__main__":
    sys.exit(run(split(sys.argv[1:])))
