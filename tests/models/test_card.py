from __future__ import annotations

import pytest
import yaml

from napari_geosr.core.errors import ConfigError
from napari_geosr.models import zoo
from napari_geosr.models.bundle import read_card
from napari_geosr.models.card import FigureRow, ModelCard

from .conftest import card_values


def test_round_trip_through_yaml() -> None:
    row = FigureRow(test_set="foam", method="model", psnr=20.0, dice=0.9)
    card = ModelCard.create(**card_values(figures=[row.model_dump()]))
    again = ModelCard.from_values(yaml.safe_load(card.to_yaml()))
    assert again == card
    assert again.figures[0].psnr == 20.0
    assert again.figures[0].euler_error is None


@pytest.mark.parametrize("values", [None, [], "card", 3])
def test_not_a_mapping(values: object) -> None:
    with pytest.raises(ConfigError, match="mapping"):
        ModelCard.from_values(values)


def test_future_card_is_refused_before_its_fields() -> None:
    with pytest.raises(ConfigError, match=r"schema version 2.*install"):
        ModelCard.from_values({"schema_version": 2, "new_field": 1})


@pytest.mark.parametrize(
    "changes",
    [
        {"upscale_factor": 0},
        {"halo": -1},
        {"task": "segment"},
        {"unknown": 1},
        {"name": "Bad Name"},
        {"mixed_precision_error": -1},
    ],
)
def test_bad_fields_are_named(changes: dict) -> None:
    field = next(iter(changes)).replace("_", " ")
    with pytest.raises(ConfigError, match=field):
        ModelCard.create(**card_values(**changes))


def test_the_bundled_cards_tell_what_becomes_of_networks() -> None:
    """For microscopy models: branches found and invented, in addition to the PSNR."""
    card = read_card(zoo.bundled_folder() / "fluo-sr-x2")
    rows = {
        (row.test_set.partition(",")[0], row.method): row
        for row in card.figures
        if row.branch_recall is not None
    }
    assert set(rows) == {
        (k, m) for k in ("dentin", "cells") for m in ("cubic", "model")
    }
    for row in rows.values():
        assert row.psnr is not None
        assert 0.3 < row.branch_recall <= 1
        assert 0.3 < row.branch_precision <= 1
