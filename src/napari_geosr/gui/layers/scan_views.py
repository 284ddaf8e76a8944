"""Views of projections and sinograms for napari, with an axis for each slider.

Both views have four axes. The first axis indexes the projections, the second axis the
detector rows, aligned with the slices of the reconstruction. Along the axis that does
not affect its data, a view has a single voxel, which spans the full length of the other
view. Therefore the slice slider ends with the last slice, and the angle slider affects
only the projections.

napari reads a layer's slice in the main thread when it draws the slice. For one
sinogram of a compressed file, the whole file must be decoded, which can take minutes.
Here, a thread reads the data, and the picture is blank until they arrive. Data that
arrive within `_DRAW_WAIT` are drawn immediately.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils import progress
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication

from napari_geosr.core.array_parts.indexing import as_slices
from napari_geosr.core.errors import Cancelled, EngineError, GeoSRError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.types import AnyArray, AnyDType
from napari_geosr.gui.kit.lifetime import when_destroyed
from napari_geosr.gui.kit.notify import show_error
from napari_geosr.gui.layers.planes import Planes
from napari_geosr.gui.layers.private_napari import surround_drawing

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils.events import Event

#: Maximum time, in seconds, that drawing waits for a plane.
_DRAW_WAIT = 0.025
#: Delay, in seconds, until a progress bar is shown.
_BAR_DELAY = 0.5
#: Maximum time, in seconds, that a closing application waits for a read in progress.
_QUIT_TIMEOUT = 1.0
#: Milliseconds between checks of whether a plane has been read.
_POLL_MS = 15


class ScanView:
    """A four-axis array that reads the planes of a scan.

    Indexing returns the data in the file, however long that takes. Only what napari
    draws may be blank at first, if `read_in_thread` was called.
    """

    ndim = 4

    def __init__(self, planes: Planes) -> None:
        self.planes = planes
        self.shape = planes.shape
        self.dtype: AnyDType = np.dtype(planes.projections.dtype)
        self._reader: _ScanReader | None = None
        self._is_drawn = False

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self.planes.block(as_slices((), self.shape)[0]), dtype=dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> ScanView:
        return ScanView(self.planes)  # a copied layer is drawn separately

    def __getitem__(self, key: Any) -> AnyArray:
        read, after = as_slices(key, self.shape)
        plane = read[self.planes.along]
        if plane.stop - plane.start == 1:
            whole = self._plane(plane.start)[None, None][:, :, read[2], read[3]]
        else:
            whole = self.planes.block(read)
        block: AnyArray = whole[after]
        return block

    def _plane(self, plane: int) -> AnyArray:
        image = self.planes.get(plane)
        if image is None and self._is_drawn and self._reader is not None:
            image = self._reader.request(plane)
        if image is None:
            image = run_to_end(self.planes.read_steps(plane, lambda: False))
        return image

    def read_in_thread(self, layer: Layer) -> None:
        """Use a thread to read the planes drawn for `layer`, which shows this array."""
        if self._reader is None and not self.planes.are_in_memory:
            self._reader = _ScanReader(self.planes, layer)
            surround_drawing(layer, self._drawing)

    @contextmanager
    def _drawing(self, *_: Any, **__: Any) -> Iterator[None]:
        self._is_drawn = True
        try:
            yield
        finally:
            self._is_drawn = False


def read_scans_in_threads(viewer: ViewerModel | None) -> None:
    """Read scans in threads after they are added to a viewer with a window."""
    if viewer is not None and QApplication.instance() is not None:
        viewer.layers.events.inserted.connect(_on_inserted)


def _on_inserted(event: Event) -> None:
    view = event.value.data
    if isinstance(view, ScanView):
        view.read_in_thread(event.value)


class _Reading(threading.Thread):
    """Reads one plane; does not refer to any widget, so it may outlive the window."""

    def __init__(self, planes: Planes, plane: int) -> None:
        super().__init__(name=f"reading plane {plane}", daemon=True)
        self.planes, self.plane = planes, plane
        self.stop, self.ended = threading.Event(), threading.Event()
        self.done = self.total = 0
        self.error: Exception | None = None

    def run(self) -> None:
        """Read the plane, or record why it cannot be read."""
        try:
            for step in self.planes.read_steps(self.plane, self.stop.is_set):
                self.done, self.total = step.done, step.total
        except GeoSRError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001  # report every error to the user
            self.error = EngineError(
                f"The projections cannot be read ({type(error).__name__}: {error})."
            )
            self.error.__cause__ = error
        finally:
            self.ended.set()


class _ScanReader(QObject):
    """Reads planes for one layer, one at a time; the latest request takes precedence.

    The reader exists as long as the view and holds a weak reference to the layer.
    """

    def __init__(self, planes: Planes, layer: Layer) -> None:
        super().__init__()
        self._planes, self._layer = planes, weakref.ref(layer)
        self._blank_value = float(layer.contrast_limits[0])
        self._readings: list[_Reading] = []  # at most one at a time
        self._requested: int | None = None
        self._failed: set[int] = set()
        self._bar: Any = None
        self._began = 0.0
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._check_reading)
        when_destroyed(self, partial(_stop, self._readings))
        QApplication.instance().aboutToQuit.connect(self._quit)

    def request(self, plane: int) -> AnyArray:
        """Return a plane if it is read within `_DRAW_WAIT`, else a blank one."""
        self._requested = plane
        if not self._readings and plane not in self._failed:
            self._start(plane).ended.wait(_DRAW_WAIT)
        elif self._readings and self._readings[0].plane != plane:
            _stop(self._readings)
        image = self._planes.get(plane)
        if image is not None:
            self._requested = None
            return image
        dtype = np.dtype(self._planes.projections.dtype)
        return np.full(self._planes.shape[2:], self._blank_value, dtype)

    def _start(self, plane: int) -> _Reading:
        reading = _Reading(self._planes, plane)
        self._readings.append(reading)
        self._began = time.monotonic()
        reading.start()
        self._timer.start()
        return reading

    def _check_reading(self) -> None:
        """Draw the plane that was read, or request the plane that is needed now."""
        layer, reading = self._layer(), self._readings[0]
        if not reading.ended.is_set():
            if layer is not None and time.monotonic() > self._began + _BAR_DELAY:
                self._show_bar(layer, reading)
            return
        self._timer.stop()
        self._readings.clear()
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        requested, self._requested = self._requested, None
        if reading.error is not None and not isinstance(reading.error, Cancelled):
            self._failed.add(reading.plane)
            show_error(reading.error)
        if layer is not None and requested not in (None, *self._failed):
            layer.refresh(extent=False)

    def _show_bar(self, layer: Layer, reading: _Reading) -> None:
        if self._bar is None:
            self._bar = progress(total=0, desc=f"Reading {layer.name}")
        if reading.total:
            self._bar.total, self._bar.n = reading.total, reading.done
            self._bar.refresh()

    def _quit(self) -> None:
        """Stop reading; no thread may use an open file when the application ends."""
        _stop(self._readings)
        for reading in self._readings:
            reading.join(_QUIT_TIMEOUT)


def _stop(readings: list[_Reading]) -> None:
    for reading in readings:
        reading.stop.set()
