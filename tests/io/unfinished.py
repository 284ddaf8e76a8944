"""Unfinished files of killed runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from napari_geosr import io
from napari_geosr.io.suffixes import suffix_of
from napari_geosr.io.unfinished_files import hidden, journal
from napari_geosr.io.unfinished_files.journal import Journal, journal_of

SHAPE = (8, 20, 30)
#: A number that no process has.
NOBODY = 2**22 + 1
SPEC: dict[str, Any] = {
    "shape": SHAPE,
    "dtype": "float32",
    "axes": "ZYX",
    "voxel_size": (1, 2, 3),
    "unit": "mm",
    "origin": (0, 0, 0),
    "provenance": ({"operation": "test"},),
    "tile": (4, 20, 30),
}


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def killed(out: Path, *, noted: int) -> Path:
    """Files as left by a kill, copied from a run in progress."""
    rest = tuple(slice(0, n) for n in SHAPE[1:])
    running = out.parent / "running"
    running.mkdir()
    with pytest.MonkeyPatch.context() as often, pytest.raises(InterruptedError):  # noqa: PT012
        often.setattr(journal, "_MIN_INTERVAL", 0.0)
        often.setattr(journal, "_INTERVAL_FACTOR", 0.0)
        with io.create(running / out.name, io.OutputSpec(**SPEC)) as output:
            if noted >= 0:
                kept = Journal(output)
            for z in range(5):
                output.array[z] = z
                if z < noted:
                    kept.note((slice(z, z + 1), *rest), {"run": {"tile": [1, 20, 30]}})
            for left in running.glob("*.partial*"):
                name = left.name.replace(f"{os.getpid():08x}.", f"{NOBODY:08x}.")
                os.rename(left, out.parent / name)
            raise InterruptedError
    running.rmdir()
    (part,) = hidden.leftovers(out, suffix_of(out))
    if noted >= 0:
        entry = json.loads(journal_of(part).read_text()) | {"pid": NOBODY}
        journal_of(part).write_text(json.dumps(entry))
    return part
