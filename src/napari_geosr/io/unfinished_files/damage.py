"""Distinguish damaged files from files that cannot be read at the moment.

Unfinished work may be removed only if it is damaged. After a system error, for example
of a network drive, the same file may be readable again a moment later.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from napari_geosr.core.errors import FileError, describe_system_error
from napari_geosr.io.unfinished_files.hidden import with_user_names

#: Error codes that damaged or missing content can cause: readers seek to offsets and
#: open names that are stored in the file.
_CAUSED_BY_CONTENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EINVAL,
        errno.ENAMETOOLONG,
        errno.EOVERFLOW,
    }
)


def system_reason(error: BaseException) -> str:
    """Return the system error that caused `error`, as text.

    The text is empty if the content of the file may be the cause.
    """
    each: BaseException | None = error
    while each is not None:
        if text := describe_system_error(each):
            return text
        number = each.errno if isinstance(each, OSError) else None
        if number is not None and number not in _CAUSED_BY_CONTENT:
            return f"{os.strerror(number)}."
        hidden = None if each.__suppress_context__ else each.__context__
        each = each.__cause__ or hidden
    return ""


def check_openable(path: Path) -> None:
    """Raise `OSError` if the system cannot open a file or folder."""
    if path.is_dir():
        os.scandir(path).close()
    else:
        path.open("rb").close()


def unreadable_now(path: Path, reason: str) -> FileError:
    """Return the error for unfinished work that is unreadable at the moment."""
    return FileError(
        f"The unfinished {with_user_names(path.name)} of an earlier run cannot be read "
        f"at the moment, so it was kept: {reason.rstrip('.')}. Run the same command "
        f"again. If this error persists, delete {path} and start from the beginning."
    )
