"""The Train dock shows which time point of a series is used for training."""

from __future__ import annotations

import numpy as np
from train_helpers import TRAIN, opened

from napari_geosr.gui.train import scenarios


def test_the_time_point_is_said_and_is_the_one_taken(viewer, qtbot, rng):
    series = viewer.add_image(
        rng.random((5, 4, 16, 16)), name="series", axis_labels=("t", "z", "y", "x")
    )
    plain = viewer.add_image(rng.random((4, 16, 16)), name="plain")
    dock = opened(viewer, TRAIN)
    assert dock.method.currentText() == "noise2noise"
    source, target = dock._rows.values()
    # The selected layer comes first.
    assert (source.layer(), target.layer()) == (plain, series)
    source.combo.set_layer(series)
    target.combo.set_layer(plain)
    viewer.dims.set_point(0, 3)
    said = "Only time point 3 (of 0 … 4) of 'series' is used, as shown in the viewer."
    assert source.part.text() == said
    assert not source.part.isHidden()
    assert target.part.isHidden()
    (taken,) = source.parts()
    np.testing.assert_array_equal(taken.data, series.data[3])
    viewer.dims.set_point(0, 1)
    assert "time point 1" in source.part.text()
    source.combo.set_layer(plain)
    assert source.part.isHidden()


def test_so_it_is_of_all_layers_selected(viewer, rng):
    labels = ("t", "c", "z", "y", "x")
    first, second = (
        viewer.add_image(rng.random((1, 2, 4, 8, 8)), name=name, axis_labels=labels)
        for name in ("first", "second")
    )
    dock = opened(viewer, TRAIN)
    dock.have.setCurrentIndex(
        scenarios.find(scenarios.training_scenarios(), "noise2inverse")
    )
    row = dock._rows["source"]
    viewer.layers.selection = {first, second}
    text = row.part.text()
    assert "of 'first' is used" in text
    assert "of 'second' is used" in text
    assert "time point" not in text
    viewer.layers.selection = {second}
    assert "first" not in row.part.text()
