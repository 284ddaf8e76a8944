"""The bar at the bottom of a dock: actions, progress and current operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QFontMetricsF
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.widgets import ElidedLabel

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

#: Maximum height of a message, as a fraction of the dock's height; longer ones scroll.
_MAX_SHARE_OF_DOCK = 0.2
#: Style of buttons: napari gives only disabled buttons a border, which makes them
#: taller than others. The primary button is filled, not bold, so that no button moves
#: when another becomes the primary one. Its border is visible in both themes, and the
#: contrast of its text is 5.7 : 1.
_STYLE = (
    "QPushButton:enabled { border: 1px solid transparent; }"
    "QPushButton[primary='true']:enabled"
    " { border: 1px solid #5a7fff; background-color: #3b5bdb; color: #ffffff; }"
    "QPushButton[primary='true']:enabled:hover { background-color: #3350c4; }"
)
#: Style of progress bars: with napari's grey, a full bar looks like an empty one. The
#: contrast with the background is at least 3 : 1 in both themes.
_BAR_STYLE = "QProgressBar::chunk { background-color: #5a7fff; }"
#: Space above the tabs of a dock, in pixels.
_TAB_MARGIN = 4
#: Minimum width, in pixels, at which a message is wrapped, because the dock may not
#: have been laid out yet. Next to a button, a dock 300 pixels wide leaves about 190
#: pixels.
_MIN_WRAP_WIDTH = 140


class ActionBar(QWidget):
    """Buttons, a progress bar and one status line, with a fixed layout.

    Buttons are enabled or disabled, but never hidden, and keep their function. A line
    that is too long is elided, and the bar keeps its space while nothing is running.

    Parameters
    ----------
    *rows : sequence of QWidget
        Buttons of each row, from left to right.
    idle : str
        Text of the line while nothing is running.
    primary : QPushButton, optional
        Button for the next step; it is highlighted (`set_primary`).

    Attributes
    ----------
    progress : QProgressBar
        Progress bar; hidden while nothing is running.
    state : StateLine
        Current operation and remaining time.
    """

    def __init__(
        self,
        *rows: Sequence[QWidget],
        idle: str = "",
        primary: QPushButton | None = None,
    ) -> None:
        super().__init__()
        self._primary: QPushButton | None = None
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setStyleSheet(_STYLE)
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        line.setFrameShadow(QFrame.Shadow.Sunken)
        self.progress = progress_bar("Progress", "Progress.")
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)
        self.progress.setFixedHeight(10)
        self.progress.setVisible(False)
        self.state = StateLine(idle)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 2, 8, 4)
        column.setSpacing(4)
        column.addWidget(line)
        self._rows = QVBoxLayout()
        self._rows.setSpacing(4)
        column.addLayout(self._rows)
        for widgets in rows:
            self.add_row(*widgets)
        column.addWidget(self.progress)
        column.addWidget(self.state)
        if primary is not None:
            self.set_primary(primary)

    def add_row(self, *widgets: QWidget, on_top: bool = False) -> QWidget:
        """Add a row of buttons below the others, and return it.

        With `on_top`, the row is added above the others, which then keep their place
        when the row is shown, because the bar is at the bottom of its dock.
        """
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        for widget in widgets:
            row.addWidget(widget, 1)
        self._rows.insertWidget(0 if on_top else self._rows.count(), made)
        return made

    def set_primary(self, button: QPushButton) -> None:
        """Highlight the button for the next step instead of the previous button.

        The button may be in another part of the dock.
        """
        if button is self._primary:
            return
        if not self.isAncestorOf(button):
            button.setStyleSheet(_STYLE)
        for each, is_primary in ((self._primary, False), (button, True)):
            if each is not None:
                each.setProperty("primary", is_primary)
                each.setDefault(is_primary)
                each.style().unpolish(each)
                each.style().polish(each)
        self._primary = button

    def set_next(self, text: str, button: QPushButton) -> None:
        """Name the next step while nothing is running, and highlight its button."""
        self.state.set_idle(text)
        self.set_primary(button)

    def show_progress(self, done: int, total: int) -> None:
        """Show the progress or, without a total, only that something is running."""
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.progress.setVisible(True)

    def show_job(self, text: str, done: int, total: int) -> None:
        """Show `text` about a job (the idle text if it is empty) and the progress."""
        self.state.setText(text)
        if text:
            self.show_progress(done, total)
        else:
            self.progress.setVisible(False)


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


class _ProgressBar(QProgressBar):
    """Progress bar that draws only the latest value, once per event-loop iteration.

    `QProgressBar` draws each value immediately, and also redraws napari's canvas. An
    operation may report many values in one iteration.
    """

    def setRange(self, minimum: int, maximum: int) -> None:
        """Set the range without drawing immediately."""
        with self._drawn_later():
            super().setRange(minimum, maximum)

    def setValue(self, value: int) -> None:
        """Set the value without drawing immediately."""
        with self._drawn_later():
            super().setValue(value)

    @contextmanager
    def _drawn_later(self) -> Iterator[None]:
        self.setUpdatesEnabled(False)
        try:
            yield
        finally:
            self.setUpdatesEnabled(True)


def progress_bar(name: str, tool_tip: str) -> QProgressBar:
    """Create a thin progress bar without text."""
    bar = _ProgressBar()
    bar.setAccessibleName(name)
    bar.setToolTip(tool_tip)
    bar.setTextVisible(False)
    bar.setStyleSheet(_BAR_STYLE)
    bar.setMaximumHeight(10)
    return bar


class StateLine(ElidedLabel):
    """A status line that keeps its height when it is empty.

    Attributes
    ----------
    idle : str
        Text while nothing is running.
    """

    idle = ""  # superqt sets the text before __init__ assigns this

    def __init__(self, idle: str) -> None:
        super().__init__("", mode=Qt.TextElideMode.ElideRight)
        self.idle = idle
        self.setAccessibleName("State")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setText("")

    def set_idle(self, text: str) -> None:
        """Set the text shown while nothing is running."""
        is_shown = self.text() == self.idle
        self.idle = text
        if is_shown:
            self.setText("")

    def setText(self, text: str) -> None:
        """Show `text`, or the idle text if it is empty."""
        super().setText(text or self.idle)
        self.setToolTip(self.text() or "Current operation and remaining time.")

    def sizeHint(self) -> QSize:
        """Use the same height for every text."""
        return QSize(super().sizeHint().width(), self.fontMetrics().height() + 2)

    def minimumSizeHint(self) -> QSize:
        """Use the same height for every text."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())


