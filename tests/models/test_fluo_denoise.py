"""``fluo-denoise`` brings fluorescence images and stacks nearer to the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.intensity import scan_steps
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.measure.comparison.quality import psnr
from napari_geosr.models import zoo
from napari_geosr.physics import fluorescence

FloatArray = np.ndarray


def restored(name: str, volume: FloatArray) -> FloatArray:
    """Restore as users do: scaled by the volume's own statistics, tile by tile."""
    torch.set_num_threads(1)
    target = np.empty(volume.shape, np.float32)
    steps = restore_tiles(
        zoo.find(name).network(),
        volume,
        target,
        statistics=run_to_end(scan_steps(volume)),
        budget=10**9,
    )
    run_to_end(steps)
    return target


def _exposure(kind: str) -> fluorescence.Exposure:
    rng = np.random.default_rng(123_463)
    microscope = fluorescence.Microscope(1.2, 2.5, 2.0, 25, 1.0)
    light = fluorescence.phantom(kind, (12, 96, 96), rng, step=2.0)
    return fluorescence.expose(light, microscope, rng)


@pytest.mark.parametrize("kind", fluorescence.STRUCTURES)
def test_fluo_denoise_gains_on_stacks_and_keeps_the_light(kind: str) -> None:
    made = _exposure(kind)
    # The gain and offset of a camera have no effect.
    out = (restored("fluo-denoise", 3 * made.noisy + 400) - 400) / 3
    assert psnr(out, made.clean, 25) - psnr(made.noisy, made.clean, 25) > 8
    assert out.mean() == pytest.approx(made.clean.mean(), rel=0.03)


def test_fluo_denoise_gains_on_a_single_image() -> None:
    made = _exposure("membranes")
    noisy, clean = made.noisy[6], made.clean[6]
    gain = psnr(restored("fluo-denoise", noisy), clean, 25) - psnr(noisy, clean, 25)
    assert gain > 6
