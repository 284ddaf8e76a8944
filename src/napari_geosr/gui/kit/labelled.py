"""Widgets that are never without an accessible name and a tool tip."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QWidget,
)


def button(text: str, tool_tip: str) -> QPushButton:
    """A button as wide as there is room."""
    made = QPushButton(text)
    made.setToolTip(tool_tip)
    made.setAccessibleName(text.replace("&", ""))
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return made


def small_button(text: str, name: str, tool_tip: str, shortcut: str) -> QToolButton:
    """A button of a letter or two, with a shortcut."""
    made = QToolButton()
    made.setText(text)
    made.setShortcut(shortcut)
    made.setAccessibleName(name)
    made.setToolTip(f"{tool_tip} ({shortcut}).")
    return made


def text_label(name: str, tool_tip: str, text: str = "") -> Any:
    """A text of several lines."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setAccessibleName(name)
    label.setToolTip(tool_tip)
    return label


def combo(name: str, tool_tip: str) -> QComboBox:
    """A choice that need not be as wide as its longest entry."""
    made = QComboBox()
    made.setAccessibleName(name)
    made.setToolTip(tool_tip)
    made.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    made.setMinimumContentsLength(8)
    return made


def form_layout() -> QFormLayout:
    """Rows of labels and widgets that grow."""
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def add_row(
    form: QFormLayout, title: str, widget: QWidget, buddy: QWidget | None = None
) -> None:
    """Add a row whose label names `buddy`, the widget itself by default."""
    label = QLabel(title)
    buddy = buddy or widget
    label.setBuddy(buddy)
    label.setToolTip(buddy.toolTip())
    label.setAccessibleName(f"Label of {buddy.accessibleName()}")
    form.addRow(label, widget)
