"""Shared parts of the scripts and commands of all queue systems."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from napari_geosr.core.errors import (
    CommandMissingError,
    ConfigError,
    JobError,
    UnansweredError,
)
from napari_geosr.jobs.cluster.profiles import Profile, check_line

#: Names of the script in the folder of a job, and of its log.
SCRIPT, LOG = "submit.sh", "log.txt"
#: Maximum time for a queue to respond, in seconds.
_MAX_SECONDS = 60
#: Maximum length of a job name shown by queues, in characters.
_MAX_NAME = 40

#: Environment variable with the time at which the script started, in seconds since
#: 1970.
STARTED = "NAPARI_GEOSR_STARTED"

#: Words for the error message if a queue does not answer, or a query fails.
NO_RESPONSE = "does not respond"
#: Default value of `call`: no advice about the messages of a queue.
NO_ADVICE: Mapping[str, str] = MappingProxyType({})

#: Line for the log if a command of the setup ends the script.
_ENDED_BY_SETUP = (
    "A setup command of the profile ended the script; napari-geosr was not started."
)
#: What to do if the queue does not answer a command, except one that submits a job.
_TRY_AGAIN = "Try again later."
#: What to do if the queue does not answer a command that submits a job.
_CHECK_QUEUE = "Check whether the job is in the queue before you submit it again."
#: Names of the commands that submit a job.
_SUBMITTING = ("sbatch", "oarsub")
#: Parts, in lower case, of the messages of commands that lost their connection to the
#: queue. A busy controller of SLURM often accepts a job after `sbatch` has given up.
_LOST = (
    "timed out",
    "unable to contact",
    "zero bytes were transmitted",
    "connection refused",
    "connection reset",
    "connection failure",
    "connection closed",
    "not connected",
    "receive failure",
    "server has gone away",
)

_BODY = """\
# Runs the job in this folder, which also contains its state, log and settings.
export {started}=$(date +%s)
# The queue's warning (USR1) before the walltime expires is passed on: the job saves
# its finished work and ends with exit code 99, which requests a restart.
warned=
trap 'warned=yes' USR1
trap 'kill -TERM "$process" 2>/dev/null' TERM
cd {folder} || exit 2
exec >>{log} 2>&1
{setup}set +e  # the setup may contain `set -e`
(trap '' USR1; exec {command}) &
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
        If the value contains a line break or another control character.
    """
    try:
        return shlex.quote(check_line(str(text)))
    except ValueError as error:
        raise ConfigError(f"{error}. Rename it.") from error


def plain_name(text: str) -> str:
    """Reduce a job's name to letters, digits, ``.``, ``-`` and ``_``."""
    words = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-")
    return words[:_MAX_NAME] or "job"


def body(folder: Path, profile: Profile, command: Sequence[str]) -> str:
    """Return a script's body, which leaves the exit code in ``$code``."""
    return _BODY.format(
        started=STARTED,
        folder=quote(folder),
        setup=setup_lines(profile),
        command=" ".join(quote(word) for word in command),
        log=quote(LOG),
    )


def setup_lines(profile: Profile) -> str:
    """Return the setup commands of a profile; the log states if they end the script."""
    if not profile.setup:
        return ""
    lines = "".join(f"{line}\n" for line in profile.setup)
    return (
        f'setup_done=\ntrap \'[ -n "$setup_done" ] || echo "{_ENDED_BY_SETUP}" '
        f">>{LOG}' EXIT\n{lines}\nsetup_done=yes\n"
    )


