"""magicgui widgets for the fields of a config.

magicgui has a widget for most annotations. Only the missing widgets are defined here:
spin boxes with an optional value (superqt's, which magicgui uses for integers, support
neither a special text nor a suffix), editable menus, mappings, and lists of names.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

# magicgui has no public base class for custom Qt widgets.
from magicgui.backends._qtpy.widgets import QBaseRangedWidget, QBaseValueWidget
from magicgui.widgets import CheckBox, ComboBox, LineEdit, create_widget
from magicgui.widgets.bases import RangedWidget, ValueWidget
from pydantic.fields import FieldInfo
from qtpy.QtCore import QLocale, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QSpinBox,
    QToolButton,
    QWidget,
)

from napari_geosr.core.documents import dump_yaml, load_yaml
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.text.name_choices import NameChoices
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.widgets import fit_entries

if TYPE_CHECKING:
    from qtpy.QtGui import QShowEvent

#: Text shown for a setting that is determined automatically.
AUTOMATIC = "automatic"
#: Words and spelling of choices, the same in all docks.
_TITLES = {
    "auto": AUTOMATIC,
    "otsu": "Otsu",
    "multi-otsu": "Multi-Otsu",
    "li": "Li",
    "triangle": "Triangle",
}
#: Width that a spin box needs in addition to its text, in pixels; it includes the
#: arrows.
_TEXT_MARGIN = 68
#: Largest absolute value of a number without bounds.
_UNBOUNDED = 1e9
#: Maximum number of decimals, which also determines the smallest step.
_DECIMALS = 6


def field_widget(field: FieldInfo, suggestions: Sequence[str] = ()) -> ValueWidget[Any]:
    """Create the widget of a field, showing its default.

    Parameters
    ----------
    field : FieldInfo
        Its annotation may be a bool, number, text, `Literal`, union of `Literal` and
        number, mapping, or one of these combined with None. Its metadata may contain
        bounds and `NameChoices`; its `json_schema_extra` may contain a unit, titles of
        choices and the word for a blank value (`unset`).
    suggestions : sequence of str
        For a text field: entries of an editable menu.

    Returns
    -------
    ValueWidget
        Its `value` is the user's input, not validated; None if an optional value is
        left blank. `changed` is emitted when the value changes; for text fields, when
        editing ends.
    """
    members = _members(field.annotation)
    optional = type(None) in members
    literals = [c for m in members if get_origin(m) is Literal for c in get_args(m)]
    kinds = [m for m in members if m is not type(None) and get_origin(m) is not Literal]
    kind: Any = kinds[0] if kinds else None
    listed = [m for m in field.metadata if isinstance(m, NameChoices)]
    widget: ValueWidget[Any]
    if listed:
        widget = NamesField(listed[0].names)
    elif kind is None:
        titles = _extra(field, "titles", {})
        # An optional value that is left blank is shown as automatic, too.
        words = str if optional else _title
        named = [(titles.get(choice, words(choice)), choice) for choice in literals]
        widget = ChoiceField(choices=named, nullable=optional)
    elif kind is bool and optional:
        widget = ChoiceField(choices=[("yes", True), ("no", False)], nullable=True)
    elif literals or suggestions:
        widget = EditableChoiceField(literals, suggestions, kind, nullable=optional)
    elif kind is bool:
        box = create_widget(annotation=bool)
        assert isinstance(box, CheckBox)
        widget = box
    elif kind in (int, float):
        low, high = _bounds(field, kind, optional)
        made = IntegerField if kind is int else NumberField
        widget = made(min=low, max=high, nullable=optional)
        if unit := unit_of(field):
            widget.native.setSuffix(f" {unit}")
    elif dict in (kind, get_origin(kind)):
        widget = MappingField()
    else:
        widget = TextField(nullable=optional)
    if unset := str(_extra(field, "unset", "")):
        _name_unset(widget.native, unset)
    show(widget, field.get_default(call_default_factory=True))
    return widget


def _name_unset(editor: Any, text: str) -> None:
    """Show a specific word for a blank value of a setting that is never automatic."""
    if isinstance(editor, QAbstractSpinBox):
        editor.setSpecialValueText(text)
    else:
        show_placeholder(editor, text)


def unit_of(field: FieldInfo) -> str:
    """Return the unit in a config field's `json_schema_extra`; empty if it has none."""
    return str(_extra(field, "unit", ""))


def _extra(field: FieldInfo, name: str, default: Any) -> Any:
    extra = field.json_schema_extra
    return extra.get(name, default) if isinstance(extra, dict) else default


def show(widget: ValueWidget[Any], value: Any) -> None:
    """Show `value` if possible; a value from another version may not be valid."""
    if isinstance(widget, RangedWidget) and value is not None:
        value = min(max(value, widget.min), widget.max)
    elif isinstance(widget, ComboBox) and value not in widget.choices:
        return
    elif isinstance(widget, CheckBox):
        value = bool(value)
    elif isinstance(widget, TextField) and isinstance(value, list | tuple):
        value = ", ".join(
            f"{part:.10g}" if isinstance(part, float) else str(part) for part in value
        )
    widget.value = value


