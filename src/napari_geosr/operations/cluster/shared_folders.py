"""Folders in which workers on several computers find copies of their inputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from distributed import Client

    from napari_geosr.operations.cluster import Workers

#: Environment variable with a folder for copies, which all workers can access.
SHARED_FOLDER = "NAPARI_GEOSR_SHARED_FOLDER"
#: Hidden folder of each job on several nodes, by the client of the job's workers.
FOLDERS_OF_JOBS: WeakKeyDictionary[Client, Path] = WeakKeyDictionary()


def folder_for_copies(workers: Workers) -> Path | None:
    """Return a folder that the workers can access; None for the cache folder.

    Jobs on several nodes use their own folder; other runs use the folder that the user
    has set, if any. Workers that cannot access the cache folder raise an error.

    Parameters
    ----------
    workers : int or distributed.Client
    """
    if not isinstance(workers, int):
        folder = FOLDERS_OF_JOBS.get(workers)
        if folder is not None:
            return folder
    given = os.environ.get(SHARED_FOLDER, "").strip()
    return Path(given).expanduser().absolute() if given else None


def is_folder_of_job(folder: Path) -> bool:
    """Return whether copies in a folder are in the hidden folder of a running job."""
    return folder in FOLDERS_OF_JOBS.values()
