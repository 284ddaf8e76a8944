"""The models at hand, as docks and commands see them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_geosr.core.errors import ModelError
from napari_geosr.models import zoo
from napari_geosr.networks import light_sr
from napari_geosr.operations import catalogue


def test_verify_runs_the_network(monkeypatch):
    """A network that reaches further than it and its card say leaves seams."""

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


def test_damaged_bundles_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "user_folder", lambda: tmp_path)
    (tmp_path / "broken.zip").write_text("no zip")
    assert list(catalogue.damaged()) == [str(tmp_path / "broken.zip")]
    assert len(catalogue.list_models()) >= 2