class MessagePane(QScrollArea):
    """Shows a message above an action bar; scrolls a message that is too long.

    Parameters
    ----------
    message : MessageRow
        The message; takes no space while it is empty.
    max_lines : int, optional
        Number of lines beyond which the message scrolls; by default, a fraction of the
        dock's height.
    """

    def __init__(self, message: MessageRow, *, max_lines: int | None = None) -> None:
        super().__init__()
        self._message = message
        self._max_lines = max_lines
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        inner = QWidget()
        column = QVBoxLayout(inner)
        side = 8 if max_lines is None else 0
        column.setContentsMargins(side, side // 2, side, 0)
        column.addWidget(message)
        self.setWidget(inner)
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.timeout.connect(self._set_height)
        inner.installEventFilter(self)
        message.changed.connect(self.fit)
        self.fit()

    def fit(self) -> None:
        """Fit the height to the message, leaving most of the dock to the settings."""
        # Invalidate the sizes that were cached for the last message. Doing so requests
        # another layout, after which `eventFilter` sets the height again.
        for known in (self._message.layout(), self.widget().layout()):
            known.invalidate()
        self._set_height()

    def _set_height(self) -> None:
        """Set the height without requesting a layout, which would cause a loop."""
        shown = not self._message.isHidden()
        self.setVisible(shown)
        dock = self.parentWidget()
        if not shown or dock is None:
            return
        layout = self.widget().layout()
        # Exclude the border of napari's style, which leaves less width for the text.
        width = self.contentsRect().width()
        needed = layout.totalHeightForWidth(max(width, _MIN_WRAP_WIDTH))
        # In labels with selectable text, the line height is a whole number of pixels.
        line = ceil(QFontMetricsF(self._message.label.font()).lineSpacing())
        if self._max_lines is not None:
            most = self._max_lines * line + 2
        else:
            # Show whole lines: half a line at the bottom would look like a mistake.
            above = layout.contentsMargins().top()
            most = max(48, round(_MAX_SHARE_OF_DOCK * dock.height()))
            most = above + (most - above) // line * line
        # A temporary scroll bar would make the text wrap onto one more line.
        bar = Qt.ScrollBarPolicy
        self.setVerticalScrollBarPolicy(
            bar.ScrollBarAsNeeded if needed > most else bar.ScrollBarAlwaysOff
        )
        border = self.height() - self.contentsRect().height()
        self.setFixedHeight(min(needed, most) + border)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Refit after layout, because a label wraps its text in a later event."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._settling.start(0)
        return bool(super().eventFilter(watched, event))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Refit a message that wraps differently at the new width."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.fit()


def fill_dock(
    dock: QWidget,
    body: QWidget,
    message: MessageRow,
    bar: ActionBar,
    *,
    above: QWidget | None = None,
) -> None:
    """Put the scrolling `body` above `message` and `bar`, which stay visible.

    Parameters
    ----------
    body : QScrollArea or QTabWidget
        All of the dock except the actions.
    above : QWidget, optional
        Widget shown above the body, where it stays visible.
    """
    column = QVBoxLayout(dock)
    # Without a margin, the dock's title bar would cover the top of the tabs.
    top = _TAB_MARGIN if isinstance(body, QTabWidget) else 0
    column.setContentsMargins(0, top, 0, 0)
    column.setSpacing(0)
    if above is not None:
        column.addWidget(above)
    column.addWidget(body, 1)
    message.shortens_cautions = True
    column.addWidget(MessagePane(message))
    column.addWidget(bar)
