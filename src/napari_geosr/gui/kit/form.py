"""A settings form made from a config: the same fields as command line and job file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from magicgui.widgets.bases import ValueWidget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLineEdit, QSizePolicy, QWidget

from napari_geosr.core.config import Config
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.gui.kit.fields import AUTOMATIC, field_widget, show

__all__ = ["AUTOMATIC", "ConfigForm"]


class ConfigForm(QWidget):
    """One row per field of a config, with its title, default, bounds and help text.

    The widgets are magicgui's; the rows are Qt's own, as magicgui's containers stack
    boxes, and docks line up the labels of several forms and put rows between.

    Parameters
    ----------
    config_type : type of Config
        The fields to show: see :func:`~napari_geosr.gui.kit.fields.field_widget`.
    skip : sequence of str
        Fields that the dock shows elsewhere.
    choices : mapping
        Suggestions for text fields; the person may still type something else.

    Signals
    -------
    changed
        A person or :meth:`set_values` changed a setting.
    """

    changed = Signal()

    def __init__(
        self,
        config_type: type[Config],
        *,
        skip: Sequence[str] = (),
        choices: Mapping[str, Sequence[str]] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._type = config_type
        self._fields: dict[str, ValueWidget[Any]] = {}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        for name, field in config_type.model_fields.items():
            if name in skip:
                continue
            title = field.title or name.replace("_", " ").capitalize()
            widget = field_widget(field, (choices or {}).get(name, ()))
            widget.tooltip = field.description or title
            widget.changed.connect(self._on_changed, check_nargs=False)
            self._fields[name] = widget
            self._add_row(name, title, widget.native)

    def _add_row(self, name: str, title: str, editor: QWidget) -> None:
        editor.setObjectName(name)
        editor.setAccessibleName(title)
        editor.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        for inner in editor.findChildren(QLineEdit):
            inner.setAccessibleName(title)
            inner.setToolTip(editor.toolTip())
        rows: Any = self.layout()
        rows.addRow(title, editor)
        label = rows.labelForField(editor)
        label.setToolTip(editor.toolTip())
        label.setAccessibleName(f"Label of {title}")

    def _on_changed(self, _value: object) -> None:
        self.changed.emit()

    def editor(self, name: str) -> QWidget:
        """Return the Qt widget of one field."""
        return self._fields[name].native

    def values(self) -> AnyDict:
        """Return what the person set, by field name, not yet validated."""
        return {name: widget.value for name, widget in self._fields.items()}

    def set_values(self, values: AnyMapping) -> None:
        """Show `values`; names that the form does not have are left out."""
        for name, value in values.items():
            if name in self._fields:
                show(self._fields[name], value)

    def config(self, **others: Any) -> Config:
        """Validate the form together with `others`, the fields shown elsewhere.

        Raises
        ------
        ConfigError
            With one sentence that names the setting.
        """
        return self._type.create(**(self.values() | others))
