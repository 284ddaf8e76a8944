"""Widgets for docks: buttons, labels, rows, sections, lists.

The controls have accessible names and tool tips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QPoint, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_geosr.gui.kit.line_breaks import break_names, keep_numbers_whole

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent, QShowEvent

#: Maximum width that a menu reserves for its entries, in widths of an X.
_MAX_ENTRY = 26
#: Number of pixels that Qt adds at the sides of an entry, in addition to those of
#: napari's style.
_SPARE = 16
#: Margin, in pixels, around a part of a dock that is scrolled into view.
_MARGIN = 40
#: Maximum number of attempts to scroll to such a part while the layout is not settled.
_MAX_ATTEMPTS = 20
#: Milliseconds between these attempts.
_RETRY_MS = 50


class ElidedLabel(QElidingLabel):
    """Shortens text that does not fit, by default in the middle."""

    def __init__(
        self,
        text: str = "",
        parent: QWidget | None = None,
        *,
        mode: Qt.TextElideMode = Qt.TextElideMode.ElideMiddle,
    ) -> None:
        super().__init__(text, parent)
        self.setElideMode(mode)
        self.setIndent(0)
        self.setMinimumWidth(30)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def changeEvent(self, event: QEvent) -> None:
        """Measure the text again after a font change, as superqt does on resize."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.setText(self.text())


class SentenceLabel(QLabel):
    """A label that shows its full text at any width.

    It is as tall as its text requires and also breaks lines within long names of files
    and jobs.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__()
        #: Field below which the label shows an error.
        self.about: QWidget | None = None
        self._whole = ""
        self.setWordWrap(True)
        self.setText(text)

    def setText(self, text: str) -> None:
        """Show a text; lines may be broken at ``_-./`` in names, but not in numbers."""
        self._whole = text
        super().setText(break_names(keep_numbers_whole(text)))
        self._fit()

    def text(self) -> str:
        """Return the text as it was passed to `setText`."""
        return self._whole

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the height to the text at this width."""
        super().resizeEvent(event)
        self._fit()

    def showEvent(self, event: QShowEvent) -> None:
        """Fit the height, now that the width is final."""
        super().showEvent(event)
        self._fit()

    def sizeHint(self) -> QSize:
        """Return the height at the current width, not Qt's default proportions."""
        hint = super().sizeHint()
        if self.isVisible():
            hint.setHeight(max(0, self.heightForWidth(self.width())))
        return hint

    def minimumSizeHint(self) -> QSize:
        """Return the height at the current width; Qt keeps an earlier height."""
        hint = super().minimumSizeHint()
        return (
            QSize(hint.width(), self.sizeHint().height()) if self.isVisible() else hint
        )

    def _fit(self) -> None:
        if self.isVisible():  # a hidden label has no final width
            self.setMinimumHeight(0)  # heightForWidth is never below the minimum
            # -1 if there is no text
            self.setMinimumHeight(max(0, self.heightForWidth(self.width())))


def button(text: str, tool_tip: str, shortcut: str = "") -> QPushButton:
    """Create a button that takes the available width.

    Parameters
    ----------
    shortcut : str
        Shortcut of a button without a mnemonic; added to the tool tip.
    """
    made = QPushButton(text)
    if shortcut:
        made.setShortcut(shortcut)
        tool_tip = f"{tool_tip.removesuffix('.')} ({shortcut})."
    made.setToolTip(tool_tip)
    made.setAccessibleName(text.replace("&", ""))
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return made


def small_button(text: str, name: str, tool_tip: str, shortcut: str) -> QToolButton:
    """Create a button with a short text and a shortcut.

    Parameters
    ----------
    text : str
    name : str
        Accessible name.
    tool_tip : str
        Tool tip, to which the shortcut is appended.
    shortcut : str
        Shortcut, such as ``"Alt+Shift+Y"``.
    """
    made = QToolButton()
    made.setText(text)
    made.setShortcut(shortcut)
    made.setAccessibleName(name)
    made.setToolTip(f"{tool_tip} ({shortcut}).")
    return made


def text_label(name: str, tool_tip: str, text: str = "") -> Any:
    """Create a label that wraps its text and shows all of it."""
    label = SentenceLabel(text)
    label.setAccessibleName(name)
    label.setToolTip(tool_tip)
    return label


def combo(name: str, tool_tip: str) -> QComboBox:
    """Create a menu that can be narrower than its longest entry."""
    made = QComboBox()
    made.setAccessibleName(name)
    made.setToolTip(tool_tip)
    made.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    made.setMinimumContentsLength(4)
    return made


