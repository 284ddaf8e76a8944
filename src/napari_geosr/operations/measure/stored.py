"""Reads a measurement from files written by `operations.measure.files`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyDict
from napari_geosr.measure.overview import Overview
from napari_geosr.measure.reports.stored import report_from_files
from napari_geosr.operations.measure import files as report_files

if TYPE_CHECKING:
    from napari_geosr.measure.reports.report import PorosityReport

REFERENCE = "reference"


def read_reports(
    folder: Path, labels: object = None
) -> tuple[dict[str, PorosityReport], AnyDict]:
    """Read the reports of the measurement that was written to a folder.

    Parameters
    ----------
    folder : Path
        Folder that contains ``report.json`` and ``pores.csv``.
    labels : array-like, optional
        Labels of the pores of the first report.

    Returns
    -------
    reports : dict of PorosityReport
        ``"input"`` and, if there are references, ``"reference"`` for the first of them.
    record : dict
        The provenance record of the measurement.

    Raises
    ------
    FileError
        If a file is missing, damaged, or written by another release.
    """
    files = report_files.plan(folder, ["input", REFERENCE], overviews=True)
    path = files["json"]
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise FileError(f"{path} contains no report. Measure again.")
    reports = {
        "input": report_from_files(
            values,
            files["csv"],
            labels,
            tables=report_files.tables_in(folder),
            overview=Overview.from_file(files["overview"]),
        )
    }
    if isinstance(values.get(REFERENCE), dict):
        reports[REFERENCE] = report_from_files(
            values[REFERENCE],
            files[f"csv {REFERENCE}"],
            tables=report_files.tables_in(folder, REFERENCE),
            overview=Overview.from_file(files[f"overview {REFERENCE}"]),
        )
    record = values.get("provenance")
    return reports, record if isinstance(record, dict) else {}
