"""Determine the ages of files in shared folders, even if clocks differ."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryFile

#: Minimum time between two queries of a file system's clock, in seconds.
_VALID_SECONDS = 60.0
#: For each device, the time of its last query and the time that its clock showed then.
_queried: dict[int, tuple[float, float]] = {}


def file_system_time(folder: Path) -> float:
    """Return the time by the clock of a folder's file system, in seconds since 1970.

    On network drives, this is the clock of the server. If nothing can be written, it is
    the clock of this computer.
    """
    try:
        device = folder.stat().st_dev
        asked, shown = _queried.get(device, (-_VALID_SECONDS, 0.0))
        if time.monotonic() - asked >= _VALID_SECONDS:
            with TemporaryFile(dir=folder) as stream:
                shown = os.fstat(stream.fileno()).st_mtime
            asked = time.monotonic()
            _queried[device] = asked, shown
    except OSError:
        return time.time()
    return shown + time.monotonic() - asked


def is_older(moment: float, seconds: float, folder: Path) -> bool:
    """Whether `moment` is more than `seconds` ago, according to two clocks.

    The clocks are those of this computer and of the folder's file system.

    Parameters
    ----------
    moment : float
        Time of modification of a file, or time written by another computer.
    seconds : float
    folder : Path
        Folder of the file.
    """
    if time.time() - moment <= seconds:
        return False
    return file_system_time(folder) - moment > seconds
