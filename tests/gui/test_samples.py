"""Samples are opened by napari, and made while the window is still redrawn."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from event_loop import Turns

from napari_geosr.core.errors import FileError
from napari_geosr.gui import samples
from napari_geosr.gui.layers import METADATA
from napari_geosr.gui.layers.projections import PROJECTIONS, SINOGRAM
from napari_geosr.operations import simulate as simulation
from napari_geosr.physics.specimens import samples as physics


def test_the_window_goes_on_while_a_sample_is_made(qapp, monkeypatch):
    threads = []
    make = physics.noisy_foam

    def slowly():
        threads.append(threading.current_thread())
        time.sleep(0.5)
        return make((4, 32, 32))

    monkeypatch.setattr(physics, "noisy_foam", slowly)
    with Turns() as turns:
        clean, noisy = samples.noisy_foam()
    assert threads[0] is not threading.main_thread()
    assert turns.count > 20
    assert noisy[1]["name"] == "noisy foam"
    assert not clean[1]["visible"]
    expected = make((4, 32, 32))[0].data
    np.testing.assert_array_equal(noisy[0], expected)


def test_an_error_arrives(qapp, monkeypatch):
    def fail():
        raise ValueError("broken")

    monkeypatch.setattr(physics, "resolution_pair", fail)
    with pytest.raises(ValueError, match="broken"):
        samples.resolution_pair()


@pytest.mark.parametrize("name", ["noisy_foam", "resolution_pair"])
def test_napari_opens_samples(viewer, name):
    viewer.open_sample("napari-geosr", name)
    assert len(viewer.layers) == 2
    assert viewer.layers[1].visible
    assert not viewer.layers[0].visible
    assert str(viewer.layers[1].units[0]) == "micrometer"


def test_few_projections_are_simulated_once(viewer, monkeypatch, tmp_path):
    made = []
    simulate = simulation.simulate_steps

    def counted(*args, **settings):
        made.append(args)
        return simulate(*args, **settings)

    monkeypatch.setattr(simulation, "simulate_steps", counted)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _name: tmp_path)
    monkeypatch.setattr(samples, "_SLICE_EDGE", 32)
    monkeypatch.setattr(samples, "_N_SLICES", 4)
    for _ in range(2):
        viewer.open_sample("napari-geosr", "few_projections")
    assert len(made) == 1
    truth, *views = list(viewer.layers)[:3]
    assert truth.name == "foam, ground truth"
    assert not truth.visible
    assert truth.data.shape == (4, 32, 32)
    assert [view.metadata[METADATA]["view"] for view in views] == [
        SINOGRAM,
        PROJECTIONS,
    ]
    scan = views[0].metadata[METADATA]["scan"].scan
    assert scan.n_angles == 40
    assert [str(unit) for unit in truth.units] == ["micrometer"] * 3
    # Only complete files are kept.
    assert len(list(tmp_path.rglob("*"))) == 4


def test_a_full_disk_is_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "samples").write_text("in the way")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _name: tmp_path)
    with pytest.raises(FileError, match=r"cannot be written to .*samples"):
        samples.few_projections()
