"""A picture of all frames of a plane: one row per angle, one column per phase.

In each row, the stripes must have the same direction and move from frame to frame, so
that a wrong order of the frames is visible at a glance.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QPoint, Qt, QTimer, Signal
from qtpy.QtGui import QHelpEvent, QImage, QMouseEvent, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QToolTip, QVBoxLayout, QWidget

from napari_geosr.core.errors import EngineError
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.widgets import text_label
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.operations.sim import FramesConfig, frames_of
from napari_geosr.operations.sim.estimate import brightest_part
from napari_geosr.operations.sim.order_checks import (
    difference_growth,
    largest_growth,
    order_remark,
)

FloatArray = npt.NDArray[np.float32]

#: Maximum edge length of a thumbnail, in pixels; each of its pixels shows one camera
#: pixel.
_EDGE = 40
#: Largest width of a row of thumbnails in pixels.
_ROW = 210
#: Gap between two thumbnails, in pixels.
_GAP = 2
#: Delay in milliseconds from the last change of a setting until the frames are read.
_WAIT_MS = 300


@dataclass(frozen=True, eq=False)
class FrameOverview:
    """The frames of one plane, in the order that was set or found.

    Attributes
    ----------
    frames : SimFrames
    rows : ndarray of shape (angles, rows, columns), uint8
        Thumbnails of the phases, side by side.
    edge : int
        Edge length of a thumbnail in pixels.
    remark : str
        Why the order is uncertain; empty if it is certain.
    are_raw : bool
        Whether the images may be raw frames.
    """

    frames: SimFrames
    rows: npt.NDArray[np.uint8] = field(repr=False)
    edge: int
    remark: str = ""
    are_raw: bool = True


def overview_steps(
    volume: Volume, config: FramesConfig
) -> Generator[Step, None, FrameOverview]:
    """Read the frames of the middle slice, and draw their brightest region.

    Raises
    ------
    GeoSRError
        If the volume cannot contain such frames.
    """
    yield StageStarted(message="Reading the frames")
    frames = frames_of(volume, config)
    block = np.nan_to_num(frames.frames(frames.n_planes // 2))
    yield StageStarted(message="Drawing the frames")
    edge = min(_EDGE, _ROW // frames.phases - _GAP, *frames.plane_shape)
    place = brightest_part(block.mean(axis=(0, 1)), edge)
    rows = thumbnails(block[(..., *place)])
    remark = order_remark(frames, config)
    are_raw = not remark or difference_growth(frames) <= largest_growth(frames)
    return FrameOverview(frames, rows, edge, remark, are_raw)


def thumbnails(part: FloatArray) -> npt.NDArray[np.uint8]:
    """Draw rows of thumbnails with the same contrast, so that bleaching is visible.

    Parameters
    ----------
    part : ndarray of shape (angles, phases, Y, X)

    Returns
    -------
    ndarray of shape (angles, Y, phases · (X + gap) - gap), uint8
    """
    low, high = (float(v) for v in np.percentile(part, (1, 99.8)))
    scaled = np.clip((part - low) / max(high - low, 1e-20), 0, 1)
    padded = np.pad(255 * scaled, ((0, 0), (0, 0), (0, 0), (0, _GAP)))
    angles, phases, height, width = padded.shape
    rows = padded.transpose(0, 2, 1, 3).reshape(angles, height, phases * width)
    return np.ascontiguousarray(rows[..., :-_GAP].astype(np.uint8))


class OrderStrip(QWidget):
    """Thumbnails of all frames, drawn in a worker when the layer or settings change.

    Signals
    -------
    drawn
        The overview has changed; see `overview`.
    frame_chosen : (int, int)
        Angle and phase of the thumbnail that was clicked, from 0.
    """

    drawn = Signal()
    frame_chosen = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.overview: FrameOverview | None = None
        self._wanted: tuple[Volume, FramesConfig] | None = None
        self._task: BackgroundTask | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WAIT_MS)
        self._timer.timeout.connect(self._read)
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(_GAP)
        self._grid.setColumnStretch(2, 1)
        self.remark = text_label(
            "Remark about the order",
            "Why the order of the frames is uncertain.",
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(self._grid)
        column.addWidget(self.remark)
        self.setVisible(False)

    @property
    def shows_raw_frames(self) -> bool:
        """Whether the images shown may be raw frames."""
        return self.overview is not None and self.overview.are_raw

    def look(self, volume: Volume | None, config: FramesConfig | None) -> None:
        """Draw the frames of a volume after a short delay; None clears the strip."""
        if volume is None or config is None:
            self._wanted = None
            self._show(None)
            return
        self._wanted = volume, config
        self._timer.start()

    def _read(self) -> None:
        if self._task is not None or self._wanted is None:
            return
        volume, config = wanted = self._wanted
        self._task = BackgroundTask(
            lambda _stop: overview_steps(volume, config),
            owner=self,
            on_result=lambda found: self._show(found, wanted),
            # The search for patterns reports invalid frames and settings.
            on_error=lambda error: self._on_error(error, wanted),
            on_finished=lambda: self._on_finished(wanted),
        )

    def _on_error(self, error: Exception, wanted: object) -> None:
        self._show(None, wanted)
        if isinstance(error, EngineError):
            raise error

    def _on_finished(self, wanted: object) -> None:
        self._task = None
        if self._wanted is not None and self._wanted is not wanted:
            self._read()

    def _show(self, overview: FrameOverview | None, wanted: object = None) -> None:
        if self._wanted is not wanted:
            return  # the layer or a setting has changed in the meantime
        self.overview = overview
        while item := self._grid.takeAt(0):
            if widget := item.widget():
                widget.deleteLater()
        for angle, row in enumerate(() if overview is None else overview.rows):
            label = QLabel(f"Angle {angle + 1}")
            label.setAccessibleName(f"Row of angle {angle + 1}")
            label.setToolTip(
                "In each row, the stripes must have the same direction and shift from "
                "frame to frame."
            )
            self._grid.addWidget(label, angle, 0)
            self._grid.addWidget(self._row(angle, row, overview), angle, 1)
        self.show_remark("" if overview is None else overview.remark)
        self.setVisible(overview is not None)
        self.drawn.emit()

    def show_remark(self, text: str) -> None:
        """Show a remark on the uncertain order; an empty text hides the remark."""
        self.remark.setText(text)
        self.remark.setVisible(bool(text))

    def _row(
        self,
        angle: int,
        pixels: npt.NDArray[np.uint8],
        overview: FrameOverview | None,
    ) -> ThumbnailRow:
        assert overview is not None, "rows are drawn from an overview"
        row = ThumbnailRow(angle, pixels, overview)
        row.chosen.connect(self.frame_chosen)
        return row


class ThumbnailRow(QLabel):
    """The frames of one angle; a click chooses a frame.

    Signals
    -------
    chosen : (int, int)
        Angle and phase, from 0.
    """

    chosen = Signal(int, int)

    def __init__(
        self, angle: int, pixels: npt.NDArray[np.uint8], overview: FrameOverview
    ) -> None:
        super().__init__()
        self._angle, self._frames = angle, overview.frames
        self._step = overview.edge + _GAP
        height, width = pixels.shape
        image = QImage(
            pixels.tobytes(), width, height, width, QImage.Format.Format_Grayscale8
        )
        self.setPixmap(QPixmap.fromImage(image.copy()))
        self.setAccessibleName(f"Frames of angle {angle + 1}")
        self.setToolTip("Click a frame to show it.")
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def phase_at(self, place: QPoint) -> int:
        """Return the phase of the thumbnail at a position in pixels, from 0."""
        return int(np.clip(place.x() // self._step, 0, self._frames.phases - 1))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Choose the frame under the mouse."""
        if event is not None:
            self.chosen.emit(self._angle, self.phase_at(event.pos()))

    def event(self, event: QEvent | None) -> bool:
        """Name the frame under the mouse in a tool tip."""
        if isinstance(event, QHelpEvent):
            phase = self.phase_at(event.pos())
            plane = self._frames.n_planes // 2
            number = self._frames.index(self._angle, phase, plane) + 1
            QToolTip.showText(
                event.globalPos(),
                f"Angle {self._angle + 1}, phase {phase + 1}: frame {number} of the "
                "stack. Click to show it.",
                self,
            )
            return True
        return bool(super().event(event))
