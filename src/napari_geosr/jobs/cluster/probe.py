"""Test whether cluster nodes can access a folder and run napari-geosr.

``python -m napari_geosr.jobs.cluster.probe FOLDER`` runs on the node.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from napari_geosr.core.documents import read_json
from napari_geosr.core.errors import Cancelled, ConfigError, FileError, JobError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.version import __version__
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs.cluster import submission
from napari_geosr.jobs.cluster.profiles import Profile, format_walltime
from napari_geosr.jobs.data import new_folder
from napari_geosr.jobs.queues import load_queue
from napari_geosr.jobs.queues._scripts import LOG

_MODULE = "napari_geosr.jobs.cluster.probe"
_QUESTION, _ANSWER = "question.json", "answer.json"
#: Maximum walltime of the probe, in seconds; short jobs start sooner.
_MAX_WALLTIME = 600
#: Seconds between two checks of the probe.
_POLL_SECONDS = 1.0
#: Seconds that a file may take to appear in a shared folder after the job has ended.
_LAG_SECONDS = 10.0


@dataclass(frozen=True)
class ProbeAnswer:
    """Answer of the probe that ran on a node.

    Attributes
    ----------
    host : str
        Name of the node.
    version : str
        Version of napari-geosr there.
    torch : str
        Version of torch there; empty if it cannot be imported.
    seconds : float
        Time from submission to answer.
    """

    host: str
    version: str
    torch: str
    seconds: float


def probe_steps(
    profile: Profile,
    parent: Path,
    *,
    max_seconds: float,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ProbeAnswer]:
    """Submit the probe in a new folder of `parent` and wait for its answer.

    Yields
    ------
    Step
        A stage whenever the state in the queue changes.

    Raises
    ------
    FileError
        If the folder does not exist.
    JobError
        If the queue refuses the job, the nodes cannot access the folder or start
        napari-geosr there, or there is no answer within `max_seconds`.
    ConfigError
        If the profile is incomplete or is for this computer, or if the major versions
        differ.
    """
    if profile.queue == submission.LOCAL:
        raise ConfigError(
            "This computer needs no test, because jobs run here in the same way as "
            "this command."
        )
    submission.check_profile(profile)
    queue = load_queue(profile.queue)
    if not parent.is_dir():
        raise FileError(
            f"The folder {parent.absolute()} does not exist. Choose an existing folder "
            "that the nodes can access."
        )
    folder = new_folder(parent.resolve(), "geosr-probe")
    number = ""
    try:
        nonce = secrets.token_hex(8)
        atomic.write_text(folder / _QUESTION, json.dumps({"nonce": nonce}))
        short = format_walltime(min(profile.seconds, _MAX_WALLTIME))
        words = (profile.python or sys.executable, "-P", "-m", _MODULE)
        script = queue.script(
            "geosr-probe",
            folder,
            profile.model_copy(update={"walltime": short}),
            (*words, str(folder)),
        )
        submission.write_script(folder, script)
        began = time.monotonic()
        number = queue.submit(folder)
        yield StageStarted(message=f"Submitted as {queue.title} job {number}")
        said, ended = "", 0.0
        while not (answer := _answer(folder, nonce)):
            now = time.monotonic()
            if should_stop():
                raise Cancelled("Stopped.")
            state = queue.states({folder: number})[folder]
            if state.words != said:
                said = state.words
                yield StageStarted(message=said.capitalize())
            ended = (ended or now) if state.phase == "ended" else 0.0
            if ended and now - ended > _LAG_SECONDS:
                raise JobError(_explain(folder, queue.title, number, said))
            if now - began > max_seconds:
                raise JobError(
                    f"{queue.title} job {number} did not finish within "
                    f"{max_seconds:.0f} s ({said}). Wait longer (--timeout), or choose "
                    "another partition."
                )
            time.sleep(_POLL_SECONDS)
        number = ""
        return _checked(answer, time.monotonic() - began)
    finally:
        if number:
            with suppress(JobError):  # the first error is the one to report
                queue.cancel(number)
        shutil.rmtree(folder, ignore_errors=True)


def _answer(folder: Path, nonce: str) -> dict[str, str]:
    try:
        values = read_json(folder / _ANSWER)
    except (OSError, ValueError):
        return {}
    is_ours = isinstance(values, dict) and values.get("nonce") == nonce
    return {k: str(v) for k, v in values.items()} if is_ours else {}


def _explain(folder: Path, title: str, number: str, words: str) -> str:
    """Explain why a finished job gave no answer."""
    try:
        said = (folder / LOG).read_text("utf-8", errors="replace").strip()
    except OSError:
        said = ""
    if not said:
        return (
            f"{title} job {number} {words}, but the nodes wrote nothing to "
            f"{folder.parent}: they probably cannot access this folder. Choose a "
            "folder on the cluster's shared file system (--folder)."
        )
    return (
        f"The node can access {folder.parent} but could not start napari-geosr: "
        f"{said.splitlines()[-1]}. In the profile, specify Python on the nodes "
        "(--python) or the commands that set it up (--setup)."
    )


def _checked(answer: dict[str, str], seconds: float) -> ProbeAnswer:
    found = answer.get("version", "")
    if found.partition(".")[0] != __version__.partition(".")[0]:
        raise ConfigError(
            f"The node has napari-geosr {found}, but this computer has {__version__}. "
            "Install the same version on both."
        )
    return ProbeAnswer(
        answer.get("host", ""), found, answer.get("torch", ""), round(seconds, 1)
    )


def answer(folder: Path) -> None:
    """Write host and versions into the folder; this runs on the node."""
    try:
        import torch

        version = str(torch.__version__)
    except (ImportError, OSError):  # not installed, or its libraries are missing
        version = ""
    values = read_json(folder / _QUESTION)
    values |= {
        "host": socket.gethostname(),
        "version": __version__,
        "torch": version,
    }
    atomic.write_text(folder / _ANSWER, json.dumps(values))


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
