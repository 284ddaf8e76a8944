"""Disk space for memory-mapped files, and folders that are kept in memory.

The size of a file can exceed the disk space that is reserved for it. If the disk is
full when such a file is written through a mapping, the system kills the process.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO

#: Error codes of file systems that cannot reserve space.
_UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP)
#: File systems that keep files in memory.
_IN_MEMORY = ("tmpfs", "ramfs")
#: Number of bytes written at a time.
_AT_ONCE = 1 << 22


def reserve_space(stream: IO[bytes], size: int) -> bool:
    """Make a file `size` bytes long, and reserve disk space for all of them.

    Existing bytes are kept. Returns whether space could be reserved; some systems and
    file systems do not support it.

    Raises
    ------
    OSError
        If the disk has too little space, or the file would be too large.
    """
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def fill_space(stream: IO[bytes], size: int, start: int = 0) -> None:
    """Reserve disk space from byte `start` on, by writing zeros where necessary.

    Parameters
    ----------
    stream : file
        Open for writing and empty from `start` on.
    size : int
        Size of the file in bytes.
    start : int

    Raises
    ------
    OSError
        If the disk has too little space, or the file would be too large.
    """
    if reserve_space(stream, size):
        return
    stream.seek(start)
    zeros = bytes(_AT_ONCE)
    for done in range(start, size, _AT_ONCE):
        stream.write(zeros[: size - done])
    stream.flush()


def is_in_memory(folder: Path) -> bool:
    """Whether files in a folder are kept in memory, as in ``/tmp`` on many systems."""
    import psutil

    place = folder.resolve()
    kinds = {Path(p.mountpoint): p.fstype for p in psutil.disk_partitions(all=True)}
    mounted = next((each for each in (place, *place.parents) if each in kinds), None)
    return mounted is not None and kinds[mounted] in _IN_MEMORY
