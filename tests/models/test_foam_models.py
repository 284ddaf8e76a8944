"""The foam models bring porous volumes nearer to the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu

from napari_geosr.measure.comparison.quality import psnr
from napari_geosr.models import zoo
from napari_geosr.physics.noise import gaussian_noise
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.physics.specimens.samples import noisy_foam, resolution_pair


def _restore(name: str, volume: np.ndarray) -> np.ndarray:
    """Restore the whole volume at once, standardised as stated on the card."""
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
