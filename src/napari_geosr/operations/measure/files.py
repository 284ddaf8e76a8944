"""Files of a measurement: JSON, CSV, picture, HTML page and, optionally, labels."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic, claims
from napari_geosr.io.unfinished_files.finished import record_finished
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.overview import drawing
from napari_geosr.measure.overview.curves import curve_pictures
from napari_geosr.measure.reports import export
from napari_geosr.measure.reports.named import named_warning
from napari_geosr.operations.earlier_files import EarlierFiles
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.measure import (
    MeasureConfig,
    measure_record,
    message_titles,
    reference_first,
    reference_key,
)

if TYPE_CHECKING:
    from napari_geosr.measure.reports.report import PorosityReport

#: Maximum length of a layer's name in a file name, in characters; systems allow 255
#: bytes.
_MAX_NAME_LENGTH = 60


def plan(
    folder: str | Path,
    names: Sequence[str],
    *,
    labels: bool = False,
    stem: str = "",
    statistics: Sequence[str] = (),
    overviews: bool = False,
) -> dict[str, Path]:
    """Choose the paths of a measurement's files.

    Parameters
    ----------
    folder : path
        Folder for the files; `write` creates it if it is missing.
    names : sequence of str
        Names of the reports. The first is the measured volume; others are compared with
        it.
    labels : bool
        Whether the labelled pores of the first volume are also written.
    stem : str
        Prefix of each file name, for several measurements in one folder.
    statistics : sequence of str
        Names of the requested morphometry statistics, which may have separate tables.
    overviews : bool
        Whether to write the data needed to redraw the overview of the phases.

    Returns
    -------
    dict
        Path by kind: ``json``, ``html``, ``png``, ``values`` (all values side by side),
        ``csv`` (the pores), ``csv NAME`` for the others, ``table NAME`` for tables of
        morphometry (``table NAME REPORT`` for those of the others), ``labels``, and
        ``overview`` and ``overview NAME`` for the phases at a reduced resolution.
    """
    folder = Path(folder).expanduser()
    start = f"{stem}_" if stem else ""
    files = {
        "json": folder / f"{start}report.json",
        "html": folder / f"{start}report.html",
        "png": folder / f"{start}histogram.png",
        "values": folder / f"{start}values.csv",
        "csv": folder / f"{start}pores.csv",
    }
    used: set[str] = set()
    for name in names[1:]:
        safe = safe_name(name)
        while safe.casefold() in used:
            safe += "_"
        used.add(safe.casefold())
        files[f"csv {name}"] = folder / f"{start}pores_{safe}.csv"
    for statistic in statistics:
        for name in getattr(MORPHOMETRY.load(statistic), "TABLES", ()):
            files[f"table {name}"] = folder / f"{start}{name}.csv"
            for other in names[1:]:
                path = folder / f"{start}{name}_{_reference_part(files, other, start)}"
                files[f"table {name} {other}"] = path.with_name(f"{path.name}.csv")
    if labels:
        files["labels"] = folder / f"{start}pores.ome.tif"
    if overviews:
        files["overview"] = folder / f"{start}overview.npz"
        for name in names[1:]:
            part = _reference_part(files, name, start)
            files[f"overview {name}"] = folder / f"{start}overview_{part}.npz"
    return files


def _reference_part(files: Mapping[str, Path], name: str, start: str) -> str:
    """Return the part of a reference's file names that identifies the reference."""
    return files[f"csv {name}"].stem.removeprefix(f"{start}pores_")


def tables_in(folder: Path, reference: str = "") -> dict[str, Path]:
    """Return the paths of all tables that morphometry may write, by table name.

    Parameters
    ----------
    reference : str
        Name of the report to which the tables belong; empty for the first.
    """
    names = ["input", *([reference] if reference else [])]
    files = plan(folder, names, statistics=MORPHOMETRY.names())
    end = f" {reference}" if reference else ""
    return {
        kind.removeprefix("table ").removesuffix(end): path
        for kind, path in files.items()
        if kind.startswith("table ") and kind.count(" ") == 1 + end.count(" ")
    }


