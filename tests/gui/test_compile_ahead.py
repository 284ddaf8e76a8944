"""Everything a slice needs is loaded before the user requests it, without a freeze."""

from __future__ import annotations

import gc
import weakref

import pytest
from tomography_helpers import idle, opened, scan_file

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import run_to_end
from napari_geosr.gui.kit.warm_up import garbage_collection_paused
from napari_geosr.gui.reconstruct import compile_ahead
from napari_geosr.gui.reconstruct.compile_ahead import compile_steps, is_ready
from napari_geosr.operations.reconstruct.config import ReconstructConfig


@pytest.fixture
def nothing_ready(monkeypatch):
    monkeypatch.setattr(compile_ahead, "_ready", set())


class Ring:
    """Refers to itself, so that only the garbage collector can delete it."""

    def __init__(self):
        self.me = self


def test_the_collector_rests_and_loses_nothing():
    assert gc.isenabled()
    with garbage_collection_paused():
        gone = weakref.ref(Ring())
        with garbage_collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert gone() is None
    with pytest.raises(ValueError, match="broken"), garbage_collection_paused():
        raise ValueError("broken")
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("algorithm", "beam"), [("fbp", "parallel"), ("cgls", "fan"), ("fdk", "cone")]
)
def test_a_few_voxels_are_reconstructed_once(nothing_ready, algorithm, beam):
    config = ReconstructConfig.create(algorithm=algorithm, filter=None)
    assert not is_ready(config, beam)
    steps = list(compile_steps(config, beam, lambda: False))
    assert len(steps) == 1
    assert is_ready(config, beam)
    # It raises nothing.
    compile_ahead._reconstruct_tiny_scan(config, beam, lambda: False)
    assert not is_ready(config, "helix")
    assert not list(compile_steps(config, beam, lambda: False))


def test_it_stops_when_asked_to(nothing_ready):
    config = ReconstructConfig()
    with pytest.raises(Cancelled):
        run_to_end(compile_steps(config, "parallel", lambda: True))
    assert not is_ready(config, "parallel")
    assert gc.isenabled()


def test_the_dock_does_it_at_leisure(
    nothing_ready, make_napari_viewer, qtbot, tmp_path
):
    viewer = make_napari_viewer(show=True)
    dock = opened(viewer)
    idle(dock, qtbot)
    assert not is_ready(dock.config(), "parallel")  # there is nothing to reconstruct
    viewer.open(str(scan_file(tmp_path)), plugin="napari-geosr")
    qtbot.waitUntil(lambda: is_ready(dock.config(), "parallel"), timeout=60_000)
    assert not dock.cancel_button.isEnabled()
    assert not dock.progress.isVisible()
    dock.algorithm.combo.setCurrentIndex(dock.algorithm.combo.findData("sirt"))
    assert not is_ready(dock.config(), "parallel")
    qtbot.waitUntil(lambda: is_ready(dock.config(), "parallel"), timeout=60_000)
    idle(dock, qtbot)
    assert dock.message.text == ""
