"""Trained models are added to the user's own models, and hide no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_geosr.models import bundle, zoo


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(zoo, "user_folder", lambda: tmp_path / "models")
    return tmp_path / "models"


def test_a_namesake_gets_a_number_and_the_same_model_one_copy(folder: Path) -> None:
    source = zoo.bundled_folder() / "foam-denoise"
    kept = zoo.adopt(source)
    assert kept == folder / "foam-denoise-2"
    assert bundle.read_card(kept).name == "foam-denoise-2"
    assert zoo.adopt(source) == kept
    assert [entry.name for entry in zoo.list_models() if not entry.bundled] == [
        "foam-denoise-2"
    ]
    other = zoo.adopt(zoo.bundled_folder() / "foam-sr-x2")
    assert other != kept
    bundle.check_weights(bundle.load(kept))
