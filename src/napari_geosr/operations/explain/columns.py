"""Columns that explanations add to a pore table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.operations.explain.targets import PoreRow, StoredPoreTable

if TYPE_CHECKING:
    from napari_geosr.core.types import AnyArray
    from napari_geosr.measure.reports.report import PorosityReport
    from napari_geosr.operations.explain.run import ExplainResult
    from napari_geosr.operations.explain.targets import Explanation

#: Name of each added column, and path to its value in the findings, by method.
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
#: Columns that contain text; all other columns contain numbers.
_WORDS = ("evidence", "similar")
#: Columns of lengths, in the unit of the scan's voxel size.
_LENGTHS = ("reach_90",)


@dataclass(frozen=True)
class AddedColumn:
    """Values of an added column; None for pores that were not explained."""

    name: str
    unit: str
    values: tuple[object, ...]

    def as_array(self) -> AnyArray:
        """Return the values as an array; NaN or empty text for unexplained pores."""
        if self.name in _WORDS:
            return np.array(["" if v is None else str(v) for v in self.values], str)
        numbers: AnyArray = np.array(self.values, np.float64)  # None becomes NaN
        return numbers


def added_columns(result: ExplainResult) -> Iterator[AddedColumn]:
    """Yield the columns for the methods of a run, one value per row of its table."""
    assert result.table is not None
    found = {e.row.label: e for e in result.explanations if e.row is not None}
    rows = [found.get(row.label) for row in result.table.rows]
    for method in result.prepared.config.method:
        for name, way in _COLUMNS.get(method, ()):
            values = (None if e is None else _value(e, method, way) for e in rows)
            unit = result.prepared.volume.unit if name in _LENGTHS else ""
            yield AddedColumn(name, unit, tuple(values))


def _value(found: Explanation, method: str, way: tuple[str, ...]) -> object:
    value: object = found.findings[method].figures
    for key in way:
        value = value[key]  # type: ignore[index]
    is_missing = isinstance(value, float) and not math.isfinite(value)
    return None if is_missing else value


def pores_of_report(report: PorosityReport) -> StoredPoreTable:
    """Convert the pores of an in-memory report to a table for an explanation."""
    if report.neighbourhood:
        raise VolumeError(
            "Pores that were found with a local threshold or hysteresis cannot be "
            "explained. Measure with one threshold for all voxels."
        )
    table, n = report.table, report.pore_count
    boxes = []
    for axis in "zyx"[-len(report.shape) :]:
        # A 2D image has no columns for Z.
        starts = table.get(f"bbox_start_{axis}", np.zeros(n, np.int64))
        ends = table.get(f"bbox_end_{axis}", np.ones(n, np.int64))
        boxes.append(zip(starts.tolist(), ends.tolist(), strict=True))
    labels, voxels = table["label"].tolist(), table["voxels"].tolist()
    rows = [
        PoreRow(label, size, box)
        for label, size, box in zip(
            labels, voxels, zip(*boxes, strict=True), strict=True
        )
    ]
    return StoredPoreTable(
        Path(report.name),
        tuple(rows),
        (),
        report.threshold,
        "bright" if report.phase == "bright" else "dark",
        6 if report.connectivity == 6 else 26,
    )


def with_explanations(report: PorosityReport, result: ExplainResult) -> PorosityReport:
    """Return the report, with the columns added by the run that explained its pores."""
    added = list(added_columns(result))
    return replace(
        report,
        table={**report.table, **{c.name: c.as_array() for c in added}},
        units={**report.units, **{c.name: c.unit for c in added}},
    )
