"""``--host``: the same command on a login node, over the user's own ssh."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_ssh
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import write_program

from napari_geosr.cli.app import run
from napari_geosr.core.version import __version__
from napari_geosr.jobs.cluster.login_node import output_of, run_on
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.folder import JobFolder

#: Prints its arguments, one JSON text for each call.
_ECHO = f"""\
#!/bin/sh
[ "$1" = --version ] && {{ echo {__version__}; exit; }}
exec {sys.executable} -S -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
"""


@pytest.fixture
def other(new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of another computer, reached by a fake ssh."""
    folder = new_folder()
    home = folder / "home"
    home.mkdir()
    fake_ssh.install(folder, home)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def called(capfd: Any, *words: str) -> tuple[int, str, str]:
    capfd.readouterr()
    code = run(list(words))
    said = capfd.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "list", "--json"],
        ["jobs", "watch", "clean.job"],
        ["jobs", "stop", "12345"],
        ["jobs", "resume", "clean.job", "--walltime", "12h"],
        ["profiles", "list"],
        ["profiles", "test", "mine", "--folder", "/bettik/no such folder"],
        ["submit", "restore", "no.tif", "-o", "x.tif", "--profile", "theirs", "-q"],
        ["submit", "train", "noise2void", "--source", "no.tif", "-o", "job"],
    ],
)
def test_the_command_arrives_as_typed(
    other: Path, capfd: Any, words: list[str]
) -> None:
    fake_ssh.put_program(other, _ECHO)
    where = ["--host", "me@login.example"]
    for given_ in ([*words, *where], [*words, "=".join(where)]):
        assert called(capfd, *given_)[:2] == (0, json.dumps(words) + "\n")
    assert (other / "host").read_text() == "me@login.example\n"
    assert "BatchMode=yes" in (other / "options").read_text()


def test_other_commands_have_no_host(other: Path, capfd: Any) -> None:
    code, _, said = called(capfd, "info", "scan.tif", "--host", "login")
    assert (code, "--host" in said) == (2, True)
    assert not (other / "host").exists()


#: Characters that must be quoted in a shell, and others that a name may contain.
_HOSTILE = st.text(
    st.sampled_from(" '\"$(`\\\n\t;|&<>*?~!#{}=%é\N{GREEK SMALL LETTER MU})-_a0"),
    max_size=12,
) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(words=st.lists(_HOSTILE, max_size=4))
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_words_survive_two_shells(
    other: Path, capfd: Any, words: list[str]
) -> None:
    fake_ssh.put_program(other, _ECHO)
    hostile = ["$(touch hacked)", "'; touch hacked #", "a\nb", '"`touch hacked`"']
    capfd.readouterr()
    assert run_on("login", [*hostile, *words], Profile()) == 0
    assert json.loads(capfd.readouterr().out) == [*hostile, *words]
    assert not list(other.rglob("hacked"))


def test_exit_code_and_messages_pass_through(other: Path, capfd: Any) -> None:
    fake_ssh.put_program(
        other,
        "#!/bin/sh\n[ $1 = --version ] && { echo " + __version__ + "; exit; }\n"
        "echo result; echo 'napari-geosr: There is no job.' >&2; exit 7\n",
    )
    said = called(capfd, "jobs", "show", "clean", "--host", "login")
    assert said == (7, "result\n", "napari-geosr: There is no job.\n")


def test_a_real_command_runs_there(other: Path, capfd: Any) -> None:
    fake_ssh.put_program(other)
    code, out, err = called(capfd, "profiles", "list", "--json", "--host", "login")
    assert (code, err) == (0, "")
    assert "gricad" in json.loads(out)["templates"]


def test_watching_streams(other: Path, capfd: Any) -> None:
    fake_ssh.put_program(
        other,
        "#!/bin/sh\n[ $1 = --version ] && { echo " + __version__ + "; exit; }\n"
        'echo first; while [ ! -e "$2" ]; do sleep 0.05; done; echo last\n',
    )
    go, out = other / "go", list[str]()
    words = ["list", str(go)]
    thread = threading.Thread(target=run_on, args=("login", words, Profile()))
    thread.start()
    end = time.monotonic() + 120
    while "first" not in "".join(out) and time.monotonic() < end:
        out.append(capfd.readouterr().out)
        time.sleep(0.02)
    assert "".join(out) == "first\n"
    go.touch()
    thread.join(120)
    assert capfd.readouterr().out == "last\n"