def earlier_files(files: Mapping[str, Path]) -> EarlierFiles:
    """Find files of an earlier measurement with the same prefix in the same folder."""
    main = files["json"]
    prefix = main.name.removesuffix("report.json")
    stems = (re.escape(path.stem) for path in tables_in(Path()).values())
    # Files of references are named after layers if they were exported from napari.
    layers = [f"{re.escape(n)}_*" for n in _reference_names(main)] if prefix else []
    reference = rf"_({'|'.join([r'reference(_[0-9]+)?', *layers])})"
    names = (
        *(rf"{stem}({reference})?\.csv" for stem in stems),
        r"pores\.ome\.tif",
        rf"pores{reference}\.csv",
        rf"overview({reference})?\.npz",
    )
    return EarlierFiles(main, f"{re.escape(prefix)}({'|'.join(names)})")


def _reference_names(path: Path) -> list[str]:
    """Return the names of the references in a report, as used in file names."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is no earlier report, or it is another file
        return []
    if not isinstance(values, dict):
        return []
    keys = [key for key in values if re.fullmatch(r"reference(_\d+)?", key)]
    found = [values[key] for key in keys if isinstance(values[key], dict)]
    return [safe_name(str(one["name"])) for one in found if "name" in one]


def safe_name(name: str) -> str:
    """Convert a layer's name to a short part of a file name without separators."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return safe[:_MAX_NAME_LENGTH]


def column_titles(volumes: Mapping[str, Volume]) -> dict[str, str]:
    """Return the title of each volume: its name, made unique if two are equal."""
    names = [volume.name for volume in volumes.values()]
    return {
        key: volume.name if names.count(volume.name) == 1 else f"{volume.name} ({key})"
        for key, volume in volumes.items()
    }


def check(files: Mapping[str, Path], *, overwrite: bool) -> None:
    """Raise `FileError` before the run if a file cannot be written."""
    folder = next(iter(files.values())).parent
    existing = existing_files(files)
    if existing and not overwrite:
        raise FileError(
            f"{folder} already contains {', '.join(existing)}. Choose another folder, "
            "or allow overwriting (--overwrite)."
        )
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder. Choose another one.")
    if folder.is_dir():
        for path in files.values():
            atomic.refuse_existing(path, overwrite)
    atomic.check_new_folder(folder)


def check_space(files: Mapping[str, Path], volume: Volume) -> None:
    """Raise `FileError` before the run if the disk has no space for a label volume."""
    if "labels" not in files:
        return
    folder = files["labels"].absolute().parent
    while not folder.exists():
        folder = folder.parent
    nbytes = np.dtype(np.uint32).itemsize * math.prod(volume.spatial_shape)
    atomic.check_folder(folder / files["labels"].name, nbytes)


def existing_files(files: Mapping[str, Path]) -> list[str]:
    """Return the names of the files that already exist."""
    return [path.name for path in files.values() if path.exists()]


@contextmanager
def claimed(files: Mapping[str, Path]) -> Iterator[None]:
    """Prevent other runs from writing the same report, and create its folder.

    The folder is removed again if it is still empty at the end.

    Raises
    ------
    FileError
        If the folder cannot be created, or another run is writing this report.
    """
    folder = files["json"].parent
    with atomic.created_folder(folder), claims.claimed(files["json"]):
        yield


def _described(
    volumes: Mapping[str, Volume], reports: Mapping[str, PorosityReport]
) -> dict[str, AnyDict]:
    """Return the contents of reports; with several, warnings name their volume."""
    titles = message_titles(volumes) if len(reports) > 1 else {}
    return {
        key: report.to_json_dict()
        | {
            "warnings": [
                named_warning(text, titles.get(key, ""), report.name)
                for text in report.warnings
            ]
        }
        for key, report in reports.items()
    }


