"""A settings form made from a config: the same fields as command line and job file."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from qtpy.QtCore import QLocale, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from napari_geosr.core.config import Config, load_yaml
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.name_choices import NameChoices
from napari_geosr.gui.kit.names_edit import NamesEdit

#: Shown for a setting that is left to us.
AUTOMATIC = "automatic"


class ConfigForm(QWidget):
    """One row per field of a config, with its title, default, bounds and help text.

    Parameters
    ----------
    config_type : type of Config
        The fields to show. A field may be a bool, a number, a text, a `Literal`, a
        `Literal` or a number, a mapping (typed as YAML), or any of these or None; a
        text that is `NameChoices` names is typed, or chosen in a menu.
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
        self._editors: dict[str, _Editor] = {}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        for name, field in config_type.model_fields.items():
            if name in skip:
                continue
            editor = _Editor(field, (choices or {}).get(name, ()))
            title = field.title or name.replace("_", " ").capitalize()
            editor.widget.setAccessibleName(title)
            editor.widget.setToolTip(field.description or title)
            editor.widget.setObjectName(name)
            editor.widget.setSizePolicy(
                QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
            )
            editor.connect(self.changed.emit)
            layout.addRow(title, editor.widget)
            for inner in editor.widget.findChildren(QLineEdit):
                inner.setAccessibleName(title)
                inner.setToolTip(editor.widget.toolTip())
            label = layout.labelForField(editor.widget)
            label.setToolTip(field.description or title)
            label.setAccessibleName(f"Label of {title}")
            self._editors[name] = editor

    def editor(self, name: str) -> QWidget:
        """Return the widget of one field."""
        return self._editors[name].widget

    def values(self) -> dict[str, Any]:
        """Return what the person set, by field name, not yet validated."""
        return {name: editor.get() for name, editor in self._editors.items()}

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show `values`; names that the form does not have are left out."""
        for name, value in values.items():
            if name in self._editors:
                self._editors[name].set(value)

    def config(self, **others: Any) -> Config:
        """Validate the form together with `others`, the fields shown elsewhere.

        Raises
        ------
        ConfigError
            With one sentence that names the setting.
        """
        return self._type.create(**(self.values() | others))


class _Editor:
    """The widget of one field and how its value is read and shown."""

    def __init__(self, field: FieldInfo, suggestions: Sequence[str]) -> None:
        members = _members(field.annotation)
        self._optional = type(None) in members
        members = [m for m in members if m is not type(None)]
        self._choices = [c for m in members for c in _literals(m)]
        kinds = [m for m in members if get_origin(m) is not Literal]
        self._kind: Any = kinds[0] if kinds else str
        self._is_mapping = dict in (self._kind, get_origin(self._kind))
        #: What the entries of a box that cannot be typed into stand for.
        self._entries: dict[str, Any] = {}
        if self._choices and not kinds:
            self._entries = {str(choice): choice for choice in self._choices}
        elif self._kind is bool and self._optional:
            self._entries = {"yes": True, "no": False}
        if self._entries and self._optional:
            self._entries = {AUTOMATIC: None} | self._entries
        listed = [m for m in field.metadata if isinstance(m, NameChoices)]
        self.widget: Any
        if listed:
            self.widget = NamesEdit(listed[0].names)
        elif self._entries:
            self.widget = QComboBox()
            self.widget.addItems(list(self._entries))
        elif self._choices or suggestions:
            self.widget = QComboBox()
            self.widget.setEditable(True)
            self.widget.addItems([str(c) for c in self._choices] or list(suggestions))
        elif self._kind is bool:
            self.widget = QCheckBox()
        elif self._kind in (int, float):
            self.widget = _spin_box(self._kind, field, self._optional)
        else:
            self.widget = QLineEdit()
            if self._optional:
                self.widget.setPlaceholderText(AUTOMATIC)
        if isinstance(self.widget, QComboBox):
            self.widget.setMinimumContentsLength(8)
            self.widget.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
        self.set(field.get_default(call_default_factory=True))

    def connect(self, changed: Any) -> None:
        """Call `changed` without arguments when the value changes."""
        widget = self.widget
        if isinstance(widget, QComboBox):
            widget.currentTextChanged.connect(lambda _: changed())
        elif isinstance(widget, QCheckBox):
            widget.toggled.connect(lambda _: changed())
        elif isinstance(widget, QLineEdit):
            widget.editingFinished.connect(changed)
        elif isinstance(widget, NamesEdit):
            widget.edited.connect(changed)
        else:
            widget.valueChanged.connect(lambda _: changed())

    def get(self) -> Any:
        """The value that is shown; None where an optional one is left open."""
        widget = self.widget
        if isinstance(widget, QCheckBox):
            return widget.isChecked()
        if isinstance(widget, QSpinBox | QDoubleSpinBox):
            unset = self._optional and widget.value() == widget.minimum()
            return None if unset else widget.value()
        is_box = isinstance(widget, QComboBox)
        text = (widget.currentText() if is_box else widget.text()).strip()
        if self._is_mapping:
            return _mapping(text)
        if self._entries:
            return self._entries[text]
        for choice in self._choices:
            if str(choice) == text:
                return choice
        if not text and self._optional:
            return None
        return _number(text) if self._kind in (int, float) else text

    def set(self, value: Any) -> None:
        """Show `value`."""
        widget = self.widget
        if isinstance(widget, QCheckBox):
            widget.setChecked(bool(value))
        elif isinstance(widget, QSpinBox | QDoubleSpinBox):
            widget.setValue(widget.minimum() if value is None else value)
        elif self._entries:
            texts = [text for text, meant in self._entries.items() if meant == value]
            widget.setCurrentText(texts[0] if texts else str(value))
        elif isinstance(widget, QComboBox):
            widget.setCurrentText("" if value is None else str(value))
        elif self._is_mapping:
            flow = yaml.safe_dump(value or {}, default_flow_style=True, width=10**6)
            widget.setText(flow.strip()[1:-1])
        else:
            widget.setText("" if value is None else str(value))


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for part in get_args(annotation) for m in _members(part)]
    return [annotation]


def _literals(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _number(text: str) -> Any:
    """Return a number if `text` is one; else the text, which validation refuses."""
    try:
        return float(text)
    except ValueError:
        return text


def _mapping(text: str) -> Any:
    """Return what ``depth: 8, dilations: [1, 2]`` says; else the text."""
    try:
        return load_yaml(f"{{{text}}}")
    except ConfigError:
        return text


def _spin_box(kind: type, field: FieldInfo, optional: bool) -> Any:
    """Make a spin box; below its lowest value, ``automatic`` if optional."""
    low: float = -(10**9)
    high: float = 10**9
    gap = 1 if kind is int else 1e-6
    for bound in field.metadata:
        if isinstance(bound, Ge):
            low = float(bound.ge)  # type: ignore[arg-type]
        elif isinstance(bound, Gt):
            low = float(bound.gt) + gap  # type: ignore[arg-type]
        elif isinstance(bound, Le):
            high = float(bound.le)  # type: ignore[arg-type]
        elif isinstance(bound, Lt):
            high = float(bound.lt) - gap  # type: ignore[arg-type]
    box: Any = QSpinBox() if kind is int else QDoubleSpinBox()
    box.setLocale(QLocale(QLocale.Language.C))
    if kind is float:
        box.setDecimals(6)
        box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
    if optional:
        low -= gap
        box.setSpecialValueText(AUTOMATIC)
    box.setRange(kind(low), kind(high))
    box.setKeyboardTracking(False)
    return box
