"""Docks work on what the user sees: they choose no hidden layer if one is visible."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from opening import PLUGIN, opened

from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.pairs.layers import finest_image, scans_for_a_pair


def chosen(dock, field: str) -> str:
    layer = getattr(dock, field).layer()
    return "" if layer is None else str(layer.name)


@pytest.fixture
def combo(qtbot) -> LayerCombo:
    model = ViewerModel()
    made = LayerCombo(model, lambda layer: isinstance(layer, Image))
    qtbot.addWidget(made)
    made.model_of_viewer = model
    return made


def add(combo: LayerCombo, name: str, *, visible: bool = True) -> Image:
    data = np.zeros((4, 4))
    return combo.model_of_viewer.add_image(data, name=name, visible=visible)


@pytest.mark.parametrize(
    ("name", "field"),
    [("Restore", "layer_combo"), ("Segment", "scan"), ("SIM", "combo")],
)
def test_an_open_dock_chooses_the_visible_layer_of_a_sample(viewer, qtbot, name, field):
    dock = opened(viewer, name)
    viewer.open_sample(PLUGIN, "noisy_foam")
    assert [layer.visible for layer in viewer.layers] == [False, True]
    qtbot.waitUntil(lambda: chosen(dock, field) == viewer.layers[1].name)


def test_the_porosity_dock_measures_the_visible_layer_of_a_sample(viewer, qtbot):
    dock = opened(viewer, "Porosity")
    viewer.open_sample(PLUGIN, "noisy_foam")
    qtbot.waitUntil(lambda: chosen(dock.settings, "image") == viewer.layers[1].name)


def test_a_row_for_training_data_takes_the_visible_layer(viewer, qtbot):
    dock = opened(viewer, "Train")
    data = np.random.default_rng(0).random((8, 32, 32)).astype(np.float32)
    rows = list(dock._rows.values())
    viewer.add_image(data, name="truth", visible=False)
    qtbot.waitUntil(lambda: rows[0].first_name() == "truth")  # there is no other
    viewer.add_image(data, name="scan")
    qtbot.waitUntil(lambda: rows[0].first_name() == "scan")
    assert rows[1].first_name() == "truth"


def test_a_pair_is_built_from_visible_scans_if_possible():
    model = ViewerModel()

    def scan(name: str, size: float, *, visible: bool = True) -> Image:
        data, place = np.zeros((4, 4, 4)), {"scale": (size,) * 3, "units": "um"}
        return model.add_image(data, name=name, visible=visible, **place)

    low, truth = scan("low", 4), scan("truth", 1, visible=False)
    assert scans_for_a_pair(model) == [low, truth]
    assert finest_image(model) is low
    high = scan("high", 2)
    assert scans_for_a_pair(model) == [low, high]
    assert finest_image(model) is high


def test_a_hidden_layer_is_chosen_only_for_want_of_a_visible_one(combo):
    hidden = add(combo, "hidden", visible=False)
    assert combo.layer() is hidden
    seen = add(combo, "seen")
    assert combo.layer() is seen
    add(combo, "another")
    assert combo.layer() is seen


def test_a_selected_layer_that_is_hidden_is_not_proposed(qtbot):
    model = ViewerModel()
    seen = model.add_image(np.zeros((4, 4)), name="seen")
    hidden = model.add_image(np.zeros((4, 4)), name="hidden", visible=False)
    assert model.layers.selection.active is hidden
    made = LayerCombo(model, lambda _layer: True)
    qtbot.addWidget(made)
    assert made.layer() is seen


def test_what_the_user_chose_or_hid_is_kept(combo):
    hidden = add(combo, "hidden", visible=False)
    combo.activated.emit(0)  # the user chooses it
    add(combo, "seen")
    assert combo.layer() is hidden
    seen = combo.model_of_viewer.layers["seen"]
    combo.set_layer(seen)
    seen.visible = False  # such as to compare other layers
    add(combo, "another")
    assert combo.layer() is seen


def test_a_hidden_layer_that_was_shown_is_kept(combo):
    layer = add(combo, "first", visible=False)
    layer.visible = True
    add(combo, "second")
    assert combo.layer() is layer
