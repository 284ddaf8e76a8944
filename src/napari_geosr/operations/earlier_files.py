"""Removes files of an earlier result that the new result does not replace."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from napari_geosr.core.volume import Volume

#: The files of one result are written within this time of each other, in ns. A file
#: modified later was edited or replaced by someone else.
_WRITING_NS = 60_000_000_000


class EarlierFiles:
    """Optional files of an earlier result, such as a table.

    Files are listed only if the main file of the earlier result, which the new result
    replaces, exists. Files that were modified more than a minute after the main file
    are kept, because they may have been edited.

    Parameters
    ----------
    main : path
        Main file of the result.
    optional : str
        Regular expression of the names of all optional files that the command can
        write.
    """

    def __init__(self, main: Path, optional: str) -> None:
        self._main = main
        self._found: list[Path] = []
        self._edited: set[Path] = set()
        if main.is_file():
            self._found = sorted(
                path
                for path in main.parent.iterdir()
                if re.fullmatch(optional, path.name)
                and path.is_file()
                and not path.is_symlink()
            )
            latest = main.stat().st_mtime_ns + _WRITING_NS
            self._edited = {p for p in self._found if p.stat().st_mtime_ns > latest}

    @property
    def removable(self) -> tuple[str, ...]:
        """Names of the files that were not edited since they were written."""
        return tuple(path.name for path in self._found if path not in self._edited)

    def remove(
        self, written: Iterable[Path], volumes: Iterable[Volume | None] = ()
    ) -> list[str]:
        """Remove the files that the new, complete result does not replace.

        Parameters
        ----------
        written : iterable of path
            Files of the new result.
        volumes : iterable of Volume or None
            Inputs of the new result; their files are kept.

        Returns
        -------
        list of str
            Remarks that name the files that were removed, were kept because they had
            been modified, or could not be removed.
        """
        inputs = [v.source for v in volumes if v is not None and v.source is not None]
        kept = {path.expanduser().resolve() for path in (*written, *inputs)}
        old = [path for path in self._found if path.resolve() not in kept]
        edited = [path.name for path in old if path in self._edited]
        removed, left = [], []
        for path in old:
            if path in self._edited:
                continue
            try:
                path.unlink(missing_ok=True)
                removed.append(path.name)
            except OSError:
                left.append(path.name)
        folder, remarks = self._main.parent, []
        if removed:
            remarks.append(
                f"Removed from {folder}, because they belonged to the result that was "
                f"overwritten: {', '.join(removed)}."
            )
        if edited:
            remarks.append(
                f"{folder} still contains files of the result that was overwritten, "
                f"because they have been modified: {', '.join(edited)}. They do not "
                "belong to the new result."
            )
        if left:
            remarks.append(
                f"{folder} still contains files of the result that was overwritten, "
                f"which could not be removed: {', '.join(left)}. Delete them."
            )
        return remarks
