"""The files of a measurement: JSON, CSV, a picture, a page, and labels on request."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io import atomic
from napari_geosr.measure import export
from napari_geosr.operations.inputs import refuse_own_source
from napari_geosr.operations.measure import (
    MeasureConfig,
    measure_record,
    reference_first,
)

if TYPE_CHECKING:
    from napari_geosr.measure.report import PorosityReport

#: Letters of a layer's name that are kept in a file name; systems allow 255 bytes.
_LONGEST_NAME = 60


def plan(
    folder: str | Path, names: Sequence[str], *, labels: bool = False, stem: str = ""
) -> dict[str, Path]:
    """Name the files that the reports called `names` will be written to.

    Parameters
    ----------
    folder : path
        Made when it does not exist.
    names : sequence of str
        The first is the volume that was measured, others are compared with it.
    labels : bool
        Whether the labelled pores of the first are written too.
    stem : str
        Put before each file name, for several measurements in one folder.

    Returns
    -------
    dict
        Path by kind: ``json``, ``html``, ``png``, ``csv``, ``csv NAME`` for the others,
        ``labels``.
    """
    folder = Path(folder).expanduser()
    start = f"{stem}_" if stem else ""
    files = {
        "json": folder / f"{start}report.json",
        "html": folder / f"{start}report.html",
        "png": folder / f"{start}histogram.png",
        "csv": folder / f"{start}pores.csv",
    }
    used: set[str] = set()
    for name in names[1:]:
        safe = safe_name(name)
        while safe.casefold() in used:
            safe += "_"
        used.add(safe.casefold())
        files[f"csv {name}"] = folder / f"{start}pores_{safe}.csv"
    if labels:
        files["labels"] = folder / f"{start}pores.ome.tif"
    return files


def safe_name(name: str) -> str:
    """The name of a layer as part of a file name: no separators, not too long."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return safe[:_LONGEST_NAME]


def column_titles(volumes: Mapping[str, Volume]) -> dict[str, str]:
    """What people see of each volume: its name, told apart where two have the same."""
    names = [volume.name for volume in volumes.values()]
    return {
        key: volume.name if names.count(volume.name) == 1 else f"{volume.name} ({key})"
        for key, volume in volumes.items()
    }


def check(files: Mapping[str, Path], *, overwrite: bool) -> None:
    """Raise `FileError` before the work if files would be replaced without leave."""
    folder = next(iter(files.values())).parent
    existing = [path.name for path in files.values() if path.exists()]
    if existing and not overwrite:
        raise FileError(
            f"{folder} already holds {', '.join(existing)}. Choose another folder, or "
            "allow overwriting (--overwrite)."
        )
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder. Choose another one.")
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise FileError(
            f"Reports cannot be written to {folder}: {there} is not writable. Choose "
            "another folder."
        )


def write(
    files: Mapping[str, Path],
    volumes: Mapping[str, Volume],
    reports: Mapping[str, PorosityReport],
    config: MeasureConfig,
    record: AnyMapping | None = None,
    *,
    more: AnyMapping | None = None,
    overwrite: bool = True,
) -> None:
    """Write what `plan` named: all of it or, on a full disk, nothing.

    Parameters
    ----------
    record : mapping, optional
        The provenance record made when the volumes were measured. Without it, it is
        made now, for which their files or voxels are read.
    more : mapping, optional
        Added to the JSON file.
    overwrite : bool
        Whether existing files are replaced, as in `check`, which may have been
        long ago: of two measurements into one folder, the second then fails here.

    Raises
    ------
    FileError
        If the folder cannot be made, a file cannot be written or must not be replaced,
        or one of the volumes was read from there.
    """
    for volume in volumes.values():
        refuse_own_source(volume, *files.values())
    folder = files["json"].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"The folder {folder} cannot be made: {error.strerror}. Choose another one."
        ) from error
    if record is None:
        record = measure_record(volumes, config)
    first, *others = reports
    values = reports[first].to_json_dict() | {"provenance": record}
    for name in others:  # one at most; a layer's name could be a figure's
        values["reference"] = reports[name].to_json_dict()
    values |= more or {}
    check(files, overwrite=overwrite)
    # The first name is as good as a lock: who comes second gets none of the others.
    with atomic.replacing_all(list(files.values()), overwrite=overwrite) as made:
        export.write_json(made[files["json"]], values)
        export.write_csv(made[files["csv"]], reports[first])
        for name in others:
            export.write_csv(made[files[f"csv {name}"]], reports[name])
        titles = column_titles(volumes)
        shown = {titles[name]: reports[name] for name in reference_first(reports)}
        export.write_png(made[files["png"]], shown)
        export.write_html(
            made[files["html"]],
            shown,
            title=f"Porosity of {volumes[first].name}",
            provenance=[record],
        )
        if "labels" in files:
            volume = volumes[first]
            labelled = volume.replace(
                data=reports[first].labels, provenance=(*volume.provenance, record)
            )
            io.write(labelled, made[files["labels"]], kind="labels")
