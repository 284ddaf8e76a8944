"""Queue of this computer: jobs run one after the other in their own processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_geosr.jobs import local
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.profiles import Profile
from napari_geosr.jobs.queues import QueueState, QueueSystem
from napari_geosr.jobs.queues._scripts import LOG, quote


class Local:
    """Jobs of this computer; resources and walltime do not limit them."""

    title = "this computer"
    number_variable = ""

    def script(
        self, name: str, folder: Path, profile: Profile, command: tuple[str, ...]
    ) -> str:
        """Write the script; see `QueueSystem.script`."""
        setup = "".join(f"{line}\n" for line in profile.setup)
        words = " ".join(quote(word) for word in command)
        return (
            "#!/bin/bash\n# Runs the job of this folder; its state, its log and its "
            f"settings are there, too.\ncd {quote(folder)} || exit 2\n{setup}"
            f"exec {words} >>{quote(LOG)} 2>&1\n"
        )

    def submit(self, folder: Path) -> str:
        """Start the process, which waits for its turn."""
        return str(local.start(JobFolder(folder)))

    def states(self, numbers: Mapping[Path, str]) -> dict[Path, QueueState]:
        """Nothing: the folder of a job says everything."""
        return {}

    def cancel(self, number: str) -> None:
        """Nothing: the process follows the request in its folder."""


QUEUE: QueueSystem = Local()
