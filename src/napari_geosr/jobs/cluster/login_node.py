"""Run napari-geosr commands on a cluster's login node with the user's ``ssh``.

``ssh`` finds keys and settings on its own (``~/.ssh/config``, an agent). It runs in
batch mode and never prompts, so that no password passes through this program and no
command waits for input that the user cannot enter.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from napari_geosr.core.errors import Cancelled, ConfigError, GeoSRError, JobError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.version import __version__
from napari_geosr.jobs.cluster.profiles import Profile, load_profile, own_profiles

#: Command that starts napari-geosr on a login node, unless the profile sets a different
#: one.
PROGRAM = "napari-geosr"
#: Exit code of ssh for its own errors.
_SSH_FAILED = 255
#: Maximum time to connect, and interval between checks of the connection, in seconds.
_CONNECT_SECONDS = 20
_ALIVE_SECONDS = 15
#: Maximum duration of a command that is run to read its output, in seconds.
_MAX_SECONDS = 120.0
#: Time between two checks of such a command, in seconds.
_POLL_SECONDS = 0.1
#: Maximum length of an ssh message that is quoted, in characters.
_MAX_REASON = 200

#: Script for the login node. Bash reads the same files as when the user logs in; the
#: output of these files and of the setup is dropped (only descriptor 3 carries the
#: command's output). Standard input stays open as long as ssh runs; when it closes, the
#: command is terminated as well.
_SCRIPT = """\
{setup}found=$({program} --version </dev/null 2>/dev/null | tail -n 1)
case $found in
    [0-9]*) ;;
    *)
        why=$({program} --version </dev/null 2>&1 | tail -n 1)
        printf '%s (%s). %s\\n' {missing} "${{why:-no answer}}" {start_advice}
        exit 2
        ;;
esac >&2
if [ "${{found%%.*}}" != {major} ]; then
    printf '%s %s, %s\\n' {other} "$found" {version_advice} >&2
    exit 2
fi
if [ "$found" != {version} ]; then
    printf '%s %s, %s\\n' {note} "$found" {note_advice} >&2
fi
exec 4<&0
{program} {words} </dev/null >&3 2>&5 3>&- 4<&- 5>&- &
command=$!
(cat; kill "$command") <&4 >/dev/null 2>&1 3>&- 4<&- 5>&- &
watcher=$!
exec 4<&- 3>&- 5>&-
wait "$command"
code=$?
kill "$watcher"
exit "$code"
"""


#: Beginning of the line that reports a different version, and type of the functions
#: that receive this report.
_NOTE = "note: "
OnNote = Callable[[str], object]


def check_host(host: str) -> str:
    """Return an ssh destination; reject text that ssh would interpret as an option.

    Raises
    ------
    ConfigError
        If it is neither ``user@login`` nor a name as in ``~/.ssh/config``.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][\w.@:%+-]*", host, re.ASCII):
        raise ConfigError(
            f"{host!r} is not a valid computer name. Give user@login, or a name from "
            "your ~/.ssh/config."
        )
    return host


def profile_for(host: str, name: str | None = None) -> Profile:
    """Find the profile that defines how napari-geosr starts on `host`.

    Parameters
    ----------
    host : str
    name : str, optional
        Profile named in the command; it may exist only on `host`.

    Returns
    -------
    Profile
        The user's profile with this name or this host; otherwise an empty profile.

    Raises
    ------
    GeoSRError
        If the profile with this name is invalid.
    """
    own = own_profiles()
    if name in own:
        return load_profile(name)
    for each in own:
        with suppress(GeoSRError):  # invalid profiles of other hosts are irrelevant
            profile = load_profile(each)
            if profile.host == host:
                return profile
    return Profile()


def run_on(host: str, words: Sequence[str], profile: Profile) -> int:
    """Run a command on `host` and pass its output and exit code through.

    Parameters
    ----------
    host : str
        Destination of ssh.
    words : sequence of str
        The command, without the program's name.
    profile : Profile
        Defines how napari-geosr starts there.

    Returns
    -------
    int
        The command's exit code; 2 if napari-geosr cannot be started there or if its
        major version there differs.

    Raises
    ------
    JobError
        If ssh is not installed or cannot connect.
    ConfigError
        If `host` is not the name of a computer.
    """
    ssh = _find_ssh(check_host(host))
    with tempfile.TemporaryDirectory(prefix="napari-geosr-") as folder:
        log = Path(folder) / "ssh.log"
        call = _call(ssh, host, words, profile, log)
        sys.stdout.flush()
        with subprocess.Popen(call, stdin=subprocess.PIPE) as process:
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                raise
        if code == _SSH_FAILED:
            raise JobError(_explain(host, log))
    return code


