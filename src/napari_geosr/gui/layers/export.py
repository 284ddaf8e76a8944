"""Asking where a report goes; nothing is overwritten without asking."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.operations.measure import files as report_files

if TYPE_CHECKING:
    from napari_geosr.gui.porosity.measuring import Measured

#: The file that a person names; the others lie beside it under the same stem.
_SUFFIX = "_report.html"


def export_dialog(
    parent: QWidget,
    measured: Measured,
) -> Callable[[ShouldStop], Generator[Step, None, Path]] | None:
    """Ask for folder and name, and whether to replace files that are there.

    Returns
    -------
    callable or None
        Steps that write the files and return their folder; None if the person changed
        their mind.
    """
    chosen = ask_where(parent, next(iter(measured.reports)))
    if chosen is None:
        return None
    stem = chosen.name.removesuffix(".html").removesuffix("_report")
    files = report_files.plan(chosen.parent, list(measured.reports), stem=stem)
    existing = [path.name for path in files.values() if path.exists()]
    if existing and not may_replace(parent, chosen.parent, existing):
        return None

    def steps(should_stop: ShouldStop) -> Generator[Step, None, Path]:
        """Write the report's files."""
        yield StageStarted(message="Writing the report")
        report_files.check(files, overwrite=True)
        report_files.write(
            files,
            measured.volumes,
            measured.reports,
            measured.config,
            # As it was when it was measured: the file may be another one by now.
            record=measured.record,
        )
        return chosen.parent

    return steps


def ask_where(parent: QWidget, name: str) -> Path | None:
    """Ask for the report's name; the files' names start with it."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    chosen, _ = QFileDialog.getSaveFileName(
        parent,
        "Export figures and table as…",
        f"{safe}{_SUFFIX}",
        "Report: CSV, JSON, PNG and HTML (*.html)",
        # All files are asked about together below.
        options=QFileDialog.Option.DontConfirmOverwrite,
    )
    return Path(chosen) if chosen else None


def may_replace(parent: QWidget, folder: Path, names: list[str]) -> bool:
    """Ask whether these files may be replaced; 'no' is the default."""
    box = QMessageBox.StandardButton
    answer = QMessageBox.question(
        parent,
        "Replace files?",
        f"{folder} already holds:\n" + "\n".join(names) + "\n\nReplace them?",
        box.Yes | box.No,
        box.No,
    )
    return bool(answer == box.Yes)
