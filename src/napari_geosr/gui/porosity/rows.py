"""Rows of the settings of the porosity dock."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QFormLayout, QLabel, QSpinBox, QWidget

from napari_geosr.core.text.flat import counted_elements
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.widgets import Section, add_row, form_layout

#: Settings in a section that is initially closed.
SELDOM_CHANGED = ("local_window", "hysteresis", "connectivity", "graph", "memory")
#: Property of a field whose size is in pixels of a single image.
_IS_FLAT = "geosr_flat"


def form_of(rows: Any) -> QFormLayout:
    """Lay out rows of (text, field, buddy)."""
    form = form_layout()
    for text, field, buddy in rows:
        add_row(form, text, field, buddy)
    return form


def more_settings() -> tuple[Section, QFormLayout]:
    """Create the section of the settings that are seldom changed, and its rows."""
    content, rows = QWidget(), form_layout()
    content.setLayout(rows)
    section = Section(
        "More settings",
        content,
        tool_tip="Local threshold, hysteresis, connectivity and memory.",
        shortcut="Alt+Shift+O",
    )
    return section, rows


def add_physical_size(form: ConfigForm, label: QLabel) -> None:
    """Show the physical size below the corresponding number of voxels."""
    rows, editor = form.layout(), form.editor("min_voxels")
    assert isinstance(rows, QFormLayout)
    assert isinstance(editor, QSpinBox)
    title = rows.labelForField(editor)
    assert isinstance(title, QLabel)
    title.setText("Min. por&e size")
    title.setBuddy(editor)

    editor.valueChanged.connect(lambda _number: show_element(editor))
    show_element(editor)
    row, _ = rows.getWidgetPosition(editor)
    rows.insertRow(row + 1, "", label)


def show_element(editor: QSpinBox, *, flat: bool | None = None) -> None:
    """Show the unit of a size: voxels or, for a single image, pixels.

    Without `flat`, the unit stays the same, but may become singular.
    """
    if flat is not None:
        editor.setProperty(_IS_FLAT, flat)
    is_flat = bool(editor.property(_IS_FLAT))
    editor.setSuffix(f" {counted_elements(editor.value(), flat=is_flat)}")
