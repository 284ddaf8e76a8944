"""Copies of training images are found, and new images of the same kind are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_geosr.learning.diffusion.memorisation import (
    CopyCheck,
    compared_edge,
    resemblance,
)


def images(n: int, seed: int, shape: tuple[int, ...] = (32, 32)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [gaussian_filter(rng.normal(size=shape), 2).astype("f4") for _ in range(n)]


def check(samples: list[np.ndarray], training: list[np.ndarray]) -> CopyCheck:
    held_out = images(24, 9, training[0].shape)
    edge = compared_edge([*samples, *training, *held_out])
    return CopyCheck(
        tuple(resemblance(each, training, edge) for each in samples),
        tuple(resemblance(each, training, edge) for each in held_out),
    )


def test_new_images_pass() -> None:
    found = check(images(16, 1), images(8, 0))
    assert not found.is_copying
    assert found.n_nearer <= 2


def test_copies_are_found_even_if_turned_shifted_and_noisy() -> None:
    training, rng = images(8, 0), np.random.default_rng(3)
    copies = [
        np.rot90(np.roll(training[i % 8], 3, 0)[:, ::-1], i)
        + 0.03 * rng.normal(size=(32, 32))
        for i in range(6)
    ]
    found = check([*copies, *images(10, 2)], training)
    assert found.is_copying
    assert min(found.samples[:6]) > max(found.held_out)
    assert "of 16 samples are nearer to a training image than any" in found.sentence


def test_volumes() -> None:
    training = images(2, 0, (12, 12, 12))
    assert resemblance(training[1][:, ::-1], training, 6) == pytest.approx(1, abs=1e-4)
    assert resemblance(images(1, 5, (12, 12, 12))[0], training, 6) < 0.98


def test_large_images_are_compared_at_half_the_resolution() -> None:
    training = images(2, 0, (128, 128))
    shifted = np.roll(training[0], (2, -4), (0, 1))
    assert resemblance(shifted, training, 64) == pytest.approx(1, abs=1e-3)


def test_chance() -> None:
    """By hand: one sample and n others; it is the nearest with chance 1 / (n + 1)."""
    assert CopyCheck((0.9,), (0.1, 0.2, 0.3)).chance == pytest.approx(1 / 4)
    assert CopyCheck((0.9, 0.9), (0.1,)).chance == pytest.approx(1 / 3)
    assert CopyCheck((0.1,), (0.5,)).chance == pytest.approx(1)


def test_an_image_without_contrast_resembles_nothing() -> None:
    assert resemblance(np.ones((16, 16)), images(2, 0), 8) == 0
