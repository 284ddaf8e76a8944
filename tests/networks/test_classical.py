"""Classical filters: results, reach, and exact tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.restoration import denoise_tv_chambolle

from napari_geosr.core.errors import ConfigError, EngineError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.receptive_field import probe
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.networks import NETWORKS, all_settings, build_network
from napari_geosr.networks.classical import FILTERS

CASES: list[tuple[str, dict[str, Any]]] = [
    ("gaussian", {"strength": 0.8}),
    ("gaussian", {"strength": 0.5, "ndim": 3}),
    ("tv", {"iterations": 6}),
    ("tv", {"iterations": 4, "ndim": 3}),
    ("nlm", {"patch_distance": 3, "patch_radius": 2}),
    ("nlm", {"ndim": 3}),
]
each = pytest.mark.parametrize(("name", "kwargs"), CASES)


@dataclass
class Plain:
    """Unscaled grey values."""

    mean: float = 0.0
    input_mean: float = 0.0
    input_std: float = 1.0
    output_mean: float = 0.0
    output_std: float = 1.0
    hot: None = None
    padding: None = None


def squares(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Flat patches with sharp edges."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 3)
    return (field > 0).astype(np.float64)


def filtered(name: str, image: np.ndarray, level: float, **kwargs: Any) -> np.ndarray:
    network = build_network(name, ndim=image.ndim, **kwargs).eval()
    network.set_noise(Noise(level=level, contrast=1.0))
    return network(torch.from_numpy(image)[None, None])[0, 0].numpy()


def test_they_are_here_and_none_of_them_is_trained() -> None:
    assert FILTERS.names() == ["cubic", "gaussian", "nlm", "spline", "tv"]
    assert not set(FILTERS.names()) & set(NETWORKS.names())
    with pytest.raises(ConfigError, match="no weights"):
        all_settings("tv", {})


@each
def test_they_see_exactly_as_far_as_they_say(name: str, kwargs: dict[str, Any]) -> None:
    network = build_network(name, **kwargs).eval()
    found = probe(network)
    assert found.local
    assert found.halo == network.spec.halo
    assert found.stride == network.spec.stride


@each
def test_tiles_give_the_numbers_of_the_whole(
    name: str, kwargs: dict[str, Any], rng: np.random.Generator
) -> None:
    network = build_network(name, **kwargs).eval()
    shape = (9, 26, 31)
    volume = (squares(shape, rng) + rng.standard_normal(shape)).astype(np.float32)
    results = []
    for tile in (shape, (4, 9, 10)):
        target = np.empty(shape, np.float32)
        run_to_end(
            restore_tiles(
                network,
                volume,
                target,
                statistics=Plain(),
                budget=2**30,
                tile=tile,
                threads=1,
            )
        )
        results.append(target)
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=2e-6)


@each
def test_any_size_will_do(name: str, kwargs: dict[str, Any]) -> None:
    network = build_network(name, **kwargs).eval()
    for size in ((1, 1, 1), (3, 2, 13)):
        x = torch.randn(2, 1, *size[: network.config.ndim])
        y = network(x)
        assert y.shape == x.shape
        assert torch.isfinite(y).all()
        assert torch.allclose(y[:1], network(x[:1]))


@pytest.mark.parametrize("starts", [(0, 0, 0), (4, 5, 6), (9, 0, 12)])
@pytest.mark.parametrize("sizes", [(1, 9, 8), (2, 20, 11)])
def test_a_part_of_tv_is_exactly_that_of_the_whole(
    starts: tuple[int, ...], sizes: tuple[int, ...], rng: np.random.Generator
) -> None:
    network = build_network("tv", iterations=4, ndim=3).eval()
    network.set_noise(Noise(level=0.4, contrast=1.0))
    x = torch.from_numpy(rng.standard_normal((1, 1, 11, 25, 23)))
    core = tuple(slice(a, a + n) for a, n in zip(starts, sizes, strict=True))
    assert torch.equal(network.restore_core(x, core), network(x)[(..., *core)])
    # With only the halo, nothing changes either.
    halo = [slice(max(0, a.start - 4), a.stop + 4) for a in core]
    inner = tuple(
        slice(a.start - b.start, a.stop - b.start)
        for a, b in zip(core, halo, strict=True)
    )
    found = network.restore_core(x[(..., *halo)], inner)
    assert torch.equal(found, network(x)[(..., *core)])


@pytest.mark.parametrize("name", ["gaussian", "tv", "nlm"])
def test_strength_zero_changes_nothing(name: str, rng: np.random.Generator) -> None:
    image = rng.standard_normal((12, 13))
    assert np.array_equal(filtered(name, image, 1.0, strength=0), image)


@pytest.mark.parametrize("name", ["gaussian", "tv", "nlm"])
def test_grey_scale_and_offset_play_no_role(
    name: str, rng: np.random.Generator
) -> None:
    image = squares((20, 20), rng) + 0.2 * rng.standard_normal((20, 20))
    plain = filtered(name, image, 0.2)
    other = filtered(name, 50 * image - 7, 50 * 0.2)
    np.testing.assert_allclose(other, 50 * plain - 7, atol=1e-9)


@pytest.mark.parametrize("name", ["gaussian", "tv", "nlm"])
@pytest.mark.parametrize("shape", [(64, 64), (16, 40, 40)])
def test_they_remove_noise(
    name: str, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    clean = squares(shape, rng)
    noisy = clean + 0.3 * rng.standard_normal(shape)
    found = filtered(name, noisy, 0.3)
    assert np.square(found - clean).mean() < 0.5 * np.square(noisy - clean).mean()


def test_gaussian_is_that_of_scipy_away_from_the_border(
    rng: np.random.Generator,
) -> None:
    image = rng.standard_normal((30, 31))
    expected = ndimage.gaussian_filter(image, 1.2)
    found = filtered("gaussian", image, 1.0, strength=1.2)
    np.testing.assert_allclose(found[6:-6, 6:-6], expected[6:-6, 6:-6], atol=1e-12)
    flat = filtered("gaussian", np.ones((7, 9)), 1.0, strength=2.0)
    np.testing.assert_allclose(flat, 1.0, atol=1e-12)


@pytest.mark.parametrize("shape", [(48, 48), (12, 24, 24)])
def test_tv_comes_near_the_minimum_that_skimage_finds(
    shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    image = squares(shape, rng) + 0.2 * rng.standard_normal(shape)
    expected = denoise_tv_chambolle(image, weight=0.2, eps=1e-9, max_num_iter=3000)
    many = filtered("tv", image, 0.2, iterations=200)
    assert np.square(many - expected).mean() ** 0.5 < 0.005
    # With the few default iterations: a fraction of the removed noise of 0.2.
    rms = np.square(filtered("tv", image, 0.2) - expected).mean() ** 0.5
    assert rms < 0.02


def test_nlm_is_what_its_definition_says(rng: np.random.Generator) -> None:
    """Every pair of voxels in plain loops, away from the border."""
    image, sigma, strength = rng.standard_normal((15, 15)), 0.4, 0.9
    found = filtered(
        "nlm", image, sigma, strength=strength, patch_radius=1, patch_distance=2
    )
    for y, x in ((5, 5), (7, 8), (9, 4)):
        total = weights = 0.0
        for v in range(y - 2, y + 3):
            for u in range(x - 2, x + 3):
                one = image[y - 1 : y + 2, x - 1 : x + 2]
                other = image[v - 1 : v + 2, u - 1 : u + 2]
                distance = np.square(one - other).mean()
                excess = max(distance - 2 * sigma**2, 0.0)
                weight = np.exp(-excess / (strength * sigma) ** 2)
                total, weights = total + weight * image[v, u], weights + weight
        assert found[y, x] == pytest.approx(total / weights, rel=1e-9)


@pytest.mark.parametrize("name", ["tv", "nlm", "gaussian"])
def test_a_wish_to_stop_is_heard_within(name: str) -> None:
    network = build_network(name).eval()
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise EngineError("stopped")

    network.between_strips = stop
    with pytest.raises(EngineError, match="stopped"):
        network(torch.zeros(1, 1, 20, 20))
