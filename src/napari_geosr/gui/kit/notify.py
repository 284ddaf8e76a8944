"""Messages and errors: one sentence each, with details on request."""

from __future__ import annotations

import re
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

from napari_geosr.core.errors import Cancelled, GeoSRError, describe_system_error
from napari_geosr.gui.kit.line_breaks import keep_numbers_whole
from napari_geosr.gui.kit.option_words import in_words_of_dock

_ICONS = {
    "error": (QStyle.StandardPixmap.SP_MessageBoxCritical, "Error"),
    "warning": (QStyle.StandardPixmap.SP_MessageBoxWarning, "Caution"),
    "harm": (QStyle.StandardPixmap.SP_MessageBoxCritical, "Harmful"),
    "misfit": (QStyle.StandardPixmap.SP_MessageBoxCritical, "Do not measure"),
    "info": (QStyle.StandardPixmap.SP_MessageBoxInformation, "Note"),
    "ok": (QStyle.StandardPixmap.SP_DialogApplyButton, "OK"),
}
#: Length of the cautions shown in a dock, in characters (about three lines); only the
#: first sentence may be longer.
_BRIEF = 140
#: Space between two sentences.
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9'\"“(])")
#: Kinds of messages with a word such as "Caution" before the text.
_KINDS_WITH_WORD = ("warning", "harm", "error")


def error_sentence(error: BaseException) -> str:
    """Return the message of a known error, or a sentence with the type of the error.

    Command-line options are replaced, because docks have none.
    """
    return in_words_of_dock(_sentence(error), None)


def _sentence(error: BaseException) -> str:
    if isinstance(error, GeoSRError):
        return str(error)
    if text := describe_system_error(error):
        return text
    return f"Something went wrong ({type(error).__name__}: {error})."


def _first_sentences(text: str) -> tuple[str, str]:
    """Return the sentences that a dock has room for, and the others."""
    for end in _BETWEEN_SENTENCES.finditer(text):
        following = _BETWEEN_SENTENCES.search(text, end.end())
        if (following.start() if following else len(text)) > _BRIEF:
            return text[: end.start()], text[end.end() :]
    return text, ""


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an error and its causes, for a bug report."""
    return "".join(traceback.format_exception(error))


def show_error(error: BaseException, parent: QWidget | None = None) -> None:
    """Show `error` in one sentence with a *Details* button; never blocks.

    In a napari window, the error is a notification with a button that opens the
    traceback. `Cancelled` is not an error, so it is not shown.
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
        Notification(error_sentence(error), NotificationSeverity.ERROR, actions=actions)
    )


def show_details(error: BaseException, parent: QWidget | None = None) -> QMessageBox:
    """Open a window with the traceback as selectable text; does not block."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Warning)
    box.setWindowTitle("What went wrong")
    box.setAccessibleName("What went wrong")
    box.setText(error_sentence(error))
    box.setDetailedText(format_traceback(error))
    box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setModal(False)
    box.show()
    return box


def show_information(
    text: str, more: str, parent: QWidget | None = None, *, title: str = "Details"
) -> QMessageBox:
    """Open a window with the details of a message; does not block.

    Parameters
    ----------
    text : str
        The message.
    more : str
        Details.
    parent : QWidget, optional
    title : str
        Title of the window.
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


class _MessageLabel(QLabel):
    """A label that keeps each number and its unit on the same line."""

    def setText(self, text: str) -> None:
        """Show a text without line breaks between numbers and units."""
        super().setText(keep_numbers_whole(text))

    def text(self) -> str:
        """Return the text with ordinary spaces."""
        return str(super().text()).replace("\N{NO-BREAK SPACE}", " ")


