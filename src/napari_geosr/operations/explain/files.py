"""Files of an explanation: values as JSON, attributions as volumes, the pore table."""

from __future__ import annotations

import csv
import re
from collections.abc import Generator
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.measure.reports.export import write_json
from napari_geosr.operations.earlier_files import EarlierFiles
from napari_geosr.operations.explain.columns import added_columns
from napari_geosr.operations.explain.config import ExplainConfig, methods

if TYPE_CHECKING:
    from napari_geosr.operations.explain.run import ExplainResult

FIGURES, TABLE = "explanation.json", "pores.csv"


def _overlay_name(method: str) -> str:
    return f"{method}.ome.tif"


def check_files(
    folder: str | Path, config: ExplainConfig, *, pores: bool, overwrite: bool
) -> None:
    """Raise `FileError` if the folder is a file, or a file must not be overwritten."""
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
    overlays = {} if pores else dict(result.explanations[0].overlays)
    if result.verdicts is not None:
        overlays = {"evidence": result.verdicts}
    files = {name: folder / _overlay_name(name) for name in overlays}
    if pores:
        files["csv"] = folder / TABLE
    files["json"] = folder / FIGURES
    # Do not include `TABLE`, because `measure` writes tables with the same name.
    every = (*(method.name for method in methods()), "evidence")
    earlier = EarlierFiles(
        files["json"], "|".join(re.escape(_overlay_name(name)) for name in every)
    )
    with (
        atomic.created_folder(folder),
        atomic.replacing_all(list(files.values()), overwrite=overwrite) as made,
    ):
        for name, volume in overlays.items():
            io.write(volume, made[files[name]], should_stop=should_stop)
        if pores:
            atomic.write_text(made[files["csv"]], _table(result))
        write_json(made[files["json"]], result.to_json_dict())
    for remark in earlier.remove(files.values(), [result.prepared.volume]):
        yield WarningIssued(message=remark)
    return files


def _table(result: ExplainResult) -> str:
    """Return the pore table with the added columns, as CSV text."""
    assert result.table is not None
    added = list(added_columns(result))
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head, *rows = result.table.text
    titles = [f"{c.name} ({c.unit})" if c.unit else c.name for c in added]
    writer.writerow([*head, *titles])
    for cells, *more in zip(rows, *(c.values for c in added), strict=True):
        writer.writerow([*cells, *("" if value is None else value for value in more)])
    return text.getvalue()
