"""The bundled models are complete, small, and as good as their cards say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from skimage.filters import threshold_otsu

from napari_geosr.measure.quality import psnr
from napari_geosr.models import bundle, zoo
from napari_geosr.models.card import FigureRow
from napari_geosr.physics.noise import gaussian_noise
from napari_geosr.physics.phantoms import sphere_foam
from napari_geosr.physics.samples import noisy_foam, resolution_pair

NAMES = ["foam-denoise", "foam-sr-x2"]


def _restore(name: str, volume: np.ndarray) -> np.ndarray:
    """The whole volume at once, standardised as the card says."""
    network = zoo.find(name).network()
    mean, std = float(volume.mean()), float(volume.std())
    x = torch.from_numpy((volume - mean) / std)
    with torch.no_grad():
        if network.spec.axes == "ZYX":
            y = network(x[None, None])[0, 0]
        else:
            n = network.spec.adjacent_slices // 2
            depth = len(x)
            index = np.abs(np.arange(-n, depth + n))
            index = np.where(index < depth, index, 2 * depth - 2 - index)
            padded = x[index]
            y = torch.stack(
                [network(padded[None, z : z + 2 * n + 1])[0, 0] for z in range(depth)]
            )
    return y.numpy() * std + mean


@pytest.mark.parametrize("name", NAMES)
def test_bundle_is_complete_and_small(name: str) -> None:
    folder = zoo.bundled_folder() / name
    card = bundle.verify(folder)
    assert card.name == folder.name
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert set(sizes) == {"card.yaml", "weights.safetensors", "train.yaml"}
    assert sizes["weights.safetensors"] <= 300_000
    assert sum(sizes.values()) < 1_000_000
    recipe = yaml.safe_load((folder / "train.yaml").read_text(encoding="utf-8"))
    assert recipe["recipe"]["name"] == name
    assert {"steps", "training_seconds"} <= set(recipe["done"])


def _rows(name: str) -> dict[str, list[FigureRow]]:
    found: dict[str, list[FigureRow]] = {}
    for row in zoo.find(name).card.figures:
        found.setdefault(row.test_set, []).append(row)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_cards_hold_honest_figures(name: str) -> None:
    card = zoo.find(name).card
    assert "not" in card.not_for or "No " in card.not_for
    for rows in _rows(name).values():
        methods = [row.method for row in rows]
        assert methods[0] == "input"
        assert methods[-2:] == ["model", "noise-free"]
        assert len(methods) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_headline_of_the_card(name: str) -> None:
    """At least 2 dB above the best baseline and a third of the porosity error."""
    rows = next(iter(_rows(name).values()))
    by_method = {row.method: row for row in rows}
    model, degraded = by_method["model"], by_method["input"]
    baselines = [r for r in rows if r.method not in ("input", "model", "noise-free")]
    best = max(baselines, key=lambda row: row.psnr or 0)
    assert model.psnr >= best.psnr + 2
    assert abs(model.porosity_error) <= abs(degraded.porosity_error) / 3
    assert model.dice >= best.dice


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("scale", [1.0, 4000.0])
def test_denoising_gains_on_plain_noise(dark: bool, scale: float) -> None:
    solid, pore = (0.8, 0.2) if dark else (0.2, 0.8)
    foam = sphere_foam((16, 80, 80), porosity=0.2, radius=(3, 8), seed=123_456)
    clean = scale * (solid + (pore - solid) * foam.fraction)
    noise = gaussian_noise(clean.shape, 0.15 * scale, np.random.default_rng(0))
    noisy = (clean + noise).astype(np.float32)
    restored = _restore("foam-denoise", noisy)
    gain = psnr(restored, clean, 0.6 * scale) - psnr(noisy, clean, 0.6 * scale)
    assert gain > 8


def test_a_single_plane_is_restored_too() -> None:
    foam = sphere_foam((3, 96, 96), porosity=0.2, radius=(3, 8), seed=123_457)
    clean = (0.8 - 0.6 * foam.fraction[1:2]).astype(np.float32)
    noise = gaussian_noise(clean.shape, 0.15, np.random.default_rng(0))
    network = zoo.find("foam-denoise").network()
    noisy = clean + noise
    mean, std = float(noisy.mean()), float(noisy.std())
    x = torch.from_numpy((noisy - mean) / std)
    planes = network.spec.adjacent_slices
    with torch.no_grad():
        y = network(x.expand(planes, -1, -1)[None])[0].numpy() * std + mean
    assert psnr(y, clean, 0.6) - psnr(noisy, clean, 0.6) > 4


def test_sample_foam_porosity_comes_right() -> None:
    noisy, clean = noisy_foam((24, 128, 128))
    true = float((clean.data < 0.5).mean())
    restored = _restore("foam-denoise", np.asarray(noisy.data))

    def error(volume: np.ndarray) -> float:
        return abs(float((volume < threshold_otsu(volume)).mean()) - true) / true

    assert error(np.asarray(noisy.data)) > 0.5
    assert error(restored) <= error(np.asarray(noisy.data)) / 6


def test_super_resolution_beats_interpolation() -> None:
    from scipy import ndimage

    low, high = resolution_pair((24, 32, 32))
    truth = np.asarray(high.data)
    restored = _restore("foam-sr-x2", np.asarray(low.data))
    cubic = ndimage.zoom(low.data, 2, order=3, mode="nearest", grid_mode=True)
    assert restored.shape == truth.shape
    assert psnr(restored, truth, 0.6) > psnr(cubic, truth, 0.6) + 4


@pytest.mark.parametrize("name", NAMES)
def test_declared_reduced_precision_error(name: str) -> None:
    error = zoo.find(name).card.mixed_precision_error
    assert error is not None
    assert 0 < error < 0.5


def test_weights_are_finite() -> None:
    for name in NAMES:
        for tensor in zoo.find(name).network().state_dict().values():
            assert torch.isfinite(tensor).all()
    assert Path(zoo.bundled_folder()).is_dir()
