"""Queue of this computer, which runs jobs one after another as processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs import local
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.queues import QueueState, QueueSystem
from napari_geosr.jobs.queues._scripts import LOG, SCRIPT, quote, setup_lines

#: Whether scripts are run by bash.
_HAS_BASH = os.name != "nt"


class Local:
    """Runs jobs on this computer, with no limits on resources or walltime."""

    title = "this computer"
    number_variable = ""
    renumbers = False

    def script(
        self, name: str, folder: Path, profile: Profile, command: tuple[str, ...]
    ) -> str:
        """Write the script; see `QueueSystem.script`.

        On Windows, the script is the command itself, without ``profile.setup``, which
        consists of lines for bash.
        """
        if not _HAS_BASH:
            return f"{subprocess.list2cmdline(command)}\n"
        words = " ".join(quote(word) for word in command)
        return (
            "#!/bin/bash\n# Runs the job in this folder, which also contains its "
            f"state, log and settings.\ncd {quote(folder)} || exit 2\n"
            f"{setup_lines(profile)}exec {words} >>{quote(LOG)} 2>&1\n"
        )

    def submit(self, folder: Path) -> str:
        """Run the script as the process of the job, which waits for its turn."""
        script = folder / SCRIPT
        if _HAS_BASH:
            return str(local.start(JobFolder(folder), ["bash", str(script)]))
        with atomic.explained(script):
            line = script.read_text(encoding="utf-8").strip()
        return str(local.start(JobFolder(folder), line))

    def count_nodes(self) -> int:
        """Return 1, because jobs run only on this computer."""
        return 1

    def start_workers(
        self, script: Path, n: int, threads: int, *, together: bool = False
    ) -> list[list[str]]:
        """Return nothing, because a job on this computer starts its workers itself."""
        return []

    def states(self, numbers: Mapping[Path, str]) -> dict[Path, QueueState]:
        """Return nothing, because the job's folder holds its state."""
        return {}

    def cancel(self, number: str) -> None:
        """Do nothing, because the process acts on the request in its folder."""


QUEUE: QueueSystem = Local()