def fit_entries(menu: QComboBox) -> None:
    """Make a menu wide enough for its entries, up to `_MAX_ENTRY`.

    Call this function after adding entries. Qt's own policies fit either all entries,
    which can widen the dock, or none.
    """
    metrics = menu.fontMetrics()
    texts = (menu.itemText(i) for i in range(menu.count()))
    widest = max(map(metrics.horizontalAdvance, texts), default=0)
    needed = math.ceil((widest - _SPARE) / metrics.horizontalAdvance("X"))
    menu.setMinimumContentsLength(min(max(needed, 4), _MAX_ENTRY))


def form_layout() -> QFormLayout:
    """Create a form layout, in which each widget takes the available width."""
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    # A field that would be too narrow for its text is put below its label.
    form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    return form


def add_row(
    form: QFormLayout, title: str, widget: QWidget, buddy: QWidget | None = None
) -> None:
    """Add a row; its label belongs to `buddy`, by default the widget.

    Parameters
    ----------
    form : QFormLayout
    title : str
        Text of the label, with ``&`` before its mnemonic.
    widget : QWidget
    buddy : QWidget, optional
        Widget that the mnemonic focuses.
    """
    label = QLabel(title)
    buddy = buddy or widget
    label.setBuddy(buddy)
    label.setToolTip(buddy.toolTip())
    label.setAccessibleName(title.replace("&", ""))
    form.addRow(label, widget)


class Heading(QLabel):
    """A bold title that is shown while one of the widgets below it is shown.

    Parameters
    ----------
    title : str
    widgets : sequence of QWidget
        Widgets in the same parent as the heading.
    """

    def __init__(self, title: str, widgets: Sequence[QWidget]) -> None:
        super().__init__(f"<b>{title}</b>")
        self.setAccessibleName(f"Group {title}")
        self.setToolTip(f"Actions for the {title.lower()}.")
        self.setContentsMargins(0, 6, 0, 0)
        self._widgets = tuple(widgets)
        for widget in self._widgets:
            widget.installEventFilter(self)
        self._follow()

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Show or hide the heading when the widgets are shown or hidden."""
        if event.type() in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent):
            self._follow()
        return bool(super().eventFilter(watched, event))

    def _follow(self) -> None:
        self.setHidden(all(widget.isHidden() for widget in self._widgets))


class FormAligner(QObject):
    """Aligns the fields of all forms in a widget, separately in each section.

    Parameters
    ----------
    body : QWidget
        Widget with the forms, which may be added and removed later.
    """

    def __init__(self, body: QWidget) -> None:
        super().__init__(body)
        self._body: Any = body
        # A dock is laid out dozens of times while it opens, and finding forms is slow.
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._align)
        body.installEventFilter(self)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Align once when the body is shown, and once after it has been laid out."""
        if event.type() == QEvent.Type.Show:
            self._align()
        elif event.type() == QEvent.Type.LayoutRequest and not self._timer.isActive():
            self._timer.start(0)
        return False

    def _align(self) -> None:
        """Give the labels of each section equal widths."""
        groups: dict[int, list[QWidget]] = {}
        for form in self._body.findChildren(QFormLayout):
            labels = [la for la in _labels_of(form) if la.isVisibleTo(self._body)]
            groups.setdefault(_section_of(form), []).extend(labels)
        for labels in groups.values():
            widest = max((la.sizeHint().width() for la in labels), default=0)
            for label in labels:
                if label.minimumWidth() != widest:
                    label.setMinimumWidth(widest)


def _section_of(form: QFormLayout) -> int:
    """Return the identifier of the section of a form; 0 if there is none."""
    widget = form.parentWidget()
    while widget is not None and not isinstance(widget, Section):
        widget = widget.parentWidget()
    return id(widget) if widget is not None else 0


def _labels_of(form: QFormLayout) -> list[QWidget]:
    role = QFormLayout.ItemRole.LabelRole
    items = (form.itemAt(row, role) for row in range(form.rowCount()))
    return [item.widget() for item in items if item is not None]


def scrolling(inner: QWidget) -> QScrollArea:
    """Return a vertically scrolling area that contains `inner`."""
    scroll = QScrollArea()
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    scroll.setWidget(inner)
    return scroll


