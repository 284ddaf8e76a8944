"""The available models, as listed in docks and commands."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from napari_geosr.core.errors import ModelError
from napari_geosr.gui.models.box import card_html
from napari_geosr.models import zoo
from napari_geosr.networks import light_sr
from napari_geosr.operations.models import catalogue


def test_verify_runs_the_network(monkeypatch):
    """A network with a larger reach than it and its card state leaves seams."""

    def build(config):
        network = light_sr.LightSR(config)
        network.spec = replace(network.spec, halo=(3, 3, 3))
        return network

    entry = next(e for e in zoo.list_models() if e.name == "foam-sr-x2")
    assert catalogue.verify(entry.path) == entry.card
    monkeypatch.setattr(light_sr, "build", build)
    short = entry.card.model_copy(update={"halo": 3})
    monkeypatch.setattr("napari_geosr.models.bundle.read_card", lambda path: short)
    with pytest.raises(ModelError, match="halo of 3"):
        catalogue.verify(entry.path)


@pytest.fixture
def copied(tmp_path):
    """A user's bundle: a copy of ``foam-denoise``."""
    entry = next(e for e in zoo.list_models() if e.name == "foam-denoise")
    return Path(shutil.copytree(entry.path, tmp_path / "copied"))


def relabel(folder, **changes):
    card = folder / "card.yaml"
    values = yaml.safe_load(card.read_text(encoding="utf-8"))
    card.write_text(yaml.safe_dump(values | changes), encoding="utf-8")


def complaints(folder):
    """Results of reading the card and of checking the entire bundle."""
    said = []
    for look in (catalogue.checked_card, catalogue.verify):
        with pytest.raises(ModelError) as complaint:
            look(folder)
        said.append(str(complaint.value))
    return said


def test_the_card_of_a_whole_bundle(copied):
    assert catalogue.checked_card(copied) == catalogue.verify(copied)


@pytest.mark.parametrize("honest", [False, True], ids=["as it was", "new checksum"])
def test_truncated_weights_are_no_model(copied, honest):
    weights = copied / "weights.safetensors"
    content = weights.read_bytes()[:-1000]
    weights.write_bytes(content)
    if honest:
        relabel(copied, weights_sha256=hashlib.sha256(content).hexdigest())
    show, verify = complaints(copied)
    assert ("not a safetensors file" if honest else "checksum") in show
    if not honest:  # the two parsers word it differently
        assert show == verify


def test_weights_of_another_model(copied):
    other = catalogue.find("foam-sr-x2")
    shutil.copy(other.path / "weights.safetensors", copied)
    show, verify = complaints(copied)
    assert "checksum" in show
    assert show == verify
    relabel(copied, weights_sha256=other.card.weights_sha256)
    show, verify = complaints(copied)
    assert "belong to different models" in show
    assert show == verify


def test_damaged_bundles_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "user_folder", lambda: tmp_path)
    (tmp_path / "broken.zip").write_text("no zip")
    assert list(catalogue.damaged()) == [str(tmp_path / "broken.zip")]
    assert len(catalogue.list_models()) >= 2


def test_an_error_that_rounds_to_zero_has_no_sign():
    entry = next(e for e in zoo.list_models() if e.name == "foam-denoise")
    row = entry.card.figures[0].model_copy(
        update={"method": "mine", "porosity_error": -0.0002, "euler_error": -0.004}
    )
    other = row.model_copy(update={"porosity_error": -0.221})
    card = entry.card.model_copy(update={"figures": (row, other)})
    for text in (catalogue.card_text(card), card_html(card)):
        assert "0.0 %" in text
        assert "-0.0" not in text
        assert "\N{MINUS SIGN}0.0" not in text
        assert "\N{MINUS SIGN}22.1 %" in text