def test_nothing_is_left_on_the_login_node(other: Path) -> None:
    """When ssh ends for any reason, the command on the other computer ends, too."""
    fake_ssh.put_program(
        other,
        "#!/bin/sh\n[ $1 = --version ] && { echo " + __version__ + "; exit; }\n"
        f"echo $$ >{other}/pid; exec sleep 600\n",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_geosr", "jobs", "watch", "x", "--host", "login"]
    )
    end = time.monotonic() + 240
    while not (other / "pid").exists() or not (other / "pid").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    pid = int((other / "pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _is_running(pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it ends while being read
        return False
    return state != "Z"


# The profile states how napari-geosr is started there


def test_a_profile_says_how_it_starts(other: Path, capfd: Any) -> None:
    (other / "my venv").mkdir()
    fake_ssh.put_program(
        other / "my venv", _ECHO.replace("exec", "env | grep GREET\nexec")
    )
    words = ["profiles", "new", "mine", "--template", "slurm", "--host", "me@login"]
    words += ["--setup", "echo chatter; export GREET=hello"]
    words += ["--remote-command", f"'{other}/my venv/napari-geosr'"]
    assert run(words) == 0
    # By its host, and by its name.
    for more in (["--host", "me@login"], ["--host", "login", "--profile", "mine"]):
        code, out, err = called(capfd, "jobs", "resume", "x", *more)
        assert code == 0
        assert out.splitlines()[0] == "GREET=hello"
        assert err == ""


# Errors, in a sentence


def refused(capfd: Any, *words: str) -> str:
    code, out, err = called(capfd, *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("napari-geosr: ")
    return err


def test_without_ssh(capfd: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused(capfd, "jobs", "list", "--host", "me@login")
    assert "ssh is not installed on this computer. Install OpenSSH" in said


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        (
            "ssh: connect to host login port 22: Connection refused",
            "Check the computer's name",
        ),
        ("ssh: Could not resolve hostname login", "Check the computer's name"),
        ("noise\nme@login: Permission denied (publickey,password).", "ssh-copy-id"),
        ("Host key verification failed.", "Connect once manually"),
        ("", "no reason given"),
    ],
)
def test_a_refused_connection(
    other: Path, capfd: Any, refusal: str, advice: str
) -> None:
    (other / "refusal").write_text(refusal + "\r\n")
    said = refused(capfd, "jobs", "list", "--host", "me@login")
    assert "cannot connect to me@login" in said
    assert refusal.splitlines()[-1].rstrip(".") in said if refusal else True
    assert advice in said


def test_napari_geosr_is_missing_there(other: Path, capfd: Any) -> None:
    path = other / "missing" / "napari-geosr"
    words = ["profiles", "new", "mine", "--template", "slurm", "--host", "login"]
    assert run([*words, "--remote-command", str(path)]) == 0
    said = refused(capfd, "jobs", "list", "--host", "login")
    assert "login cannot start napari-geosr" in said
    assert "No such file" in said
    assert "Install it there" in said


def test_another_major_version(other: Path, capfd: Any) -> None:
    fake_ssh.put_program(other, "#!/bin/sh\necho 7.2.1\n")
    said = refused(capfd, "jobs", "list", "--host", "login")
    assert "login has napari-geosr 7.2.1, but this computer has" in said
    assert "Install the same version on both" in said


def test_another_minor_version_is_noted(other: Path, capfd: Any) -> None:
    major = __version__.partition(".")[0]
    fake_ssh.put_program(other, _ECHO.replace(__version__, f"{major}.987.1"))
    code, out, err = called(capfd, "jobs", "list", "--json", "--host", "login")
    assert (code, json.loads(out)) == (0, ["jobs", "list", "--json"])
    assert err == (
        f"note: login has napari-geosr {major}.987.1, but this computer has "
        f"{__version__}. Options and results may differ.\n"
    )
    # The docks receive the same message.
    notes = list[str]()
    output_of("login", ["jobs", "list"], Profile(), on_note=notes.append)
    assert notes == [err.strip().removeprefix("note: ")]


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch hacked", "a b", "$(touch hacked)", "", "a\n"]
)
def test_a_host_is_never_an_option(other: Path, capfd: Any, host: str) -> None:
    said = refused(capfd, "jobs", "list", f"--host={host}")
    assert "is not a valid computer name" in said
    assert not (other / "host").exists()
    if host:
        words = ["profiles", "new", "mine", "--template", "slurm", f"--host={host}"]
        refused(capfd, *words)


# A real server


@pytest.fixture
def server(
    new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The name of a real sshd on a free port, with a separate key."""
    daemon = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
    keygen, ssh = shutil.which("ssh-keygen"), shutil.which("ssh")
    if daemon is None or keygen is None or ssh is None:
        pytest.skip("no OpenSSH server here (apt-get install openssh-server)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd requires it, even without PAM
    folder = new_folder()
    for name in ("host", "mine"):
        subprocess.run(
            [keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    shutil.copy(folder / "mine.pub", folder / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized\nPidFile {folder}/pid\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\n"
    )
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "config").write_text(
        f"Host there\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
        f" IdentityFile {folder}/mine\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {folder}/known\n"
    )
    # ssh reads the configuration of the account, not of HOME.
    write_program(folder / "ssh", f'#!/bin/sh\nexec {ssh} -F {folder}/config "$@"\n')
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    process = subprocess.Popen([daemon, "-D", "-e", "-f", folder / "sshd_config"])
    end = time.monotonic() + 120
    while not _listens(port):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    yield "there"
    process.terminate()
    process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_over_a_real_server(server: str, tmp_path: Path, capfd: Any) -> None:
    folder = tmp_path / "it's $(touch hacked)\na job"
    settings_ = {"operation": "restore", "out": str(tmp_path / "x.tif")}
    JobFolder.create(folder, settings_, name="far")
    program = fake_ssh.put_program(tmp_path)
    source = Path(__file__).parents[2] / "src"
    words = ["profiles", "new", "mine", "--template", "slurm", "--host", server]
    words += ["--setup", f"export PYTHONPATH={source} XDG_STATE_HOME={tmp_path}"]
    assert run([*words, "--remote-command", str(program)]) == 0
    words = ["jobs", "show", str(folder), "--json", "--host", server]
    code, out, err = called(capfd, *words)
    assert (code, err) == (0, "")
    assert json.loads(out)["path"] == str(folder)