def output_of(
    host: str,
    words: Sequence[str],
    profile: Profile,
    *,
    should_stop: ShouldStop = never_stop,
    on_note: OnNote = lambda note: None,
    max_seconds: float = _MAX_SECONDS,
) -> str:
    """Run a command on `host` and return its output; call this in a worker thread.

    Parameters
    ----------
    host, words, profile
        As in `run_on`.
    should_stop : callable
        Called several times a second.
    on_note : callable
        Receives a message if the versions on both computers differ.
    max_seconds : float
        Time after which the command is abandoned.

    Raises
    ------
    JobError
        If the command fails (with its own message) or takes too long, or if ssh is not
        installed or cannot connect.
    ConfigError
        If `host` is not the name of a computer.
    Cancelled
        If `should_stop` returns True; the command is then terminated on `host` as well.
    """
    ssh = _find_ssh(check_host(host))
    with (
        tempfile.TemporaryDirectory(prefix="napari-geosr-") as folder,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as messages,
    ):
        log = Path(folder) / "ssh.log"
        call = _call(ssh, host, words, profile, log)
        with subprocess.Popen(
            call, stdin=subprocess.PIPE, stdout=out, stderr=messages
        ) as process:
            try:
                code = _wait(process, host, should_stop, max_seconds)
            except BaseException:
                process.terminate()
                raise
        if code == _SSH_FAILED:
            raise JobError(_explain(host, log))
        if code:
            raise JobError(f"{host}: {_last_line(_text(messages))}")
        for line in _text(messages).splitlines():
            if line.startswith(_note_start(host)):
                on_note(line.removeprefix(_NOTE))
        return _text(out)


def _note_start(host: str) -> str:
    """Return the start of the line that reports a different version on `host`."""
    return f"{_NOTE}{host} has napari-geosr"


def _wait(
    process: subprocess.Popen[bytes],
    host: str,
    should_stop: ShouldStop,
    max_seconds: float,
) -> int:
    end = time.monotonic() + max_seconds
    while True:
        try:
            return process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if should_stop():
                raise Cancelled("Cancelled.") from None
            if time.monotonic() > end:
                raise JobError(
                    f"{host} has not answered for {max_seconds:.0f} s. Try again later."
                ) from None


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _last_line(text: str) -> str:
    """Return the last message of a command, without the program's name."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "no reason was given."
    return lines[-1].removeprefix(f"{PROGRAM}: ")


def _find_ssh(host: str) -> str:
    ssh = shutil.which("ssh")
    if ssh is None:
        raise JobError(
            "ssh is not installed on this computer. Install OpenSSH, or log in to "
            f"{host} and run the command there."
        )
    return ssh


def _call(
    ssh: str, host: str, words: Sequence[str], profile: Profile, log: Path
) -> list[str]:
    """Return the command line of ssh, which writes its own messages to `log`."""
    call = [ssh, "-T", "-E", str(log)]
    call += ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_SECONDS}"]
    call += ["-o", f"ServerAliveInterval={_ALIVE_SECONDS}", "--", host]
    return [*call, remote_line(host, words, profile)]


def remote_line(host: str, words: Sequence[str], profile: Profile) -> str:
    """Return the command line that ssh passes to the login shell of `host`."""
    setup = "".join(f"{line}\n" for line in profile.setup)
    if setup:
        setup = f"{{\n{setup}}} </dev/null\n"
    major = __version__.partition(".")[0]
    script = _SCRIPT.format(
        setup=setup,
        program=profile.remote_command or PROGRAM,
        words=shlex.join(words),
        major=shlex.quote(major),
        missing=shlex.quote(f"napari-geosr: {host} cannot start napari-geosr"),
        start_advice=shlex.quote(
            f"Install it there, or create a profile for the host {host} that defines "
            "how napari-geosr starts (napari-geosr profiles new --setup, "
            "--remote-command)."
        ),
        other=shlex.quote(f"napari-geosr: {host} has napari-geosr"),
        version_advice=shlex.quote(
            f"but this computer has {__version__}. Install the same version on both."
        ),
        version=shlex.quote(__version__),
        note=shlex.quote(_note_start(host)),
        note_advice=shlex.quote(
            f"but this computer has {__version__}. Options and results may differ."
        ),
    )
    # Descriptors 3 and 5 carry the command's output and messages.
    return f"exec bash -lc {shlex.quote(script)} 3>&1 5>&2 1>/dev/null"


def _explain(host: str, log: Path) -> str:
    """Explain why ssh could not connect and what to do."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    said = [" ".join(line.split()) for line in lines if line.strip()]
    reason = (said[-1] if said else "no reason given").rstrip(".")[:_MAX_REASON]
    advice = "Check the computer's name and your network connection"
    if "Permission denied" in reason:
        advice = (
            "Passwords are not supported. Set up a key (ssh-copy-id), or load it into "
            "your ssh agent (ssh-add)"
        )
    elif "Host key verification failed" in reason:
        advice = "Connect once manually and check the computer's key"
    return (
        f"ssh cannot connect to {host} ({reason}). {advice}; `ssh {host}` must work "
        "without asking for input."
    )
