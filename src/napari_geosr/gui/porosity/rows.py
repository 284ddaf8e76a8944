"""Rows of the settings of the porosity dock."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QLabel, QSpinBox, QWidget

from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.widgets import Section, form_layout

#: Settings in a section that is initially closed.
SELDOM_CHANGED = ("local_window", "hysteresis", "connectivity", "graph", "memory")


def form_of(rows: Any) -> QFormLayout:
    """Lay out rows of (text, field, buddy)."""
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for text, field, buddy in rows:
        label = QLabel(text)
        if buddy is not None:
            label.setBuddy(buddy)
            label.setToolTip(buddy.toolTip())
        label.setAccessibleName(text.replace("&", ""))
        form.addRow(label, field)
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

    def show_unit(number: int) -> None:
        editor.setSuffix(" voxel" if number == 1 else " voxels")

    editor.valueChanged.connect(show_unit)
    show_unit(editor.value())
    row, _ = rows.getWidgetPosition(editor)
    rows.insertRow(row + 1, "", label)


def align_fields(forms: list[Any]) -> None:
    """Give the labels of several forms the same width, so that their fields align."""
    labels = [
        item.widget()
        for form in forms
        for row in range(form.rowCount())
        if (item := form.itemAt(row, QFormLayout.ItemRole.LabelRole)) is not None
    ]
    widest = max(label.sizeHint().width() for label in labels)
    for label in labels:
        label.setMinimumWidth(widest)
        label.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
