"""The choice of a model, and messages about unavailable models."""

from __future__ import annotations

from napari_geosr.gui.models.box import ModelBox
from napari_geosr.models import zoo


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