def check_setup(profile: Profile) -> None:
    """Reject setup commands that are not valid in bash, if bash is installed here.

    Raises
    ------
    ConfigError
        If the commands are invalid; the message is that of bash.
    """
    if not profile.setup or profile.host or shutil.which("bash") is None:
        return  # the bash of another computer may be newer
    if sys.platform != "linux" or any("shopt" in line for line in profile.setup):
        return  # bash may be older, or the commands may change what is valid
    known = {name: value for name, value in os.environ.items() if name != "BASH_ENV"}
    try:
        done = subprocess.run(
            ["bash", "-n"],
            input="".join(f"{line}\n" for line in profile.setup),
            env=known | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MAX_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    # An unfinished here-document is only a warning.
    if done.returncode or "here-document" in done.stderr:
        reason = _first_line(done.stderr).removeprefix("bash: ")
        raise ConfigError(
            f"The setup commands are not valid in bash ({reason}). Correct them "
            "(--setup, or setup in the profile)."
        )


def call(
    words: Sequence[str],
    *,
    title: str,
    folder: Path | None = None,
    advice: Mapping[str, str] = NO_ADVICE,
    accepted: Sequence[int] = (0,),
    failure: str = "refused",
) -> str:
    """Run a command of a queue system and return what it prints.

    Parameters
    ----------
    words : sequence of str
    title : str
    folder : Path, optional
    advice : mapping of str to str
        Advice on refusals, keyed by a part of the queue's message in lower case; the
        first match is appended to the error.
    accepted : sequence of int
        Exit codes that do not mean that the queue has refused the request.
    failure : str
        What any other exit code means, in words.

    Raises
    ------
    UnansweredError
        If the command does not respond, or has lost its connection to the queue.
    JobError
        If the command is not installed here or refuses (with the first line of its
        message).
    """
    if shutil.which(words[0]) is None:
        raise CommandMissingError(
            f"{title} is not available here, because {words[0]!r} is not on PATH. Run "
            "this on the cluster's login node, or choose another queue (--queue local)."
        )
    what_to_do = _CHECK_QUEUE if words[0] in _SUBMITTING else _TRY_AGAIN
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
            # Ctrl-C in the terminal must not end a command after its job was accepted.
            process_group=0,
        )
    except subprocess.TimeoutExpired as error:
        raise UnansweredError(
            f"{title} has not responded for {_MAX_SECONDS} s ({words[0]}). {what_to_do}"
        ) from error
    except OSError as error:
        raise JobError(f"{words[0]} cannot be run: {error.strerror}.") from error
    if done.returncode not in accepted:
        line = _first_line(done.stderr, done.stdout)
        # A negative exit code means that the command was killed.
        if done.returncode < 0 or _is_lost(done.stderr):
            raise UnansweredError(
                f"{title} {NO_RESPONSE}: {line}{_full_stop(line)} {what_to_do}"
            )
        raise JobError(f"{title} {failure}: {line}{_matching(advice, line)}")
    return done.stdout


def _is_lost(message: str) -> bool:
    """Return whether a command lost its connection, perhaps after the queue acted."""
    return any(part in message.lower() for part in _LOST)


def _matching(advice: Mapping[str, str], line: str) -> str:
    found = (text for part, text in advice.items() if part in line.lower())
    return next((f"{_full_stop(line)} {text}" for text in found), "")


def _full_stop(line: str) -> str:
    """Return a full stop unless the line already ends with a punctuation mark."""
    return "" if line.endswith((".", "!", "?")) else "."


def _first_line(*texts: str) -> str:
    """Return the first line that mentions an error; failing that, the first line."""
    lines = [line.strip() for text in texts for line in text.splitlines()]
    said = [line for line in lines if line]
    # OAR's admission rules print their actions before an error.
    errors = [line for line in said if "error" in line.lower()]
    return next(iter([*errors, *said]), "no reason given.")


def whole_number(text: str | None) -> int:
    """Parse the number that a queue stores in a variable; 1 if there is none."""
    return int(text) if text is not None and text.isdecimal() else 1


def find_number(pattern: str, text: str, *, title: str) -> str:
    """Find the job's number in the output of a queue.

    Parameters
    ----------
    pattern : str
        Pattern with the number as its first group; ``^`` and ``$`` match at the start
        and end of each line. The last match counts.

    Raises
    ------
    UnansweredError
        If there is no number.
    """
    found = re.findall(pattern, text, re.MULTILINE)
    if not found:
        line = _first_line(text)
        raise UnansweredError(
            f"The response from {title} contains no job number: {line}"
            f"{_full_stop(line)} Check whether the job is in the queue before you "
            "submit it again."
        )
    return str(found[-1])
