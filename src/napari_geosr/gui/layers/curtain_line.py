"""The draggable line in the canvas between the two compared images."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QPoint, QRect, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QRegion
from qtpy.QtWidgets import QMainWindow, QWidget

#: Half the width of the strip in which the mouse grabs the line, in pixels.
_GRAB_REACH = 6
#: Radius of the handle, in pixels.
_HANDLE_RADIUS = 9
#: Padding of a label, in pixels.
_LABEL_PADDING = 6
#: Gap between label and line, in pixels.
_LABEL_GAP = 8
#: Margin above the label, in pixels.
_LABEL_MARGIN = 10
#: Colour of line, handle and text.
_WHITE = QColor(255, 255, 255)
#: Colour behind line, handle and text, for contrast with bright images.
_SHADE = QColor(0, 0, 0, 170)


def canvas_of(widget: QWidget) -> QWidget | None:
    """Return the canvas of a dock widget's window; None outside a window."""
    window: QWidget | None = widget
    while window is not None and not isinstance(window, QMainWindow):
        window = window.parentWidget()
    if window is None or window.centralWidget() is None:
        return None
    inner = window.centralWidget().findChildren(QWidget)
    return next((each for each in inner if each.inherits("QOpenGLWidget")), None)


class CurtainLine(QWidget):
    """A vertical line over the canvas, labelled on both sides.

    Parameters
    ----------
    canvas : QWidget
        Parent of the line.
    before, after : str
        Labels to the left and right of the line.

    Signals
    -------
    dragged : float
        Position of the line in pixels from the left edge of the canvas.
    resized
        The canvas was resized.
    """

    dragged = Signal(float)
    resized = Signal()

    def __init__(self, canvas: QWidget, before: str, after: str) -> None:
        super().__init__(canvas)
        self._canvas, self._labels = canvas, (before, after)
        self.setCursor(Qt.CursorShape.SplitHCursor)
        self.setAccessibleName("Divider between the two images")
        self.setToolTip("Drag to move the divider between the two images.")
        canvas.installEventFilter(self)
        self._arrange()
        self.raise_()  # only once, so that later notifications appear above the line
        self.hide()

    @property
    def position(self) -> float:
        """Position of the line in pixels from the left edge of the canvas."""
        return float(self.x() + self.width() // 2)

    def move_to(self, x: float) -> None:
        """Move the line to `x` pixels from the left edge of the canvas."""
        if self.height() != self._canvas.height():
            self._arrange()
        self.move(round(x) - self.width() // 2, 0)
        self.show()

    def _arrange(self) -> None:
        """Span the canvas's height; mask all but the line, handle and labels."""
        boxes = [self.fontMetrics().boundingRect(text) for text in self._labels]
        widest = max(box.width() for box in boxes) + 2 * _LABEL_PADDING
        half, height = widest + _LABEL_GAP + 1, self._canvas.height()
        self.resize(2 * half + 1, height)
        self._label_boxes = []
        for box, side in zip(boxes, (-1, 1), strict=True):
            width = box.width() + 2 * _LABEL_PADDING
            left = half - _LABEL_GAP - width if side < 0 else half + _LABEL_GAP
            self._label_boxes.append(
                QRect(left, _LABEL_MARGIN, width, box.height() + _LABEL_PADDING)
            )
        region = QRegion(half - _GRAB_REACH, 0, 2 * _GRAB_REACH + 1, height)
        region += QRegion(self._handle_box())
        for rectangle in self._label_boxes:
            region += QRegion(rectangle)
        self.setMask(region)

    def _handle_box(self) -> QRect:
        middle = QPoint(self.width() // 2, self.height() // 2)
        size = 2 * _HANDLE_RADIUS + 2
        return QRect(
            middle.x() - _HANDLE_RADIUS - 1, middle.y() - _HANDLE_RADIUS - 1, size, size
        )

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the line in white on a dark shade, so that it shows on any image."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        x = self.width() // 2
        for pen in (QPen(_SHADE, 4), QPen(_WHITE, 2)):
            painter.setPen(pen)
            painter.drawLine(x, 0, x, self.height())
        painter.setPen(QPen(_SHADE, 1))
        painter.setBrush(_WHITE)
        painter.drawEllipse(self._handle_box().adjusted(1, 1, -1, -1))
        painter.setPen(QPen(QColor(60, 60, 60), 1.6))
        middle = self.height() // 2
        for side in (-1, 1):
            tip = QPoint(x + side * 6, middle)
            painter.drawLine(tip, QPoint(x + side * 3, middle - 3))
            painter.drawLine(tip, QPoint(x + side * 3, middle + 3))
        for text, box in zip(self._labels, self._label_boxes, strict=True):
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(_SHADE)
            painter.drawRoundedRect(box, 4, 4)
            painter.setPen(_WHITE)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Grab the line; the canvas below does not pan while it is dragged."""
        event.accept()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Follow the mouse, within the canvas."""
        place = self.mapToParent(event.position().toPoint()).x()
        self.dragged.emit(float(min(max(place, 0), self._canvas.width())))
        event.accept()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Emit `resized` when the canvas has been resized."""
        if event.type() == QEvent.Type.Resize:
            self.resized.emit()
        return bool(super().eventFilter(watched, event))
