"""Widgets for docks: buttons, labels, rows, sections, lists.

The controls have accessible names and tool tips.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QPoint, QRect, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QApplication,
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

from napari_geosr.core.text.display import short_path
from napari_geosr.gui.kit.line_breaks import break_names, keep_numbers_whole

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent, QShowEvent

#: Maximum width that a menu reserves for its entries, in widths of an X.
_MAX_ENTRY = 26
#: Number of pixels that Qt adds to the width of an entry for the gap next to an icon,
#: even without an icon.
_SPARE = 4
#: Maximum width of the column of labels, as a fraction of the width of a dock.
_LABEL_SHARE = 0.43
#: Minimum width of the rest, and the space around a label, in pixels.
_FIELD_WIDTH = 192
_LABEL_MARGIN = 11
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
    menu.setIconSize(QSize(0, 0))  # Qt would reserve space for icons
    metrics = menu.fontMetrics()
    texts = (menu.itemText(i) for i in range(menu.count()))
    widest = max(map(metrics.horizontalAdvance, texts), default=0)
    needed = ceil((widest - _SPARE) / metrics.horizontalAdvance("X"))
    length = min(max(needed, 4), _MAX_ENTRY)
    if length != menu.minimumContentsLength():
        menu.setMinimumContentsLength(length)
        # Qt keeps the minimum width of a menu until its style changes.
        QApplication.sendEvent(menu, QEvent(QEvent.Type.StyleChange))


def form_layout() -> QFormLayout:
    """Create a form layout, in which each widget takes the available width."""
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    # The alignment of labels would otherwise depend on the operating system.
    form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    form.setFormAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
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


class FormAligner(QObject):
    """Gives all forms in a widget one column of labels, so that their fields align.

    Labels in closed sections count as well, so that no field moves when a section is
    opened. Labels that are too long for the column wrap.

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
        """Align when the body is shown or has another width, and after a layout."""
        if event.type() == QEvent.Type.Show:
            # A body that is wider than its area does not follow the area's width.
            if not self._body.isWindow():
                self._body.parentWidget().installEventFilter(self)
            self._align()
        elif event.type() == QEvent.Type.Resize:
            self._align()
        elif event.type() == QEvent.Type.LayoutRequest and not self._timer.isActive():
            self._timer.start(0)
        return False

    def _align(self) -> None:
        """Give all labels the width of the column."""
        forms = self._body.findChildren(QFormLayout)
        labels = [label for form in forms for label in _labels_of(form)]
        if not labels:
            return
        # The other labels get the font of the theme when they are first shown.
        labels[0].ensurePolished()
        metrics = labels[0].fontMetrics()
        texts = [label.text().replace("&", "") for label in labels]
        widths = [metrics.horizontalAdvance(text) + _LABEL_MARGIN for text in texts]
        words = (word for text in texts for word in text.split())
        least = max(map(metrics.horizontalAdvance, words), default=0) + _LABEL_MARGIN
        room = self._body.width()
        if not self._body.isWindow():  # a wide form makes the body wider than the dock
            room = min(room, self._body.parentWidget().width())
        most = min(round(_LABEL_SHARE * room), room - _FIELD_WIDTH)
        column = min(max(widths), max(least, most))
        # Qt indents the text of a label with a frame by half the width of an x.
        margin = 2 * labels[0].contentsRect().x() + metrics.horizontalAdvance("x") // 2
        inside = QRect(0, 0, column - margin, 1000)
        for label, text, width in zip(labels, texts, widths, strict=True):
            wraps = width - _LABEL_MARGIN > inside.width()
            lines = metrics.boundingRect(inside, Qt.TextFlag.TextWordWrap, text)
            # Qt does not give a label in a form the height of its lines.
            height = lines.height() + 2 if wraps else 0
            if label.wordWrap() != wraps:
                label.setWordWrap(wraps)
            if label.minimumHeight() != height:
                label.setMinimumHeight(height)
            if not label.minimumWidth() == label.maximumWidth() == column:
                label.setFixedWidth(column)


def _labels_of(form: QFormLayout) -> list[QLabel]:
    role = QFormLayout.ItemRole.LabelRole
    items = (form.itemAt(row, role) for row in range(form.rowCount()))
    widgets = (item.widget() for item in items if item is not None)
    return [widget for widget in widgets if isinstance(widget, QLabel)]


def scrolling(inner: QWidget) -> QScrollArea:
    """Return a vertically scrolling area that contains `inner`; its forms align."""
    FormAligner(inner)
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
        """Choose another folder; one in the home folder is shown with a tilde."""
        self._path = path
        self.label.setText(short_path(path))
        self.label.setToolTip(str(path))

    def _on_clicked(self) -> None:
        if text := QFileDialog.getExistingDirectory(self, self._title, str(self._path)):
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
