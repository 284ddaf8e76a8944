"""Training data on a card: they are recognised, and other data are assessed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.volume import Volume
from napari_geosr.models.card import ModelCard
from napari_geosr.models.distribution import (
    TrainingLikeness,
    compare_with_training,
    draw_sample,
)
from napari_geosr.models.training_data import describe
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.physics.tomography_simulation import cylinder_sample

from .conftest import card_values

SHAPE = (16, 72, 72)


def reconstruction(foam: int, noise: float, seed: int) -> Volume:
    """A cylinder in air, as reconstructed from few projections."""
    made = sphere_foam(SHAPE, porosity=0.3, radius=(3, 6), gap=1.0, seed=foam)
    seen = cylinder_sample(made).attenuation
    seen = seen + np.random.default_rng(seed).normal(0, noise, SHAPE)
    return Volume(seen.astype(np.float32), "ZYX", name=f"part-{seed}")


@pytest.fixture(scope="module")
def card() -> ModelCard:
    given = [reconstruction(1, 0.2, seed) for seed in range(4)]
    return ModelCard.create(**card_values(training=describe(given, "parts", 0)))


def likeness(card: ModelCard, volume: Volume) -> TrainingLikeness:
    return compare_with_training(card, draw_sample(volume), volume)


def test_training_data_are_known_again(card: ModelCard) -> None:
    for seed in range(4):
        found = likeness(card, reconstruction(1, 0.2, seed))
        assert found.level == "ok", found.reasons
        assert found.figures["spectrum_distance"] < 0.1


def test_other_scans_are_still_judged(card: ModelCard) -> None:
    assert likeness(card, reconstruction(2, 0.2, 9)).level == "ok"
    assert likeness(card, reconstruction(1, 0.6, 9)).level == "unlike"
    assert likeness(card, reconstruction(1, 0.05, 9)).level == "unlike"
    negative = reconstruction(1, 0.2, 9)
    assert likeness(card, negative.replace(data=1 - negative.data)).level == "unlike"


def test_the_spread_is_that_of_the_parts(card: ModelCard) -> None:
    training = card.training
    assert len(training.examples) == len(training.spectrum_examples) == 20
    assert training.intensity_distance is not None
    assert training.intensity_distance[1] < 0.2
