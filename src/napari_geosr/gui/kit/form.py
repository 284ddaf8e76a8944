"""Settings forms, generated from the same configs as command-line options."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from magicgui.widgets.bases import ValueWidget
from pydantic import ValidationError
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.config import Config, explain_fields
from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.gui.kit.fields import AUTOMATIC, field_widget, show
from napari_geosr.gui.kit.option_words import fields_of_options, in_words_of_dock
from napari_geosr.gui.kit.widgets import (
    SentenceLabel,
    add_row,
    combo,
    fit_entries,
    form_layout,
    open_sections,
)

if TYPE_CHECKING:
    pass

#: Style of a field with an invalid value; the reason is shown below the field.
_FAULT_STYLE = "border: 1px solid #d9534f;"
#: Pattern of a word at the beginning of a sentence.
_WORD = re.compile(r"[a-z]+(?=[\s,:;]|$)")

__all__ = ["AUTOMATIC", "ConfigForm", "KindForm"]


class FieldFaults:
    """Errors shown below the fields of a form.

    Parameters
    ----------
    rows : QFormLayout
        The form, one field in each row.
    """

    def __init__(self, rows: QFormLayout) -> None:
        self._rows = rows
        self._labels: dict[str, tuple[QWidget, QLabel]] = {}

    @property
    def texts(self) -> dict[str, str]:
        """Errors by name of the field."""
        return {name: label.text() for name, (_, label) in self._labels.items()}

    def add(self, name: str, editor: QWidget, text: str) -> None:
        """Show an error below the row of a field.

        Parameters
        ----------
        name : str
            Name of the setting, which is the first word of messages about it.
        editor : QWidget
            Widget of the field's row.
        text : str
        """
        self.remove(name)
        words = name.replace("_", " ")
        text = text.removesuffix(".").removeprefix(f"{words}: ")
        if _WORD.match(text):  # `text` is not a file name
            text = text[0].upper() + text[1:]
        label = SentenceLabel(f"\N{WARNING SIGN} {text}.")
        label.setAccessibleName(f"Error in {words}")
        label.setToolTip(text)
        label.about = editor
        rows: Any = self._rows
        row, _ = rows.getWidgetPosition(editor)
        rows.insertRow(row + 1, label)
        editor.setStyleSheet(_FAULT_STYLE)
        self._labels[name] = editor, label

    def remove(self, name: str) -> None:
        """Remove the error of one field, if there is one."""
        if name not in self._labels:
            return
        editor, label = self._labels.pop(name)
        self._rows.removeRow(label)
        editor.setStyleSheet("")

    def clear(self) -> None:
        """Remove all errors."""
        for name in list(self._labels):
            self.remove(name)


def texts_by_field(error: BaseException) -> dict[str, str]:
    """Return the errors of individual settings, keyed by name."""
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        return {w.partition(".")[0]: s for w, s in explain_fields(cause).items()}
    return dict.fromkeys(getattr(error, "fields", ()), str(error))


class ConfigForm(QWidget):
    """One row per field of a config, with its title, default, bounds and help text.

    The widgets are magicgui's. The rows are Qt's, because docks align the labels of
    several forms and insert rows, which magicgui's nested boxes do not allow.

    Parameters
    ----------
    config_type : type of Config
        Class whose fields are shown; see `field_widget`.
    skip : sequence of str
        Fields that the dock shows elsewhere.
    choices : mapping
        Suggestions for text fields; other text can be entered.
    groups : mapping of str to sequence of str
        Titles and their fields; an empty sequence stands for all other fields.
    elsewhere : mapping of str to QFormLayout
        Layouts outside the form, such as that of a section, by name of the field.

    Signals
    -------
    changed
        The user or `set_values` changed a setting.
    """

    changed = Signal()

    def __init__(
        self,
        config_type: type[Config],
        *,
        skip: Sequence[str] = (),
        choices: Mapping[str, Sequence[str]] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        elsewhere: Mapping[str, QFormLayout] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._type = config_type
        self._fields: dict[str, ValueWidget[Any]] = {}
        layout = form_layout()
        self.setLayout(layout)
        self._rows: Mapping[str, Any] = defaultdict(lambda: layout, elsewhere or {})
        self._faults = {rows: FieldFaults(rows) for rows in self._layouts()}
        shown = [name for name in config_type.model_fields if name not in skip]
        for title, names in _fields_by_group(shown, groups or {"": ()}).items():
            if title:
                self._add_title(title)
            for name in names:
                self._add_field(name, (choices or {}).get(name, ()))

    def _layouts(self) -> list[Any]:
        """Return the layouts that contain the fields, the form's own layout first."""
        return list(dict.fromkeys([self.layout(), *self._rows.values()]))

    def _add_field(self, name: str, suggestions: Sequence[str]) -> None:
        field = self._type.model_fields[name]
        title = self.title(name)
        widget = field_widget(field, suggestions)
        widget.tooltip = field.description or title
        widget.changed.connect(self._on_changed, check_nargs=False)
        self._fields[name] = widget
        self._add_row(name, title, widget.native)

    def _add_title(self, title: str) -> None:
        label = QLabel(f"<b>{html.escape(title)}</b>")
        label.setAccessibleName(f"Group {title}")
        label.setToolTip(f"Settings in the group {title.lower()}.")
        label.setContentsMargins(0, 6, 0, 0)
        rows: Any = self.layout()
        rows.addRow(label)

    def title(self, name: str) -> str:
        """Return the title of a field."""
        return (
            self._type.model_fields[name].title or name.replace("_", " ").capitalize()
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the form's fields, from top to bottom."""
        return tuple(self._fields)

    def _add_row(self, name: str, title: str, editor: QWidget) -> None:
        editor.setObjectName(name)
        editor.setAccessibleName(title)
        editor.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        for inner in editor.findChildren(QLineEdit):
            inner.setAccessibleName(title)
            inner.setToolTip(editor.toolTip())
        rows = self._rows[name]
        rows.addRow(title, editor)
        label = rows.labelForField(editor)
        label.setToolTip(editor.toolTip())
        label.setAccessibleName(title)

    def _on_changed(self, _value: object) -> None:
        self.clear_faults()
        self.changed.emit()

    def show_faults(self, error: BaseException) -> list[QWidget]:
        """Show the parts of an error below the fields that they concern.

        Returns
        -------
        list of QWidget
            Widgets of the invalid fields in this form, from top to bottom.
        """
        self.clear_faults()
        texts = texts_by_field(error)
        invalid = [name for name in self._fields if name in texts]
        for name in invalid:
            text, _ = fields_of_options(texts[name], [self])
            self.add_fault(name, text)
        return [self.editor(name) for name in invalid]

    def add_fault(self, name: str, text: str) -> None:
        """Show an error below a field."""
        self._faults[self._rows[name]].add(name, self.editor(name), text)

    def clear_faults(self) -> None:
        """Remove all errors shown below fields."""
        for faults in self._faults.values():
            faults.clear()

    @property
    def faults(self) -> dict[str, str]:
        """Errors shown below fields, by name."""
        return {
            n: t for faults in self._faults.values() for n, t in faults.texts.items()
        }

    def editor(self, name: str) -> QWidget:
        """Return the Qt widget of one field."""
        return self._fields[name].native

    def values(self) -> AnyDict:
        """Return the user's input by field name, not validated."""
        return {name: widget.value for name, widget in self._fields.items()}

    def set_values(self, values: AnyMapping) -> None:
        """Show `values`; names that the form does not have are ignored."""
        for name, value in values.items():
            if name in self._fields:
                show(self._fields[name], value)

    def config(self, **others: Any) -> Config:
        """Validate the form together with `others`, the fields shown elsewhere.

        Raises
        ------
        ConfigError
            If a value is invalid; the message names the setting.
        """
        return self._type.create(**(self.values() | others))


class KindForm(QWidget):
    """A menu of kinds and a form for the chosen kind; the input for each kind is kept.

    A subclass defines the settings of each kind by `config_type`.

    Parameters
    ----------
    title : str
        Title of the menu.
    tool_tip : str

    Signals
    -------
    changed
        The kind or one of its settings was changed.
    """

    changed = Signal()

    def __init__(
        self, title: str, tool_tip: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.combo = combo(title, tool_tip)
        self.form: ConfigForm | None = None
        self._values: dict[str, AnyDict] = {}
        self._shown = ""
        #: Layout of the menu and its label.
        self.rows = form_layout()
        add_row(self.rows, f"&{title}", self.combo)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addLayout(self.rows)
        self.combo.currentIndexChanged.connect(self._on_chosen)

    def config_type(self, kind: str) -> type[Config]:
        """Return the settings class for a kind."""
        raise NotImplementedError

    def hidden_fields(self, config_type: type[Config]) -> list[str]:
        """Return the settings that the form leaves out."""
        return []

    def kind(self) -> str:
        """Return the chosen kind."""
        return str(self.combo.currentData())

    def set_kinds(self, titles: Mapping[str, str]) -> None:
        """List these kinds; the chosen kind stays selected if it is among them."""
        before, names = self.combo.currentData(), list(titles)
        self.combo.blockSignals(True)
        self.combo.clear()
        for name in names:
            self.combo.addItem(titles[name], name)
        fit_entries(self.combo)
        self.combo.setCurrentIndex(names.index(before) if before in names else 0)
        self.combo.blockSignals(False)
        self._show()

    def replace_values(self, kind: str, values: AnyMapping) -> None:
        """Store values for a kind, and select it if it is listed."""
        self._values[kind] = dict(values)
        index = self.combo.findData(kind)
        if index == self.combo.currentIndex():
            self._shown = ""  # force an update, because the form shows old values
            self._show()
        elif index >= 0:
            self.combo.setCurrentIndex(index)

    def changed_values(self) -> AnyDict:
        """Return the values that differ from the defaults of the chosen kind."""
        assert self.form is not None
        defaults = self.config_type(self.kind())().model_dump()
        return {k: v for k, v in self.form.values().items() if v != defaults[k]}

    def _on_chosen(self, _index: int) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        kind = self.kind()
        if kind == self._shown:
            return
        if self.form is not None:
            if self._shown:
                self._values[self._shown] = self.form.values()
            self._column.removeWidget(self.form)
            self.form.hide()
            self.form.deleteLater()
        config_type = self.config_type(kind)
        self.form = ConfigForm(config_type, skip=self.hidden_fields(config_type))
        self.form.set_values(self._values.get(kind, {}))
        self.form.changed.connect(self.changed)
        self._column.addWidget(self.form)
        self._shown = kind


def _fields_by_group(
    names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Return the fields of each group; empty groups are omitted."""
    grouped = {name for listed in groups.values() for name in listed}
    others = [name for name in names if name not in grouped]
    fields = {
        title: [name for name in listed if name in names] if listed else others
        for title, listed in groups.items()
    }
    return {title: listed for title, listed in fields.items() if listed}


def show_in_fields(error: Exception, forms: Iterable[ConfigForm]) -> list[QWidget]:
    """Show an error below the fields that it concerns, and open their sections.

    Parameters
    ----------
    error : Exception
    forms : iterable of ConfigForm
        Forms with the settings of the operation. Their earlier errors are removed.

    Returns
    -------
    list of QWidget
        The fields, from top to bottom; empty if the error concerns none of them.
    """
    forms = list(forms)
    shown = [field for form in forms for field in form.show_faults(error)]
    if not shown and isinstance(error, GeoSRError):
        text, fields = fields_of_options(str(error), forms)
        for form, name in fields[:1]:  # the others are alternatives to the first
            form.add_fault(name, text)
            shown.append(form.editor(name))
    for field in shown:
        open_sections(field)
    return shown


def error_in_fields(
    error: Exception, forms: Iterable[ConfigForm], dock: QWidget | None = None
) -> Exception:
    """Return the error with field titles in place of the names of settings and options.

    Parameters
    ----------
    error : Exception
    forms : iterable of ConfigForm
    dock : QWidget, optional
        Dock that contains other fields.
    """
    if not isinstance(error, GeoSRError):
        return error
    forms = list(forms)
    text = _with_titles(error, forms)
    if dock is None:
        text, _ = fields_of_options(text, forms)
    else:
        text = in_words_of_dock(text, dock)
    if text == str(error):
        return error
    reworded = type(error)(text)
    reworded.__cause__ = error
    return reworded


def _with_titles(error: GeoSRError, forms: Iterable[ConfigForm]) -> str:
    """Return the text of an error with titles of fields in place of setting names."""
    if not isinstance(error.__cause__, ValidationError):
        return str(error)
    known = {name: form for form in reversed(list(forms)) for name in form.names}
    parts = []
    for name, text in texts_by_field(error).items():
        if name in known:
            about = text.removeprefix(f"{name.replace('_', ' ')}: ")
            text = f"{known[name].title(name)}: {about}"
        parts.append(text.removeprefix("settings: "))  # concerns several settings
    return "; ".join(parts) + "."
