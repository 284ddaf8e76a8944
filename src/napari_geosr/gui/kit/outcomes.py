"""What became of several runs, one after the other, in one message."""

from __future__ import annotations

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.gui.kit.notify import MessageRow, sentence

#: Kinds of message from the one that matters most.
_KINDS = ("error", "warning", "info", "ok")


class Outcomes:
    """Collects what runs end with and shows all of it, failures first.

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
        """Show `text` with what was said before; `kind` as in `MessageRow`."""
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