class ChoiceField(ComboBox):
    """A menu of values, starting with ``automatic`` if the value is optional."""

    null_string = AUTOMATIC

    def _post_init(self) -> None:
        super()._post_init()
        _narrow(self.native)
        fit_entries(self.native)


class _NumberMixin:
    """Shows ``automatic`` below the lowest value if the value is optional."""

    native: Any
    _nullable: bool

    def _post_init(self) -> None:
        super()._post_init()  # type: ignore[misc]
        self.native.setLocale(QLocale(QLocale.Language.C))
        self.native.setKeyboardTracking(False)
        if isinstance(self.native, QDoubleSpinBox):
            self.native.setDecimals(_DECIMALS)
        if self._nullable:
            self.native.setSpecialValueText(AUTOMATIC)

    def get_value(self) -> object:
        value = self.native.value()
        return None if self._nullable and value == self.native.minimum() else value

    def set_value(self, value: object) -> None:
        self.native.setValue(self.native.minimum() if value is None else value)

    def _on_value_change(self, value: object = None) -> None:
        super()._on_value_change(self.get_value())  # type: ignore[misc]


class IntegerBox(QSpinBox):
    """Shows an integer; wide enough for its special text."""

    def showEvent(self, event: QShowEvent | None) -> None:
        """Reserve the width again after the style has set its own width."""
        super().showEvent(event)
        _reserve_width(self)


class DecimalBox(QDoubleSpinBox):
    """Shows a number; wide enough for its special text."""

    def showEvent(self, event: QShowEvent | None) -> None:
        """Reserve the width again after the style has set its own width."""
        super().showEvent(event)
        _reserve_width(self)


def _reserve_width(box: QSpinBox | QDoubleSpinBox) -> None:
    """Make a spin box wide enough for its special text, or a number of five digits.

    napari's style sets a minimum width that is too small for them.
    """
    advance = box.fontMetrics().horizontalAdvance
    needed = max(advance(box.specialValueText()), advance("00000"))
    box.setMinimumWidth(max(box.minimumWidth(), needed + _TEXT_MARGIN))


class NumberBox(DecimalBox):
    """Shows a number without trailing zeros: 0.002, not 0.002000."""

    def textFromValue(self, value: float) -> str:
        """Format the value without trailing zeros."""
        text = f"{value:.{self.decimals()}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text


class _QtNumberBox(QBaseRangedWidget):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(NumberBox, **kwargs)

    def _pre_set_hook(self, value: float) -> float:
        return float(value)


class NumberField(_NumberMixin, RangedWidget[Any]):
    """A number; the step grows with the value."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget_type=_QtNumberBox, **kwargs)


class _QtIntegerBox(QBaseRangedWidget):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(IntegerBox, **kwargs)

    def _pre_set_hook(self, value: float) -> int:
        return int(value)


class IntegerField(_NumberMixin, RangedWidget[Any]):
    """An integer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget_type=_QtIntegerBox, step=1, **kwargs)


class TextField(LineEdit):
    """A text field that emits changes when editing ends, not on every keystroke."""

    def _post_init(self) -> None:
        # Skip the method of `ValueWidget`, which listens to every keystroke.
        super(ValueWidget, self)._post_init()
        self.native.editingFinished.connect(self._on_edited)
        if self._nullable:
            show_placeholder(self.native, AUTOMATIC)

    def _on_edited(self) -> None:
        self.changed.emit(self.value)

    def get_value(self) -> Any:
        text = self.native.text().strip()
        return None if self._nullable and not text else text

    def set_value(self, value: object) -> None:
        self.native.setText("" if value is None else str(value))


class MappingField(TextField):
    """A mapping, typed as YAML without its braces: ``depth: 8, dilations: [1, 2]``."""

    def get_value(self) -> Any:
        text = self.native.text().strip()
        try:
            return load_yaml(f"{{{text}}}")
        except ConfigError:
            return text  # validation rejects it and names the setting

    def set_value(self, value: object) -> None:
        values: Any = value or {}
        flow = dump_yaml(values, flow=True, width=10**6)
        self.native.setText(flow.strip()[1:-1])


class _QtEditableMenu(QBaseValueWidget):
    def __init__(self, **kwargs: Any) -> None:
        names = ("currentText", "setCurrentText", "currentTextChanged")
        super().__init__(QComboBox, *names, **kwargs)
        self._qwidget.setEditable(True)
        _narrow(self._qwidget)


