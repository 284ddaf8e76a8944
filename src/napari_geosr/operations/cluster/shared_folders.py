"""Folders in which workers on several computers find copies of their inputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from distributed import Client

    from napari_geosr.operations.cluster import Workers

#: Environment variable with a folder that all computers of a Dask cluster can access.
_VARIABLE = "NAPARI_GEOSR_SHARED_FOLDER"
#: Hidden folders of jobs on several nodes, by the client of their workers.
FOLDERS_OF_JOBS: WeakKeyDictionary[Client, Path] = WeakKeyDictionary()


def folder_for_copies(workers: Workers) -> Path | None:
    """Return a folder that the workers can access; None for the cache folder.

    Jobs use their own folder; other clients use the folder that the user has set.
    Workers that cannot access the cache folder raise an error.

    Parameters
    ----------
    workers : int or distributed.Client
    """
    if isinstance(workers, int):
        return None
    if (folder := FOLDERS_OF_JOBS.get(workers)) is not None:
        return folder
    given = os.environ.get(_VARIABLE, "").strip()
    return Path(given).expanduser().absolute() if given else None
