"""The choice of a model, and messages about unavailable models."""

from __future__ import annotations

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
    box.set_ranking(Ranking(rows, "ct-denoise", "", Noise(10.0, 100.0)))
    assert (box.model(), slider.value()) == ("ct-denoise", 0.8)
    assert slider.value_label.text() == "0.80"
    box.set_model("foam-denoise")
    assert slider.value() == 1.0
    slider.slider.setValue(slider.slider.maximum())  # a strength chosen by the user
    box.set_model("ct-denoise")
    assert slider.value() == 2.0
