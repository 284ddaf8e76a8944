"""Rows of the settings of the porosity dock."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QLabel


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


def align_fields(forms: list[Any]) -> None:
    """Give the labels of several forms equal width, so that their fields align."""
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
