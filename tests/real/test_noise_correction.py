"""The report on real volumes corrects its errors for the volumes' own noise."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("real_volumes")


@pytest.mark.parametrize("kept_bright", [0.1, 0.3, 0.8])
def test_the_error_is_that_of_the_volume_without_its_own_noise(
    report: Any, kept_bright: float, rng: np.random.Generator
) -> None:
    """The inherent noise is strong in bright voxels, and a result keeps more of it
    there.
    """
    truth = np.zeros((24, 96, 96))
    truth[..., 40:] = 1.0
    own = np.where(truth > 0.5, 0.15, 0.01)
    volume = truth + own * rng.standard_normal(truth.shape)
    added = 0.2 * rng.standard_normal(truth.shape)
    kept = np.where(truth > 0.5, kept_bright, 0.05)
    result = truth + kept * (volume + added - truth) + 0.03
    true = np.sqrt(np.mean((result - truth) ** 2))
    expected = 20 * np.log10(report.contrast(volume) / true)
    assert report.fair_psnr(result, volume, added, own) == pytest.approx(
        expected, abs=0.5
    )


def test_no_own_noise_is_no_correction(report: Any, rng: np.random.Generator) -> None:
    volume = rng.random((8, 32, 32))
    added = 0.1 * rng.standard_normal(volume.shape)
    found = report.fair_psnr(
        volume + 0.5 * added, volume, added, np.zeros(volume.shape)
    )
    expected = 20 * np.log10(report.contrast(volume) / (0.5 * added.std()))
    assert found == pytest.approx(expected, abs=0.01)