class EditableChoiceField(ValueWidget[Any]):
    """An editable menu with choices or suggestions.

    Parameters
    ----------
    choices : sequence
        Values allowed in addition to those of `kind`.
    suggestions : sequence of str
        Entries offered if there are no choices.
    kind : type
        Type of input other than the choices; text that is not a number is left to
        validation.
    """

    def __init__(
        self,
        choices: Sequence[Any],
        suggestions: Sequence[str],
        kind: type,
        **kwargs: Any,
    ) -> None:
        self._choices, self._kind = choices, kind
        self._suggestions = {_title(each): each for each in suggestions}
        super().__init__(widget_type=_QtEditableMenu, **kwargs)
        self.native.addItems(list(map(_title, choices or suggestions)))
        fit_entries(self.native)

    def _on_value_change(self, value: object = None) -> None:
        self.changed.emit(self.value)

    def get_value(self) -> object:
        text = self.native.currentText().strip()
        for choice in self._choices:
            if text in (str(choice), _title(choice)):
                return choice
        if not text and self._nullable:
            return None
        text = self._suggestions.get(text, text)
        return _number(text) if self._kind in (int, float) else text

    def set_value(self, value: object) -> None:
        self.native.setCurrentText("" if value is None else _title(value))


def _title(choice: object) -> str:
    """Return the spelling of a choice in a menu."""
    return _TITLES.get(str(choice), str(choice))


class NamesEdit(QWidget):
    """Edits names with weights, such as ``one,two:0.3``, as text or in a menu.

    Attributes
    ----------
    names : callable
        Returns the names, each with a description; called when the menu opens.

    Signals
    -------
    edited
        The text was changed, by the user or by `setText`.
    """

    edited = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.names: Callable[[], Mapping[str, str]] = dict
        self.line = QLineEdit()
        self.line.setMinimumWidth(80)
        self.line.editingFinished.connect(self.edited)
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self._fill)
        self.button = QToolButton()
        self.button.setArrowType(Qt.ArrowType.DownArrow)
        self.button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.button.setMenu(self.menu)
        self.button.setAccessibleName("Choose from a list")
        self.button.setToolTip("Choose from the list of available entries.")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, stretch=1)
        layout.addWidget(self.button)
        self.setFocusProxy(self.line)

    def text(self) -> str:
        """Return the names and weights as text."""
        return str(self.line.text())

    def setText(self, text: str) -> None:
        """Set the names and weights."""
        if text != self.line.text():
            self.line.setText(text)
            self.edited.emit()

    def _fill(self) -> None:
        """Fill the menu with all names, with the chosen ones checked."""
        self.menu.clear()
        chosen = {_name(part) for part in self._parts()}
        for name, about in self.names().items():
            action = self.menu.addAction(f"{name}: {about}")
            action.setCheckable(True)
            action.setChecked(name in chosen)
            action.toggled.connect(partial(self._choose, name))

    def _choose(self, name: str, checked: bool) -> None:
        kept = [part for part in self._parts() if _name(part) != name]
        self.setText(",".join([*kept, name] if checked else kept))

    def _parts(self) -> list[str]:
        parts = (part.strip() for part in self.line.text().split(","))
        return [part for part in parts if part]


class _QtNames(QBaseValueWidget):
    def __init__(self, names: Callable[[], Mapping[str, str]], **kwargs: Any) -> None:
        super().__init__(NamesEdit, "text", "setText", "edited", **kwargs)
        self._qwidget.names = names


class NamesField(ValueWidget[str]):
    """Names from a list, optionally with weights."""

    def __init__(self, names: Callable[[], Mapping[str, str]], **kwargs: Any) -> None:
        super().__init__(
            widget_type=_QtNames, backend_kwargs={"names": names}, **kwargs
        )

    def _on_value_change(self, value: object = None) -> None:
        self.changed.emit(self.value)


def _name(part: str) -> str:
    return part.partition(":")[0].strip()


def _narrow(menu: QComboBox) -> None:
    """Keep long entries from widening the dock."""
    menu.setMinimumContentsLength(4)
    menu.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )


def _members(annotation: object) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for part in get_args(annotation) for m in _members(part)]
    return [annotation]


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _bounds(field: FieldInfo, kind: type, optional: bool) -> tuple[Any, Any]:
    """Return the limits of a field; for optional fields, the lowest is automatic."""
    low, high = -_UNBOUNDED, _UNBOUNDED
    gap = 1 if kind is int else 10.0**-_DECIMALS
    for bound in field.metadata:
        if isinstance(bound, Ge):
            low = float(bound.ge)  # type: ignore[arg-type]
        elif isinstance(bound, Gt):
            low = float(bound.gt) + gap  # type: ignore[arg-type]
        elif isinstance(bound, Le):
            high = float(bound.le)  # type: ignore[arg-type]
        elif isinstance(bound, Lt):
            high = float(bound.lt) - gap  # type: ignore[arg-type]
    return kind(low - gap if optional else low), kind(high)
