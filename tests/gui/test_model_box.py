"""The choice of a model, and messages about unavailable models."""

from __future__ import annotations

import pytest

from napari_geosr.core.noise import Noise
from napari_geosr.gui.models.box import ModelBox
from napari_geosr.gui.restore.choices import StrengthSlider
from napari_geosr.models import zoo
from napari_geosr.operations.restore.ranking import Ranking, RankingEntry


def test_damaged_models_are_shown_but_cannot_be_chosen(qtbot, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "user_folder", lambda: tmp_path)
    (tmp_path / "mine.zip").write_text("no zip")
    box = ModelBox()
    qtbot.addWidget(box)
    index = box.combo.findText("mine.zip – damaged")
    item = box.combo.model().item(index)
    assert not item.isEnabled()
    assert "not a readable zip" in item.toolTip()
    assert box.model() == "ct-denoise"
    box.set_volume(None)
    assert box.model() == "ct-denoise"
    assert box.combo.count() == len(zoo.list_models()) + 1


def test_the_strength_of_the_ranking_is_proposed(qtbot):
    box, slider = ModelBox(), StrengthSlider()
    qtbot.addWidget(box)
    qtbot.addWidget(slider)
    box.strengthProposed.connect(slider.propose)
    slider.set_card(box.card())
    rows = tuple(
        RankingEntry(name, "", 1.0, gain, (1.0, 9.0), model=zoo.find(name), **more)
        for name, gain, more in (
            ("ct-denoise", 8.0, {"run_strength": 0.8}),
            ("foam-denoise", 7.0, {}),
        )
    )
    ranking = Ranking(rows, "ct-denoise", "", Noise(10.0, 100.0))
    box.set_ranking(ranking)
    assert (box.model(), slider.value()) == ("ct-denoise", 0.8)
    assert slider.value_label.text() == "0.80 (proposed)"
    assert "at strength 1" in slider.value_label.toolTip()
    assert "+8.0 dB at 0.8" in box.combo.currentText()
    for name in ("foam-denoise", "ct-denoise"):  # the user's own choice
        box.set_model(name)
        assert slider.value() == 1.0
        assert slider.value_label.text() == "1.00"
    box.set_user_choice(False)
    box.set_ranking(ranking)
    assert slider.value() == 0.8
    box.set_volume(None)  # another scan, which has not been ranked yet
    assert slider.value() == 1.0


@pytest.mark.parametrize("value", [1.0, 2.0])
def test_a_strength_chosen_by_the_user_is_kept(qtbot, value):
    slider, changes = StrengthSlider(), []
    qtbot.addWidget(slider)
    slider.set_card(zoo.find("ct-denoise").card)
    slider.propose(0.8)
    slider.slider.setValue(0)
    slider.slider.setValue(round(value * slider.slider.maximum() / 2))
    slider.propose(1.0)  # for another model
    slider.propose(0.8)
    assert slider.value() == value
    assert "proposed" not in slider.value_label.text()
    slider.changed.connect(lambda: changes.append(slider.value()))
    slider.set_user_choice(False)
    assert slider.value() == value  # until there is a proposal
    slider.propose(0.8)
    slider.propose(0.8)
    assert changes == [0.8]
    slider.set_user_choice(True)  # run with it
    assert slider.value_label.text() == "0.80"
    slider.propose(1.0)
    assert slider.value() == 0.8


def test_a_ranking_after_the_run_changes_neither_model_nor_strength(qtbot):
    box, slider = ModelBox(), StrengthSlider()
    qtbot.addWidget(box)
    qtbot.addWidget(slider)
    box.strengthProposed.connect(slider.propose)
    slider.set_card(box.card())
    box.set_user_choice(True)
    row = RankingEntry("ct-denoise", "", 1.0, 8.0, (1.0, 9.0), run_strength=0.8)
    box.set_ranking(Ranking((row,), "ct-denoise", "", Noise(10.0, 100.0)))
    assert slider.value() == 1.0