def write(
    files: Mapping[str, Path],
    volumes: Mapping[str, Volume],
    reports: Mapping[str, PorosityReport],
    config: MeasureConfig,
    record: AnyMapping | None = None,
    *,
    companions: Mapping[str, Volume | None] | None = None,
    more: AnyMapping | None = None,
    overwrite: bool = True,
) -> dict[str, Path]:
    """Write the files named by `plan`: all of them or, if the disk is full, none.

    Parameters
    ----------
    record : mapping, optional
        The provenance record created when the volumes were measured. By default, it is
        created by this call, which requires reading the files or voxels.
    companions : mapping of str to Volume or None, optional
        Sample mask and standard deviations by name, for the record.
    more : mapping, optional
        Additional entries for the JSON file.
    overwrite : bool
        Whether existing files are overwritten. The paths are checked again, because
        `check` may have run long before.

    Returns
    -------
    dict
        Paths of the written files by kind; requested tables without values are not
        written.

    Raises
    ------
    FileError
        If the folder cannot be created, a file cannot be written or must not be
        overwritten, or is the source of one of the volumes. If files that must not be
        overwritten exist, the report is written to a new folder, which the message
        names.
    """
    for volume in volumes.values():
        check_not_source(volume, *files.values())
    if record is None:
        record = measure_record(volumes, config, companions)
    first, *others = reports
    found = _described(volumes, reports)
    values = found[first] | {"provenance": record}
    for i, name in enumerate(others):  # numbered: a name could equal another key
        values[reference_key(i)] = found[name]
    values |= more or {}
    tables = {
        f"table {name}" if report == first else f"table {name} {report}": table
        for report, values_of in reports.items()
        for found in values_of.morphometry.values()
        for name, table in found.tables.items()
    }
    overviews = {
        "overview" if name == first else f"overview {name}": report.overview
        for name, report in reports.items()
        if report.overview is not None
    }
    # A volume that could not be measured has no table, and an image has no overview.
    files = {
        kind: path
        for kind, path in files.items()
        if kind in tables
        or kind in overviews
        or not kind.startswith(("table ", "overview"))
    }
    existing, asked = existing_files(files), files
    if existing and not overwrite:  # files were created during the measurement
        files = free_files(files)
    with ExitStack() as stack:
        stack.enter_context(atomic.created_folder(files["json"].parent))
        check(files, overwrite=overwrite)
        made = stack.enter_context(
            atomic.replacing_all(list(files.values()), overwrite=overwrite)
        )
        if "labels" in files:  # the slowest file comes first (see `EarlierFiles`)
            volume = volumes[first]
            labelled = volume.replace(
                data=reports[first].labels, provenance=(*volume.provenance, record)
            )
            io.write(labelled, made[files["labels"]], kind="labels")
        export.write_json(made[files["json"]], values)
        export.write_csv(made[files["csv"]], reports[first])
        for name in others:
            export.write_csv(made[files[f"csv {name}"]], reports[name])
        for kind, table in tables.items():
            if kind in files:
                export.write_columns(made[files[kind]], table)
        for kind, overview in overviews.items():
            if kind in files:
                atomic.write_bytes(made[files[kind]], overview.to_bytes())
        titles = column_titles(volumes)
        shown = {titles[name]: reports[name] for name in reference_first(reports)}
        export.write_png(made[files["png"]], shown)
        export.write_values(made[files["values"]], shown)
        export.write_html(
            made[files["html"]],
            shown,
            title=f"Porosity of {reports[first].name}",
            pictures=drawing.pictures_of(shown) | curve_pictures(shown),
            histogram=made[files["png"]],
            provenance=[record],
        )
        record_finished(made)
    if files is not asked:
        raise moved_error(asked, files, existing)
    return files


def moved_error(
    asked: Mapping[str, Path], files: Mapping[str, Path], existing: Sequence[str]
) -> FileError:
    """Return an error stating that the report is in `files` instead of `asked`."""
    return FileError(
        f"{asked['json'].parent} already contains {', '.join(existing)}, created "
        f"during this run. The report was written to {files['json'].parent}."
    )


def free_files(files: Mapping[str, Path]) -> dict[str, Path]:
    """Return the same files in the first free folder of ``NAME_2``, ``NAME_3``, …."""
    folder = files["json"].parent.absolute()
    names = (folder.with_name(f"{folder.name}_{n}") for n in itertools.count(2))
    free = next(path for path in names if not path.exists())
    return {key: free / path.name for key, path in files.items()}
