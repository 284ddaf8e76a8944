"""Training for 150 steps beats untrained methods on an unseen foam.

Training and scoring use different foams and noise; the total variation filter is tuned
on the scored foam itself, using its ground truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skimage.restoration import denoise_tv_chambolle

from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.learning.training.trainer import Trainer
from napari_geosr.physics.specimens.phantoms import sphere_foam

pytestmark = pytest.mark.slow

FloatArray = npt.NDArray[np.float32]
NOISE = 0.3
#: One set of settings for all methods.
SETTINGS: dict[str, Any] = {
    "steps": 150,
    "batch_size": 8,
    "patch": 48,
    "adjacent_slices": 5,
    "network": "unet",
    "layers": 2,
    "width": 12,
    "learning_rate": 5e-3,
    "warm_up": 10,
    "averaging": 0.95,
    "validate_every": 150,
    "device": "cpu",
    "threads": 1,
}


def foam(seed: int, shape: tuple[int, int, int]) -> FloatArray:
    made = sphere_foam(shape, porosity=0.3, radius=(4, 9), gap=1.0, seed=seed)
    return (1 - made.fraction).astype(np.float32)


def noisy(clean: FloatArray, seed: int) -> FloatArray:
    noise = np.random.default_rng(seed).normal(0, NOISE, clean.shape)
    return (clean + noise).astype(np.float32)


def psnr(image: FloatArray, clean: FloatArray) -> float:
    return float(-10 * np.log10(np.mean((image - clean) ** 2)))


@pytest.fixture(scope="module")
def scored() -> tuple[FloatArray, FloatArray]:
    """A foam that is not used in training, and its noisy scan."""
    clean = foam(4, (16, 80, 80))
    return clean, noisy(clean, 40)


@pytest.fixture(scope="module")
def best_tv(scored: tuple[FloatArray, FloatArray]) -> float:
    clean, scan = scored
    weights = NOISE * np.array([0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 1.0])
    found = [psnr(denoise_tv_chambolle(scan, weight=w), clean) for w in weights]
    # tuned, not at the end of the range
    assert 0 < int(np.argmax(found)) < len(found) - 1
    return max(found)


@pytest.fixture(scope="module")
def trained(
    scored: tuple[FloatArray, FloatArray],
) -> Callable[..., float]:
    """``trained(method, **volumes)``: PSNR of the scored foam after training."""

    def score(name: str, **volumes: FloatArray) -> float:
        files = {role: ["given"] for role in volumes}
        config = config_class(name).create(**SETTINGS, **files)
        method = METHODS.load(name).Method(config)
        given = {role: [Volume(data, "ZYX")] for role, data in volumes.items()}
        patches = Patches(method.scenes(given), config)
        trainer = Trainer(method, patches)
        list(trainer.run())
        clean, scan = scored
        restored = np.empty(scan.shape, np.float32)
        statistics = IntensityStatistics(0.0, 1.0, -10.0, 10.0, scan.size)
        run_to_end(
            restore_tiles(
                trainer.average.eval(),
                patches.grey["source"].standardise(scan),
                restored,
                statistics=statistics,
                budget=10**9,
            )
        )
        found = psnr(patches.grey[method.output_role].restore(restored), clean)
        print(f"{name}: {found:.2f} dB")
        return found

    return score


@pytest.fixture(scope="module")
def seen() -> FloatArray:
    """The training foam."""
    return foam(3, (24, 96, 96))


def test_noise2noise_beats_total_variation(
    trained: Callable[..., float], best_tv: float, seen: FloatArray
) -> None:
    found = trained("noise2noise", source=noisy(seen, 1), target=noisy(seen, 2))
    assert found >= best_tv


def test_supervised_beats_total_variation_by_a_decibel(
    trained: Callable[..., float], best_tv: float, seen: FloatArray
) -> None:
    assert trained("supervised", source=noisy(seen, 1), target=seen) >= best_tv + 1


def test_noise2void_gains_four_decibels_from_one_scan(
    trained: Callable[..., float],
    scored: tuple[FloatArray, FloatArray],
    seen: FloatArray,
) -> None:
    clean, scan = scored
    assert trained("noise2void", source=noisy(seen, 1)) >= psnr(scan, clean) + 4
