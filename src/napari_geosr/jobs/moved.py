"""Paths inside the folder of a job, after the folder was moved or copied."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def moved(values: Any, old: str, new: str) -> Any:
    """`values` with every path that lies in the folder `old` put into `new`.

    Parameters
    ----------
    values : object
        What a ``config.yaml`` held: mappings, lists and plain values.
    old, new : str
        Absolute paths of the folder, maybe as another system writes them.

    Returns
    -------
    object
        A copy; texts that do not begin with `old` are as they were.
    """
    if old in ("", new):
        return values
    if isinstance(values, dict):
        return {key: moved(value, old, new) for key, value in values.items()}
    if isinstance(values, list):
        return [moved(value, old, new) for value in values]
    if not isinstance(values, str):
        return values
    begins = values[: len(old)] == old
    rest = values[len(old) :]
    if not begins or not (rest == "" or rest[0] in "/\\"):
        return values
    parts = [part for part in re.split(r"[/\\]", rest) if part]
    return str(Path(new).joinpath(*parts))
