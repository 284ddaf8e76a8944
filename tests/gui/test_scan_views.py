"""Views of scans in files are exact when requested, and drawn without waiting."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from event_loop import Turns
from napari.layers import Image

from napari_geosr.core.errors import FileError
from napari_geosr.gui.layers import planes as _planes
from napari_geosr.gui.layers import scan_views as _scan_views
from napari_geosr.gui.layers.planes import Frames, Sinograms
from napari_geosr.gui.layers.scan_views import ScanView, read_scans_in_threads

SHAPE = 7, 5, 6


class InFile:
    """Projections that are read on request, and whose reading can be delayed."""

    shape, dtype = SHAPE, np.dtype(np.uint16)

    def __init__(self, frames, chunks=None):
        self.frames = frames
        self.go, self.fails = threading.Event(), False
        self.go.set()
        self.asked, self.threads = [], set()
        if chunks:
            self.chunks = chunks

    def __getitem__(self, key):
        self.asked.append(key)
        self.threads.add(threading.current_thread())
        assert self.go.wait(20)
        if self.fails:
            raise FileError("The disk is gone.")
        return self.frames[key]


@pytest.fixture
def frames(rng):
    return rng.integers(1, 1000, SHAPE).astype(np.uint16)


@pytest.mark.parametrize("kind", [Frames, Sinograms])
def test_what_is_asked_for_is_read_whole(frames, kind):
    held = InFile(frames)
    view = ScanView(kind(held))
    whole = frames[:, None] if kind is Frames else frames.swapaxes(0, 1)[None]
    assert view.shape == whole.shape
    assert (view.ndim, view.size, len(view)) == (4, frames.size, whole.shape[0])
    for key in (
        (0, 0),
        -1,
        (slice(None), -1, slice(1, 4)),
        (slice(None), slice(None), 2),
        (..., 5),
        (slice(None), 0, slice(0, 7, 2)),
    ):
        np.testing.assert_array_equal(view[key], whole[key])
    np.testing.assert_array_equal(np.asarray(view), whole)


def test_rows_that_are_decoded_together_are_kept(frames, monkeypatch):
    held = InFile(frames, chunks=(2, 2, 6))
    planes = Sinograms(held)
    view = ScanView(planes)
    np.testing.assert_array_equal(view[0, 2], frames[:, 2])
    assert all(key[1] == slice(2, 4) for key in held.asked)
    read = len(held.asked)
    np.testing.assert_array_equal(view[0, 3], frames[:, 3])
    assert len(held.asked) == read
    # As many as fit into the cache, including the requested one.
    monkeypatch.setattr(_planes, "_CACHE_BYTES", frames[:, 0].nbytes)
    np.testing.assert_array_equal(view[0, 4], frames[:, 4])
    assert [row for row in range(5) if planes.get(row) is not None] == [4]
    monkeypatch.setattr(_planes, "_READ_BYTES", 1)
    np.testing.assert_array_equal(view[0, 1], frames[:, 1])
    assert [key[0].stop - key[0].start for key in held.asked[-4:]] == [2, 2, 2, 1]


@pytest.fixture
def shown(make_napari_viewer, frames):
    """A viewer that shows sinograms in a file, and the file."""
    viewer = make_napari_viewer(show=True)
    held = InFile(frames)
    read_scans_in_threads(viewer)
    viewer.add_image(ScanView(Sinograms(held)), contrast_limits=(1, 1000))
    assert viewer.dims.nsteps == (1, *frames.swapaxes(0, 1).shape)
    held.asked.clear()
    held.threads.clear()
    return viewer, held


def drawn(viewer):
    return viewer.layers[0]._slice.image.raw


def test_a_slow_row_is_drawn_when_it_is_there(shown, frames, qtbot):
    viewer, held = shown
    held.go.clear()
    viewer.dims.set_point(1, 4)
    assert (drawn(viewer) == 1).all()  # blank: the lower end of the contrast
    with Turns() as turns:
        qtbot.waitUntil(lambda: turns.count > 1)
    held.go.set()
    qtbot.waitUntil(lambda: np.array_equal(drawn(viewer), frames[:, 4]), timeout=10_000)
    assert threading.main_thread() not in held.threads
    # An explicit request returns the data.
    np.testing.assert_array_equal(viewer.layers[0].data[0, 1], frames[:, 1])
    assert threading.main_thread() in held.threads


def test_a_quick_row_is_drawn_at_once(shown, frames, monkeypatch):
    viewer, held = shown
    monkeypatch.setattr(_scan_views, "_DRAW_WAIT", 20.0)  # even on the slowest machine
    viewer.dims.set_point(1, 3)
    np.testing.assert_array_equal(drawn(viewer), frames[:, 3])
    assert threading.main_thread() not in held.threads


def test_the_latest_of_many_rows_is_read(shown, frames, qtbot):
    viewer, held = shown
    held.go.clear()
    for row in (0, 1, 3, 4):
        viewer.dims.set_point(1, row)
    held.go.set()
    qtbot.waitUntil(lambda: np.array_equal(drawn(viewer), frames[:, 4]), timeout=10_000)
    rows = [key[1].start for key in held.asked]
    assert rows[-1] == 4
    assert len(set(rows)) == 2


def test_a_row_that_cannot_be_read_is_said_once(shown, qtbot, monkeypatch):
    viewer, held = shown
    said = []
    monkeypatch.setattr(_scan_views, "show_error", said.append)
    held.fails = True
    viewer.dims.set_point(1, 4)
    qtbot.waitUntil(lambda: len(said) == 1, timeout=10_000)
    viewer.layers[0].refresh()
    assert (drawn(viewer) == 1).all()
    assert str(said[0]) == "The disk is gone."
    held.fails = False
    viewer.dims.set_point(1, 0)
    qtbot.waitUntil(lambda: drawn(viewer).max() > 1, timeout=10_000)
    assert len(said) == 1


def begin(held):
    """Start reading a row of a layer, and drop all references."""
    view = ScanView(Sinograms(held))
    layer = Image(view, contrast_limits=(1, 1000))
    view.read_in_thread(layer)
    held.go.clear()
    with layer._slicing_state.dask_optimized_slicing():
        blank = view[0, 2]
    assert blank.max() == 1
    (reading,) = view._reader._readings
    return reading, weakref.ref(view)


def test_a_view_that_goes_stops_reading(qtbot, frames):
    held = InFile(frames)
    reading, gone = begin(held)
    gc.collect()
    assert gone() is None
    assert reading.stop.is_set()
    held.go.set()
    reading.join(10)
    assert not reading.is_alive()
