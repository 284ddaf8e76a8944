"""Run the operations of the Segment dock; the latest stroke takes precedence."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from qtpy.QtCore import QObject

from napari_geosr.gui.kit.activity import Activity, Key

#: Names of the operations of the dock.
ANSWER, SUGGEST, SEGMENT = "answer", "suggest", "segment"
COMPARE, FINE_TUNE = "compare", "fine-tune"
#: Operations that the user starts and waits for.
LONG = (SEGMENT, COMPARE, FINE_TUNE)


class StrokesActivity(Activity):
    """Predicts the slice shortly after the latest stroke; computes suggestions later.

    Attributes
    ----------
    key : callable
        Returns a key built from everything that affects the prediction: equal keys give
        equal predictions. None if there is nothing to predict.
    begin : callable
        Starts the operation with a given name.
    """

    _debounce_ms: ClassVar[int] = 250

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.key: Callable[[], Key | None] = lambda: None
        self.begin: Callable[[str], None] = lambda _what: None

    def on_change(self) -> None:
        """Start a prediction once nothing has changed for a moment."""
        self._restart_later()

    def request(self, what: str) -> None:
        """Start the named operation as soon as possible."""
        self._request_operation(what)

    def _cancel_if_outdated(self) -> None:
        is_new = self.key() not in (None, self._attempted_key)
        is_awaited = any(what in self._requests for what in LONG)
        if self._busy == ANSWER and (is_new or is_awaited):
            self.cancel(keep_requests=True)
        elif self._busy == SUGGEST and (is_new or is_awaited):
            self._requests.add(SUGGEST)  # restart it afterwards
            self.cancel(keep_requests=True)

    def _start_next(self) -> None:
        key = self.key()
        awaited = [what for what in LONG if what in self._requests]
        if awaited:
            what = awaited[0]
        elif key not in (None, self._attempted_key):
            what = ANSWER
            self._attempted_key = key
        elif SUGGEST in self._requests:
            what = SUGGEST
        else:
            return
        self._requests.discard(what)
        self.begin(what)

    def answer_again(self) -> None:
        """Predict even if nothing has changed, e.g. after a cancelled prediction."""
        self._attempted_key = None
        self._restart_later()