class MessageRow(QWidget):
    """Message in a dock: an icon and text; for some kinds, a word before the text.

    The row is hidden while it is empty. Errors and messages with details have a
    *Details* button. The shortcut of this button can be changed if a dock has several
    message rows; without a shortcut, there is no button.

    Signals
    -------
    changed
        The message has changed or was cleared.
    """

    changed = Signal()
    #: Whether only the first sentences of a caution are shown, and the others by
    #: *Details*.
    shortens_cautions = False

    def __init__(
        self, parent: QWidget | None = None, *, shortcut: str = "Alt+Shift+D"
    ) -> None:
        super().__init__(parent)
        self._error: BaseException | None = None
        self._text = ""
        self._more, self._shortcut = "", shortcut
        self.icon = QLabel()
        self.icon.setAccessibleName("Kind of message")
        self.icon.setToolTip("Kind of message")
        self.label = _MessageLabel()
        self.label.setWordWrap(True)
        # The first line stays next to the icon even if the label is too tall.
        self.label.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.label.setIndent(0)  # with a frame, Qt would also indent the first line
        self.label.setAccessibleName("Message")
        self.label.setToolTip("You can select and copy this text.")
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
        """The whole message."""
        return self._text

    @property
    def has_error(self) -> bool:
        """Whether the message is an error."""
        return self._error is not None

    def clear(self) -> None:
        """Clear and hide the message."""
        self._error, self._more, self._text = None, "", ""
        self.label.clear()
        self.setVisible(False)
        self.changed.emit()

    def show_message(self, text: str, kind: str = "info", more: str = "") -> None:
        """Show `text`, with fields of the dock in place of command-line options.

        Parameters
        ----------
        text : str
        kind : str
            ``"info"``, ``"ok"``, ``"warning"``, ``"harm"``, ``"misfit"`` or
            ``"error"``.
        more : str
            Text shown by the *Details* button; if empty, there is no button.
        """
        pixmap, word = _ICONS[kind]
        text = in_words_of_dock(text, self)
        brief, rest = text, ""
        if self.shortens_cautions and kind == "warning" and not more:
            brief, rest = _first_sentences(text)
        self._error, self._more = None, rest or in_words_of_dock(more, self)
        style: Any = self.style()
        self.icon.setPixmap(style.standardIcon(pixmap).pixmap(16, 16))
        self.icon.setAccessibleDescription(word)
        self.icon.setToolTip(word)
        start = f"{word}: " if kind in _KINDS_WITH_WORD else ""
        self.label.setText(start + brief)
        self._text = start + text
        self._describe_details()
        self.details_button.setVisible(bool(self._more and self._shortcut))
        self.setVisible(True)
        self.changed.emit()

    def show_error(self, error: BaseException) -> None:
        """Show an error or a cancellation."""
        if isinstance(error, Cancelled):
            self.show_message("Cancelled.")
            return
        self.show_message(_sentence(error), "error")
        self._error = error
        self._describe_details()
        self.details_button.setVisible(bool(self._shortcut))
        self.changed.emit()

    def _describe_details(self) -> None:
        """Update the tool tip and the accessible name of the *Details* button."""
        content, name = "the traceback, for a bug report", "Details of the error"
        if self._error is None:
            content, name = "the details of this message", "Details of the message"
        self.details_button.setAccessibleName(name)
        self.details_button.setToolTip(f"Show {content} ({self._shortcut}).")

    def _on_details(self) -> None:
        if self._error is not None:
            show_details(self._error, self)
        elif self._more:
            show_information(str(self.label.text()), self._more, self)


#: Kinds of messages, most important first.
_KINDS = ("error", "warning", "info", "ok")


class MessageLog:
    """Collects the outcomes of several runs and shows them, failures first.

    Parameters
    ----------
    message : MessageRow
        Row that shows the outcomes.
    """

    def __init__(self, message: MessageRow) -> None:
        self._message = message
        self._messages: list[tuple[str, str]] = []
        self._errors: list[Exception] = []

    def clear(self) -> None:
        """Remove all messages."""
        self._messages, self._errors = [], []
        self._message.clear()

    def add(self, text: str, kind: str) -> None:
        """Add `text` to the messages shown; `kind` is one of `_KINDS`."""
        self._messages.append((kind, text))
        self._show()

    def add_error(self, error: Exception, about: str = "") -> None:
        """Show why a run failed.

        Parameters
        ----------
        about : str
            Subject of the run; added if the error does not name it.
        """
        if isinstance(error, Cancelled):
            self.add("Cancelled.", "info")
            return
        text = error_sentence(error)
        self._errors.append(error)
        self.add(text if about in text else f"{about}: {text}", "error")

    def _show(self) -> None:
        messages = sorted(self._messages, key=lambda each: _KINDS.index(each[0]))
        text = "\n".join(words for _, words in messages)
        if not self._errors:
            self._message.show_message(text, messages[0][0])
            return
        failed = GeoSRError(text)
        failed.__cause__ = (
            self._errors[0]
            if len(self._errors) == 1
            else ExceptionGroup("Several runs failed", self._errors)
        )
        self._message.show_error(failed)
