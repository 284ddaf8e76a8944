"""A real SLURM in a temporary folder, with separate keys, ports and daemons.

All nodes, which have a daemon and a port each, are this computer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = (
    "munged",
    "slurmctld",
    "slurmd",
    "sbatch",
    "srun",
    "squeue",
    "scancel",
    "scontrol",
)
#: Debian's folder for daemons, which is not always on PATH.
_SBIN = "/usr/sbin:/sbin"

_CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
JobRequeue=1
KillWait=10
MailProg=/bin/true
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 "
    "RealMemory=2000 State=UNKNOWN"
)


def why_missing() -> str:
    """Why SLURM cannot run here; empty if it can."""
    missing = [name for name in PROGRAMS if _which(name) is None]
    if missing:
        return (
            f"SLURM is not installed ({', '.join(missing)}): apt-get install "
            "slurm-wlm munge"
        )
    if os.geteuid() != 0:
        return "SLURM's daemons need root here"
    return ""


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def slurm(folder: Path, n_nodes: int = 1) -> Iterator[Path]:
    """Run a cluster in `folder`, which must have a short name; yield its slurm.conf."""
    names = [f"node{i}" for i in range(n_nodes)]
    for name in ("state", *(f"spool-{name}" for name in names)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    conf.write_text(
        _CONF.format(
            host=host,
            user="root",
            folder=folder,
            controller=_free_port(),
            nodes="\n".join(
                _NODE.format(name=name, host=host, port=_free_port()) for name in names
            ),
        )
    )
    env = {**os.environ, "SLURM_CONF": str(conf)}
    munge = [
        "--foreground",
        "--force",
        f"--socket={folder / 'munge.sock'}",
        f"--key-file={key}",
        f"--pid-file={folder / 'munged.pid'}",
        f"--log-file={folder / 'munged.log'}",
        f"--seed-file={folder / 'munged.seed'}",
        "--num-threads=1",
    ]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "daemons.log").open("wb") as log:
            for name, words in (
                ("munged", munge),
                ("slurmctld", ["-D", "-c"]),
                *(("slurmd", ["-D", "-c", "-N", name]) for name in names),
            ):
                program = _which(name)
                assert program is not None
                daemons.append(
                    subprocess.Popen([program, *words], env=env, stdout=log, stderr=log)
                )
                if name == "munged":
                    _wait_for(lambda: (folder / "munge.sock").exists(), "munged")
        _wait_for(lambda: _is_idle(env), "slurmd")
        yield conf
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _is_idle(env: dict[str, str]) -> bool:
    words = ["sinfo", "--noheader", "--format=%T"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    return set(done.stdout.split()) == {"idle"}


def _wait_for(is_ready: object, what: str, seconds: float = 180.0) -> None:
    assert callable(is_ready)
    end = time.monotonic() + seconds
    while not is_ready():
        assert time.monotonic() < end, f"{what} did not start within {seconds:g} s"
        time.sleep(0.1)
