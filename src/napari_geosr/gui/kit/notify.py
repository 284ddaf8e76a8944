"""Tell a person about an error: one sentence, details on request."""

from __future__ import annotations

import traceback
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QStyle,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import Cancelled, GeoSRError, system_sentence

_ICONS = {
    "error": (QStyle.StandardPixmap.SP_MessageBoxCritical, "Error"),
    "warning": (QStyle.StandardPixmap.SP_MessageBoxWarning, "Caution"),
    "harm": (QStyle.StandardPixmap.SP_MessageBoxCritical, "Harmful"),
    "misfit": (QStyle.StandardPixmap.SP_MessageBoxCritical, "Does not fit"),
    "info": (QStyle.StandardPixmap.SP_MessageBoxInformation, "Note"),
    "ok": (QStyle.StandardPixmap.SP_DialogApplyButton, "Fine"),
}
#: Kinds that are named before the text.
_NAMED = ("warning", "harm", "error")


def sentence(error: BaseException) -> str:
    """Give an error in one sentence: ours, or what kind of fault it was."""
    if isinstance(error, GeoSRError):
        return str(error)
    if said := system_sentence(error):
        return said
    return f"Something went wrong ({type(error).__name__}: {error})."


def details(error: BaseException) -> str:
    """Give the traceback of an error and its causes, for a bug report."""
    return "".join(traceback.format_exception(error))


def show_error(error: BaseException, parent: QWidget | None = None) -> None:
    """Show `error` in one sentence with a *Details* button; never blocks.

    In a napari window it becomes a notification; the traceback opens from its button.
    `Cancelled` is no error and shows nothing.
    """
    if isinstance(error, Cancelled):
        return
    from napari.utils.notifications import (
        Notification,
        NotificationSeverity,
        notification_manager,
    )

    actions = (("Details", lambda *_: show_details(error, parent)),)
    notification_manager.dispatch(
        Notification(sentence(error), NotificationSeverity.ERROR, actions=actions)
    )


def show_details(error: BaseException, parent: QWidget | None = None) -> QMessageBox:
    """Open a window with the traceback, to read or to copy; does not block."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Warning)
    box.setWindowTitle("What went wrong")
    box.setAccessibleName("What went wrong")
    box.setText(sentence(error))
    box.setDetailedText(details(error))
    box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setModal(False)
    box.show()
    return box


def show_more(
    text: str, more: str, parent: QWidget | None = None, *, title: str = "Details"
) -> QMessageBox:
    """Open a window with what is behind a message; does not block.

    Parameters
    ----------
    text : str
        What is said at first.
    more : str
        Details.
    parent : QWidget, optional
    title : str
        Of the window.
    """
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Information)
    box.setWindowTitle(title)
    box.setAccessibleName(title)
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setText(text)
    box.setInformativeText(more)
    box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setModal(False)
    box.show()
    return box


class MessageRow(QWidget):
    """A line of text inside a dock, with an icon that also has a word.

    Hidden while there is nothing to say. Errors, and messages with more to read, have a
    *Details* button, whose shortcut may be changed where a dock has several rows;
    without a shortcut, there is no such button.

    Signals
    -------
    changed
        It says something else, or nothing any more.
    """

    changed = Signal()

    def __init__(
        self, parent: QWidget | None = None, *, shortcut: str = "Alt+Shift+D"
    ) -> None:
        super().__init__(parent)
        self._error: BaseException | None = None
        self._more, self._shortcut = "", shortcut
        self.icon = QLabel()
        self.icon.setAccessibleName("Kind of message")
        self.icon.setToolTip("Kind of message")
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setAccessibleName("Message")
        self.label.setToolTip("Message; select the text to copy it.")
        self.label.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
            | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.details_button = QToolButton()
        self.details_button.setText("Details")
        self._describe_details()
        self.details_button.setShortcut(shortcut)
        self.details_button.clicked.connect(self._on_details)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.label, 1)
        if shortcut:
            row.addWidget(self.details_button, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        self.clear()

    @property
    def text(self) -> str:
        """The sentence that is shown."""
        return str(self.label.text())

    def clear(self) -> None:
        """Say nothing and take no room."""
        self._error, self._more = None, ""
        self.label.clear()
        self.setVisible(False)
        self.changed.emit()

    def show_message(self, text: str, kind: str = "info", more: str = "") -> None:
        """Say `text`.

        Parameters
        ----------
        kind : str
            ``"info"``, ``"ok"``, ``"warning"``, ``"harm"``, ``"misfit"`` or
            ``"error"``.
        more : str
            What the *Details* button shows; without it, there is no button.
        """
        pixmap, word = _ICONS[kind]
        self._error, self._more = None, more
        style: Any = self.style()
        self.icon.setPixmap(style.standardIcon(pixmap).pixmap(16, 16))
        self.icon.setAccessibleDescription(word)
        self.icon.setToolTip(word)
        self.label.setText(f"{word}: {text}" if kind in _NAMED else text)
        self._describe_details()
        self.details_button.setVisible(bool(more and self._shortcut))
        self.setVisible(True)
        self.changed.emit()

    def show_error(self, error: BaseException) -> None:
        """Say what went wrong, unless the person only cancelled."""
        if isinstance(error, Cancelled):
            self.show_message("Cancelled.")
            return
        self.show_message(sentence(error), "error")
        self._error = error
        self._describe_details()
        self.details_button.setVisible(bool(self._shortcut))
        self.changed.emit()

    def _describe_details(self) -> None:
        """Say what the *Details* button opens."""
        what, name = "the traceback, for a bug report", "Details of the error"
        if self._error is None:
            what, name = "what is behind this message", "Details of the message"
        self.details_button.setAccessibleName(name)
        self.details_button.setToolTip(f"Show {what} ({self._shortcut}).")

    def _on_details(self) -> None:
        if self._error is not None:
            show_details(self._error, self)
        elif self._more:
            show_more(self.text, self._more, self)


#: Kinds of message from the one that matters most.
_KINDS = ("error", "warning", "info", "ok")


class MessageLog:
    """Collects what several runs end with, and shows all of it, failures first.

    Parameters
    ----------
    message : MessageRow
        Where it is shown.
    """

    def __init__(self, message: MessageRow) -> None:
        self._message = message
        self._said: list[tuple[str, str]] = []
        self._errors: list[Exception] = []

    def clear(self) -> None:
        """Forget all: what comes now has nothing to do with it."""
        self._said, self._errors = [], []
        self._message.clear()

    def add(self, text: str, kind: str) -> None:
        """Show `text` with the messages before it; `kind` as in `MessageRow`."""
        self._said.append((kind, text))
        self._show()

    def add_error(self, error: Exception, about: str = "") -> None:
        """Show why a run failed.

        Parameters
        ----------
        about : str
            What the run was about; said where the error does not name it.
        """
        if isinstance(error, Cancelled):
            self.add("Cancelled.", "info")
            return
        text = sentence(error)
        self._errors.append(error)
        self.add(text if about in text else f"{about}: {text}", "error")

    def _show(self) -> None:
        said = sorted(self._said, key=lambda each: _KINDS.index(each[0]))
        text = "\n".join(words for _, words in said)
        if not self._errors:
            self._message.show_message(text, said[0][0])
            return
        failed = GeoSRError(text)
        failed.__cause__ = (
            self._errors[0]
            if len(self._errors) == 1
            else ExceptionGroup("These failed", self._errors)
        )
        self._message.show_error(failed)
