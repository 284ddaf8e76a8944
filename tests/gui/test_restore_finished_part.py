"""The Restore dock offers the part that a killed napari has left in the cache."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from opening import opened

from napari_geosr import restore
from napari_geosr.core.steps import StepIterator, TileDone
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.io.unfinished_files.journal import journal_of
from napari_geosr.operations import restore as operation
from napari_geosr.operations import storage

NO_PROCESS = 2**22 + 1  # larger than any process number


def leave_behind(ready) -> int:
    """Leave two tiles as a killed program would; return the total number of tiles."""
    stop: list[int] = []
    steps = operation.run_steps(ready.prepared, should_stop=lambda: len(stop) > 1)
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, TileDone):
                stop += [step.total]
    part = storage.in_cache(iterator.result.volume).temporary
    killed = part.with_name(".result.0000000000000000.partial.zarr")
    shutil.copytree(part, killed)
    entry = json.loads(journal_of(part).read_text())
    entry["pid"], entry["started"] = NO_PROCESS, 1.0
    journal_of(killed).write_text(json.dumps(entry))
    return stop[0]


@pytest.fixture
def dock(viewer, qtbot, rng, monkeypatch):
    monkeypatch.setattr(storage, "free_host_memory", lambda: 1000)
    scan = rng.normal(100, 10, (96, 64, 64)).astype(np.float32)
    viewer.add_image(scan, name="scan", units="um")
    made = opened(viewer)
    made.model_box.set_model("ct-denoise")
    qtbot.waitUntil(lambda: made.activity.is_ready, timeout=60_000)
    assert made.finished_part_row.isHidden()
    made.n_tiles = leave_behind(made.activity._ready)
    made.activity._ready = None
    made.activity.prepare_again()
    qtbot.waitUntil(lambda: not made.finished_part_row.isHidden(), timeout=60_000)
    return made


def test_a_run_of_a_killed_napari_can_be_continued(dock, viewer, qtbot):
    assert "An interrupted run has finished" in dock.finished_part_row.label.text()
    done = []
    dock.activity.progressed.connect(lambda what, n, _: done.append((what, n)))
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000) as finished:
        dock.finished_part_row.resume_button.click()
    layer, restored, _ = finished.args
    assert restored.complete
    tiles = [n for what, n in done if what == "tiles"]
    assert 0 < len(tiles) <= dock.n_tiles - 2
    whole = restore(volume_from_layer(viewer.layers["scan"]), "ct-denoise")
    np.testing.assert_allclose(np.asarray(layer.data), whole.data, atol=1e-4)
    assert dock.finished_part_row.isHidden()


@pytest.mark.slow
def test_a_run_of_a_killed_napari_can_be_discarded(dock, qtbot):
    dock.finished_part_row.discard_button.click()
    assert dock.finished_part_row.isHidden()
    assert storage.find_unfinished_results() == []
    dock.activity._ready = None
    with qtbot.waitSignal(dock.activity.ready, timeout=60_000):
        dock.activity.prepare_again()
    assert dock.finished_part_row.isHidden()


def test_run_begins_anew(dock, qtbot):
    done = []
    dock.activity.progressed.connect(lambda *step: done.append(step))
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000):
        dock.run_button.click()
    # The number of tiles depends on the current speed of the machine.
    tiles = [(n, total) for what, n, total in done if what == "tiles"]
    assert [n for n, _ in tiles] == list(range(1, tiles[-1][1] + 1))
    assert len(storage.find_unfinished_results()) == 1
