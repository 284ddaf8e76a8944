"""Files of an explanation: values as JSON, attributions as volumes, the pore table."""

from __future__ import annotations

import csv
import math
from collections.abc import Generator
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.io import atomic
from napari_geosr.measure.export import write_json
from napari_geosr.operations.explain.config import ExplainConfig

if TYPE_CHECKING:
    from napari_geosr.operations.explain.run import ExplainResult
    from napari_geosr.operations.explain.targets import Explanation

FIGURES, TABLE = "explanation.json", "pores.csv"


def _overlay_name(method: str) -> str:
    return f"{method}.ome.tif"


def check_files(
    folder: str | Path, config: ExplainConfig, *, pores: bool, overwrite: bool
) -> None:
    """Raise `FileError` before the run if a file must not be overwritten."""
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder. Choose another one.")
    names = [FIGURES, *map(_overlay_name, config.method), *([TABLE] if pores else [])]
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise FileError(
            f"{folder} already contains {', '.join(existing)}. Choose another folder, "
            "or allow overwriting (--overwrite)."
        )


def write_steps(
    result: ExplainResult,
    folder: str | Path,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, dict[str, Path]]:
    """Write an explanation into a folder, which is created if missing.

    Returns
    -------
    dict
        Path by kind: ``json``, ``csv`` and the names of the methods.
    """
    folder = Path(folder).expanduser()
    yield StageStarted(message="Writing the explanation")
    config, pores = result.prepared.config, result.table is not None
    check_files(folder, config, pores=pores, overwrite=overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"The folder {folder} cannot be created: {error.strerror}. Choose another "
            "one."
        ) from error
    written = {}
    overlays = {} if pores else dict(result.explanations[0].overlays)
    if result.verdicts is not None:
        overlays = {"evidence": result.verdicts}
    for name, volume in overlays.items():
        path = folder / _overlay_name(name)
        written[name] = io.write(
            volume, path, overwrite=overwrite, should_stop=should_stop
        )
    if pores:
        text = _table(result)
        written["csv"] = atomic.write_text(folder / TABLE, text, overwrite=overwrite)
    written["json"] = write_json(
        folder / FIGURES, result.to_json_dict(), overwrite=overwrite
    )
    return written


#: Columns added to the pore table, by method: title, and path to the value.
_COLUMNS = {
    "evidence": (
        ("evidence", ("verdict",)),
        ("evidence_log_ratio", ("log_ratio",)),
        ("evidence_survival", ("survival",)),
        ("evidence_support", ("support",)),
    ),
    "reach": (("reach_90", ("radius", "90%")),),
    "similar": (
        ("similar", ("verdict",)),
        ("similar_distance", ("distance",)),
    ),
}


def _table(result: ExplainResult) -> str:
    """The pore table with columns for the explanations; empty without a table."""
    assert result.table is not None
    found = {e.row.label: e for e in result.explanations if e.row is not None}
    methods = [m for m in result.prepared.config.method if m in _COLUMNS]
    unit = result.prepared.volume.unit
    titles = [
        f"{title} ({unit})" if title == "reach_90" else title
        for method in methods
        for title, _ in _COLUMNS[method]
    ]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head, *rows = result.table.text
    writer.writerow([*head, *titles])
    for row, cells in zip(result.table.rows, rows, strict=True):
        each = found.get(row.label)
        more = [
            "" if each is None else _cell(each, method, way)
            for method in methods
            for _, way in _COLUMNS[method]
        ]
        writer.writerow([*cells, *more])
    return text.getvalue()


def _cell(found: Explanation, method: str, way: tuple[str, ...]) -> object:
    value: object = found.findings[method].figures
    for key in way:
        value = value[key]  # type: ignore[index]
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return "" if missing else value
