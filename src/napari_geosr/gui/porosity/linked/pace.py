"""How often napari's picture is updated while a lasso is drawn in the plot."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QObject, QTimer, Signal

if TYPE_CHECKING:
    from napari_geosr.gui.porosity.linked.scatter import ScatterView

#: Longest mean time in milliseconds between two changes of the plot: one frame of a
#: screen at 60 frames per second, minus the delay of timers.
_FRAME = 16.0
#: Longest time in milliseconds for which an update of the picture is delayed.
_LONGEST_WAIT = 100.0
#: Shortest time in milliseconds without a change after which a pending picture is
#: drawn.
_PAUSE = 50
#: Time in milliseconds by which an update of the plot may be late if the picture is to
#: be drawn with it.
_ON_TIME = 4.0
#: If redrawing the picture lengthens a frame by at most this many milliseconds,
#: delaying it brings no benefit, e.g. because all frames last until the screen is
#: refreshed.
_SAME = 3.0
#: Longest duration in milliseconds of a frame that counts; longer ones were delayed by
#: something other than drawing, e.g. because the window was hidden.
_LONGEST_FRAME = 2000.0
#: Number of frames of each kind from which the median duration is calculated.
_FRAMES = 5


class PicturePace(QObject):
    """Delays drawing the picture if the drawing would slow down the plot.

    Without a graphics card, drawing napari's canvas takes longer than a frame of the
    screen, and the plot, which is in the same window, has to wait for it. The frames
    with and without a new picture are timed; their durations determine how long the
    picture must wait so that the plot keeps up with the screen. If the canvas is drawn
    fast enough, the picture follows every change.

    Parameters
    ----------
    scatter : ScatterView
        The plot in which the lasso is drawn.
    parent : QObject

    Signals
    -------
    due
        Emitted when the picture must be drawn now.
    """

    due = Signal()

    def __init__(self, scatter: ScatterView, parent: QObject) -> None:
        super().__init__(parent)
        self._scatter = scatter
        #: Durations of the last frames, without and with a new picture.
        self._without_picture: deque[float] = deque(maxlen=_FRAMES)
        self._with_picture: deque[float] = deque(maxlen=_FRAMES)
        self._drawn_at = 0.0
        #: The frame that is not drawn yet: when its change began (None: no such frame),
        #: and whether it has a new picture.
        self._began: float | None = None
        self._has_picture = self._is_watching = False
        self._is_waiting = False
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.timeout.connect(self.finish)
        self._end = QTimer(self)
        self._end.setSingleShot(True)
        self._end.timeout.connect(self._on_drawn)
        scatter.lassoEnded.connect(self.finish)

    @property
    def is_waiting(self) -> bool:
        """Whether the picture does not yet show the last change."""
        return self._is_waiting

    @property
    def wait(self) -> float:
        """Minimum time (ms) from the end of a picture update to the start of the next.

        0 if a delay gains nothing, or as long as too few frames have been timed.
        """
        if len(self._with_picture) < 2:  # the first frame also prepares the layer
            return 0.0
        full = float(np.median(self._with_picture))
        if full <= _FRAME:
            return 0.0
        if not self._without_picture:
            return min(full, _LONGEST_WAIT)
        plain = float(np.median(self._without_picture))
        if full - plain <= _SAME:
            return 0.0
        if plain >= _FRAME:
            return _LONGEST_WAIT
        # Enough frames without a new picture compensate for a slow frame with one.
        return min((full - _FRAME) * plain / (_FRAME - plain), _LONGEST_WAIT)

    def follow(self) -> None:
        """Update the picture after a change to the lasso, now or after more changes."""
        if not self._is_watching:  # pyqtgraph's widget is created late
            self._scatter.plot.viewport().installEventFilter(self)
            self._is_watching = True
        if self._began is None:
            self._began, self._has_picture = self._scatter.updated, False
        wait, past = self.wait, 1000 * (time.perf_counter() - self._drawn_at)
        left = wait - past
        # After a slow frame with the picture, the plot catches up first.
        is_on_time = self._scatter.late <= _ON_TIME or past >= _LONGEST_WAIT
        if wait == 0 or (left <= 0 and is_on_time):
            self._draw()
        else:
            self._is_waiting = True
            self._pause.start(max(math.ceil(left), _PAUSE))

    def finish(self) -> None:
        """Update the picture for the last change now, if an update is pending."""
        if self._is_waiting:
            self._draw()

    def show_now(self) -> None:
        """Update the picture for a change now; the frame in progress is not timed.

        That frame also shows changes other than those to the lasso.
        """
        self._began = None
        self._end.stop()
        self._draw()

    def _stop(self) -> None:
        """Cancel the pending update of the picture."""
        self._is_waiting = False
        self._pause.stop()

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
        """Detect that the window is being drawn; timers fire only afterwards."""
        if event.type() == QEvent.Type.Paint and self._began is not None:
            self._end.start(0)
        return False

    def _draw(self) -> None:
        self._stop()
        self._has_picture, self._drawn_at = True, time.perf_counter()
        self.due.emit()

    def _on_drawn(self) -> None:
        if self._began is None:
            return
        now = time.perf_counter()
        durations = self._with_picture if self._has_picture else self._without_picture
        duration = 1000 * (now - self._began)
        if duration <= _LONGEST_FRAME:
            durations.append(duration)
        if self._has_picture:
            self._drawn_at = now
        self._began = None
