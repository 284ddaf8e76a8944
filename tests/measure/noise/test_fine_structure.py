"""Tests of noise that may be fine structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from scipy import ndimage

from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate as module
from napari_geosr.measure.noise import estimate_noise

Array = npt.NDArray[np.float64]
DOUBT = "may be fine structure"


def is_doubted(noise: Noise) -> bool:
    return any(DOUBT in sentence for sentence in noise.doubts)


def correlated(shape: tuple[int, ...], seed: int = 0) -> Array:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 0.6)
    return noise / noise.std()


def grains(shape: tuple[int, ...], size: float, seed: int = 0) -> Array:
    """Grains of this mean edge length, with random grey values of 0 to 100."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(seed)
    count = int(np.prod(shape) / size**3)
    nearest = cKDTree(rng.random((count, 3)) * shape).query(
        np.stack(np.indices(shape), -1).reshape(-1, 3)
    )[1]
    return ndimage.gaussian_filter(
        (100 * rng.random(count)[nearest]).reshape(shape), 0.6
    )


@pytest.fixture
def cement(shared_data: Path) -> Array:
    """A real scan of 128³ voxels with fine texture."""
    path = shared_data / "ct_volumes" / "cement_128x128x128.tif"
    return tifffile.imread(path).astype(float)


def test_cement_with_correlated_noise_is_not_doubted(cement: Array) -> None:
    """Its texture varies more in larger blocks, but not its noise."""
    clean = cement[50:66, 32:128, 32:128]
    noise = estimate_noise(Volume(clean + 3.8 * correlated(clean.shape), "ZYX"))
    assert not is_doubted(noise)
    assert noise.level == pytest.approx(np.hypot(3.8, 2.6), rel=0.15)


def test_interval_includes_the_levels_in_blocks_of_other_sizes(cement: Array) -> None:
    coarse = cement.reshape(64, 2, 64, 2, 64, 2).mean((1, 3, 5))
    noise = estimate_noise(Volume(coarse, "ZYX"))
    assert is_doubted(noise)
    assert noise.interval[0] == 0
    assert noise.interval[1] > 1.3 * noise.level


@pytest.mark.parametrize("depth", [8, 24])
def test_grains_of_a_few_voxels_are_doubted(depth: int) -> None:
    """In a thin volume, voxels are averaged within the slices only."""
    shape = (depth, 80, 80)
    scan = grains(shape, 4.0) + np.random.default_rng(1).normal(size=shape)
    noise = estimate_noise(Volume(scan, "ZYX"))
    assert noise.level == 0 or is_doubted(noise)
    assert noise.interval[0] == 0


def test_white_noise_with_thin_fibres_is_doubted() -> None:
    """White noise hides the correlation of the structure that is measured with it."""
    shape = (40, 96, 96)
    rng = np.random.default_rng(0)
    places = np.stack(np.indices(shape), -1).astype(np.float32)
    solid = np.zeros(shape, bool)
    for _ in range(260):
        away = places - (rng.random(3) * shape).astype(np.float32)
        way = rng.normal(size=3) * (0.3, 1, 1)
        along = away @ (way / np.linalg.norm(way)).astype(np.float32)
        solid |= (away**2).sum(-1) - along**2 < 1.6**2
    felt = ndimage.gaussian_filter(100.0 * solid, 0.6)
    noise = estimate_noise(Volume(felt + 5 * rng.normal(size=shape), "ZYX"))
    assert max(noise.correlation.values()) < 0.2
    assert noise.level > 8, "structure is measured with the noise"
    assert is_doubted(noise)
    assert noise.interval[0] == 0


def test_missing_voxels_do_not_prevent_the_test() -> None:
    """The larger blocks all contain NaN."""
    scan = grains((48, 80, 80), 4.0)
    scan[:, :, ::7] = np.nan
    noise = estimate_noise(Volume(scan, "ZYX"))
    assert noise.interval[1] > 0


def test_cancelled_comparison_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop during the second pass does not leave an undoubted level behind."""
    from napari_geosr.core.errors import Cancelled

    scan = Volume(grains((24, 64, 64), 4.0, seed=5), "ZYX")
    asked: list[int] = []
    limit = 10**9

    def stop() -> bool:
        asked.append(0)
        return len(asked) == limit

    module._known.clear()
    expected = module.run_to_end(module.noise_steps(scan, should_stop=stop))
    total = len(asked)
    for call in (2, total // 3, total - 1):
        limit = call
        module._known.clear()
        asked.clear()
        with pytest.raises(Cancelled):
            module.run_to_end(module.noise_steps(scan, should_stop=stop))
        assert estimate_noise(scan) == expected