class PartScroller(QObject):
    """Scrolls to a part of an area once this part has been laid out.

    Parameters
    ----------
    area : QScrollArea
    """

    def __init__(self, area: QScrollArea) -> None:
        super().__init__(area)
        self._area = area
        self._part: QWidget | None = None
        self._at_top = False
        self._attempts, self._place = 0, QPoint()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._scroll)

    def show_part(self, part: QWidget, *, at_top: bool = False) -> None:
        """Scroll to a part, and to the error below it, after layout.

        Parameters
        ----------
        part : QWidget
        at_top : bool
            Scroll until the part is at the top, as far as possible.
        """
        self._part, self._at_top, self._attempts = part, at_top, 0
        self._place = QPoint(-1, -1)
        self._timer.start(0)

    def _scroll(self) -> None:
        if self._part is None or not isalive(self._part):
            return
        bar, inner = self._area.verticalScrollBar(), self._area.widget()
        if self._at_top and bar is not None and inner is not None:
            top = self._part.mapTo(inner, QPoint()).y()
            bar.setValue(top)
            self._attempts += 1
            # Stop once the layout is settled, because the user may want to scroll.
            if bar.value() < top and self._attempts < _MAX_ATTEMPTS // 4:
                self._timer.start(_RETRY_MS)
            return
        below = [] if inner is None else inner.findChildren(SentenceLabel)
        faults = [label for label in below if label.about is self._part]
        for part in (*faults, self._part):
            self._area.ensureWidgetVisible(part, 0, _MARGIN)
        self._attempts += 1
        # A part that has just been shown gets its position and height in a later event.
        last, self._place = self._place, self._part.mapTo(self._area, QPoint())
        shown = all(not w.visibleRegion().isEmpty() for w in (*faults, self._part))
        is_there = last == self._place and shown
        if not is_there and self._attempts < _MAX_ATTEMPTS:
            self._timer.start(_RETRY_MS)


class FolderRow(QWidget):
    """Shows the folder for new results, with a button to choose another.

    Parameters
    ----------
    content : str
        Kind of files stored there, e.g. ``"jobs"``; also the name of the default
        folder.
    shortcut : str
        Shortcut of the button.

    Signals
    -------
    changed
        The user chose another folder.
    """

    changed = Signal()

    def __init__(self, content: str, *, shortcut: str = "Alt+Shift+U") -> None:
        super().__init__()
        self._title = f"Folder for {content}"
        self.label = ElidedLabel("")
        self.label.setAccessibleName(self._title)
        self.button = small_button(
            "Change…",
            f"Choose the folder for {content}",
            f"Choose the folder for new {content}",
            shortcut,
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.label, 1)
        row.addWidget(self.button)
        self.button.clicked.connect(self._on_clicked)
        self.set_path(user_data_path("napari-geosr", appauthor=False) / content)

    @property
    def path(self) -> Path:
        """The chosen folder."""
        return self._path

    def set_path(self, path: Path) -> None:
        """Choose another folder."""
        self._path = path
        self.label.setText(str(path))
        self.label.setToolTip(str(path))

    def _on_clicked(self) -> None:
        text = QFileDialog.getExistingDirectory(self, self._title, str(self._path))
        if text:
            self.set_path(Path(text))
            self.changed.emit()


class Section(QWidget):
    """A clickable title above a widget that is hidden while the section is closed.

    superqt's ``QCollapsible`` fixes the content's height when it opens, which truncates
    texts that wrap differently after the dock's width has changed.
    """

    def __init__(
        self,
        title: str,
        content: QWidget,
        *,
        tool_tip: str,
        shortcut: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.content = content
        self.button = QToolButton()
        self.button.setText(title)
        if shortcut:
            self.button.setShortcut(shortcut)
            tool_tip = f"{tool_tip.removesuffix('.')} ({shortcut})."
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setArrowType(Qt.ArrowType.RightArrow)
        self.button.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        self.button.setToolTip(tool_tip)
        self.button.setAccessibleName(title.replace("&", ""))
        self.button.toggled.connect(self._on_toggled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.button)
        layout.addWidget(content)
        content.setVisible(False)

    def set_open(self, is_open: bool) -> None:
        """Open or close the section."""
        self.button.setChecked(is_open)

    def _on_toggled(self, is_open: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self.button.setArrowType(arrow)
        self.content.setVisible(is_open)


def open_sections(widget: QWidget) -> None:
    """Open all sections that a widget is in."""
    parent = widget.parentWidget()
    while parent is not None:
        if isinstance(parent, Section):
            parent.set_open(True)
        parent = parent.parentWidget()
