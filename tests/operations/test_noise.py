"""Noise in words and on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.topics import Remark
from napari_geosr.operations.inputs.scan import describe_noise, noise_steps


def test_words() -> None:
    noise = Noise(
        level=5.0,
        contrast=100.0,
        greys=(0.0, 100.0),
        levels=(4.0, 6.0),
        correlation={"y": 0.3, "x": 0.31},
        interval=(4.5, 5.5),
        notes=("A note.",),
    )
    assert describe_noise(noise) == (
        "Noise of 5 % of the contrast (likely between 4.5 % and 5.5 %): a standard "
        "deviation of 5 grey values. It depends on the grey value: 4 at 0, 6 at 100. "
        "Part of it is correlated between neighbouring voxels (correlation along Y "
        "0.30, X 0.31). A note."
    )
    rounding = replace(noise, levels=(4e-7, 6.0))
    assert "It depends on the grey value: 0 at 0, 6 at 100." in describe_noise(rounding)
    none = Noise(level=0.0, contrast=100.0, interval=(0.0, 0.4))
    assert describe_noise(none) == (
        "Noise below 1 % of the contrast, so there is hardly anything to remove."
    )
    unknown = Noise(level=0.0, contrast=100.0, interval=(0.0, 8.0))
    assert describe_noise(unknown) == "The noise could not be measured."
    parts = replace(unknown, doubts=(Remark("Weak in some regions.", "position"),))
    assert "below 8 %" in describe_noise(parts)
    smooth = replace(parts, notes=(Remark("Varies by 2 %.", "smooth variation"),))
    assert "could not be measured" in describe_noise(smooth)


def test_a_cancelled_measurement_has_no_result(rng: np.random.Generator) -> None:
    volume = Volume(rng.normal(size=(8, 32, 32)), "ZYX")
    with pytest.raises(Cancelled):
        run_to_end(noise_steps(volume, should_stop=lambda: True))
    assert run_to_end(noise_steps(volume)).level == pytest.approx(1, rel=0.15)


def test_info_with_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    clean = np.full((8, 48, 48), 100.0)
    clean[:, :, 20:] = 200
    paths = [str(tmp_path / name) for name in ("a.tif", "b.tif")]
    for path in paths:
        noisy = (clean + rng.normal(0, 10, clean.shape)).astype(np.uint8)
        tifffile.imwrite(path, noisy, imagej=True, metadata={"axes": "ZYX"})
    assert run(["info", paths[0], "--noise", "--json"]) == 0
    noise = json.loads(capsys.readouterr().out)["noise"]
    assert noise["level"] == pytest.approx(10, rel=0.15)
    assert noise["source"] == "scan"
    assert run(["info", paths[0], "--second", paths[1]]) == 0
    out = capsys.readouterr().out
    assert "measured from the difference between the two scans" in out
    assert run(["info", paths[0], "--json"]) == 0
    assert "noise" not in json.loads(capsys.readouterr().out)
