"""The bar at the bottom of a dock: its actions, how far they are, and what runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.kit.elided import ElidedLabel
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.widgets import progress_bar

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

#: Part of a dock's height that a long message may take before it scrolls.
_MOST_OF_DOCK = 0.35
#: napari frames disabled buttons alone, which makes them higher than others.
_STYLE = "QPushButton:enabled { border: 1px solid transparent; }"
#: Width that a message is wrapped at before the dock is laid out.
_LEAST_WIDTH = 200


class ActionBar(QWidget):
    """Buttons, a progress bar and one line of state; nothing in it ever moves.

    Buttons are enabled in turn, never hidden, and none changes what it does. The line
    is elided where it is too long, and the bar keeps its room while nothing runs.

    Parameters
    ----------
    *rows : sequence of QWidget
        Buttons of each row, from left to right.
    idle : str
        What the line says while nothing runs.

    Attributes
    ----------
    progress : QProgressBar
        Hidden while nothing runs.
    state : StateLine
        Current operation and remaining time.

    Examples
    --------
    >>> ActionBar((start_button, cancel_button), idle="Ready.")  # doctest: +SKIP
    """

    def __init__(self, *rows: Sequence[QWidget], idle: str = "") -> None:
        super().__init__()
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
        for widgets in rows:
            row = QHBoxLayout()
            row.setSpacing(6)
            for widget in widgets:
                row.addWidget(widget, 1)
            column.addLayout(row)
        column.addWidget(self.progress)
        column.addWidget(self.state)

    def show_progress(self, done: int, total: int) -> None:
        """Show how much of how much is done; without a total, only that it runs."""
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.progress.setVisible(True)

    def show_job(self, text: str, done: int, total: int) -> None:
        """Show one line about a job and how far it is; nothing without a text."""
        self.state.setText(text)
        if text:
            self.show_progress(done, total)
        else:
            self.progress.setVisible(False)


class StateLine(ElidedLabel):
    """One line that says what runs; as high when it is empty.

    Attributes
    ----------
    idle : str
        What it says while nothing runs.
    """

    idle = ""  # superqt sets a text before all else

    def __init__(self, idle: str) -> None:
        super().__init__("", mode=Qt.TextElideMode.ElideRight)
        self.idle = idle
        self.setAccessibleName("State")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setText("")

    def setText(self, text: str) -> None:
        """Say `text`; what there is to say while nothing runs if it is empty."""
        super().setText(text or self.idle)
        self.setToolTip(self.text() or "Current operation and remaining time.")

    def sizeHint(self) -> QSize:
        """Give the same height to every text."""
        return QSize(super().sizeHint().width(), self.fontMetrics().height() + 2)

    def minimumSizeHint(self) -> QSize:
        """Give the same height to every text."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())


class MessagePane(QScrollArea):
    """Shows a message above an action bar; scrolls one that is too long for the dock.

    Parameters
    ----------
    message : MessageRow
        Takes no room while it says nothing.
    """

    def __init__(self, message: MessageRow) -> None:
        super().__init__()
        self._message = message
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 4, 8, 0)
        column.addWidget(message)
        self.setWidget(inner)
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.timeout.connect(self.fit)
        inner.installEventFilter(self)
        message.changed.connect(self.fit)
        self.fit()

    def fit(self) -> None:
        """Be as high as the message, but leave most of the dock to its settings."""
        shown = not self._message.isHidden()
        self.setVisible(shown)
        dock = self.parentWidget()
        if not shown or dock is None:
            return
        layout = self.widget().layout()
        # What they know of the last message is forgotten in a later turn only.
        for known in (self._message.layout(), layout):
            known.invalidate()
        wanted = layout.totalHeightForWidth(max(self.width(), _LEAST_WIDTH))
        most = max(48, round(_MOST_OF_DOCK * dock.height()))
        # A bar that shows for a moment would wrap the text into one line more.
        bar = Qt.ScrollBarPolicy
        self.setVerticalScrollBarPolicy(
            bar.ScrollBarAsNeeded if wanted > most else bar.ScrollBarAlwaysOff
        )
        self.setFixedHeight(min(wanted, most))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Fit a message once it is laid out: a label wraps its text in a later turn."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._settling.start(0)
        return bool(super().eventFilter(watched, event))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit a message that is wrapped in another way."""
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
    """Put `body`, which scrolls, above `message` and `bar`, which stay in sight.

    Parameters
    ----------
    body : QScrollArea or QTabWidget
        Everything but the actions.
    above : QWidget, optional
        Stays in sight above the body.
    """
    column = QVBoxLayout(dock)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(0)
    if above is not None:
        column.addWidget(above)
    column.addWidget(body, 1)
    column.addWidget(MessagePane(message))
    column.addWidget(bar)
