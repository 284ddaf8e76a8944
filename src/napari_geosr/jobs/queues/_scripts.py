"""What the scripts and commands of all queue systems share."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from napari_geosr.core.errors import ConfigError, JobError
from napari_geosr.jobs.profiles import Profile, check_line

#: Name of the script in the folder of a job, and of what it prints.
SCRIPT, LOG = "submit.sh", "log.txt"
#: Seconds that a queue is given to answer.
_MAX_SECONDS = 60
#: Longest name of a job that queues show.
_MAX_NAME = 40

_BODY = """\
# Runs the job of this folder; its state, its log and its settings are there, too.
# The queue's warning before the walltime (USR1) is passed on: the job keeps what it
# has finished and ends with exit code 99, which means: start it again.
warned=
trap 'warned=yes' USR1
trap 'kill -TERM "$process" 2>/dev/null' TERM
cd {folder} || exit 2
{setup}(trap '' USR1; exec {command}) >>{log} 2>&1 &
process=$!
while kill -0 "$process" 2>/dev/null; do
    [ -z "$warned" ] || kill -USR1 "$process" 2>/dev/null
    sleep 1
done
wait "$process"
code=$?
"""


def quote(text: str | Path) -> str:
    """Quote a value for a shell.

    Raises
    ------
    ConfigError
        If it contains a line break or another control character.
    """
    try:
        return shlex.quote(check_line(str(text)))
    except ValueError as error:
        raise ConfigError(f"{error}: rename it.") from error


def plain_name(text: str) -> str:
    """Name of a job in a queue: letters, digits, ``.``, ``-`` and ``_``."""
    words = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-")
    return words[:_MAX_NAME] or "job"


def body(folder: Path, profile: Profile, command: Sequence[str]) -> str:
    """Everything below the header of a script, up to its exit code in ``$code``."""
    setup = "".join(f"{line}\n" for line in profile.setup)
    return _BODY.format(
        folder=quote(folder),
        setup=setup,
        command=" ".join(quote(word) for word in command),
        log=quote(LOG),
    )


def call(words: Sequence[str], *, title: str, folder: Path | None = None) -> str:
    """Run a command of a queue system and return what it prints.

    Raises
    ------
    JobError
        If it is not installed here, does not answer or refuses; with the first line
        of its reason.
    """
    if shutil.which(words[0]) is None:
        raise JobError(
            f"{title} is not available here: there is no {words[0]!r} on PATH. Run "
            "this on the cluster's login node, or choose another queue (--queue local)."
        )
    try:
        done = subprocess.run(
            list(words),
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_MAX_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise JobError(
            f"{title} has not answered for {_MAX_SECONDS} s ({words[0]}). Try again "
            "later."
        ) from error
    except OSError as error:
        raise JobError(f"{words[0]} cannot be run: {error.strerror}.") from error
    if done.returncode:
        raise JobError(f"{title} refuses: {_first_line(done.stderr, done.stdout)}")
    return done.stdout


def _first_line(*texts: str) -> str:
    """First line that says something."""
    lines = [line.strip() for text in texts for line in text.splitlines()]
    said = [line for line in lines if line]
    # Admission rules of OAR announce what they do before they refuse.
    errors = [line for line in said if "error" in line.lower()]
    return next(iter([*errors, *said]), "it gives no reason.")


def find_number(pattern: str, text: str, *, title: str) -> str:
    """Return the job's number in what a queue printed.

    Raises
    ------
    JobError
        If there is none.
    """
    found = re.search(pattern, text)
    if found is None:
        raise JobError(
            f"{title} gave no job number, but: {_first_line(text)} Look for the job "
            "in the queue before you submit it again."
        )
    return found[1]
