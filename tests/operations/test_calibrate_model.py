"""Calibrating the porosity interval of one's own model, and using the calibration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled, ConfigError, ModelError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.interval import (
    conformal_factor,
    conformal_quantile,
    needed_factor,
    needed_shift,
    sample_quantiles,
)
from napari_geosr.models import zoo
from napari_geosr.models.card import DeviationCalibration
from napari_geosr.operations.models.calibrating import (
    CalibrationConfig,
    calibrate_steps,
)

N_PAIRS = 3


def pair(seed: int) -> tuple[Volume, Volume]:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(4, 32, 32)), 2)
    fine = (100 + 80 * (field > -0.5 * field.std())).astype(np.float32)
    coarse = fine.reshape(4, 16, 2, 16, 2).mean((2, 4))
    noise = np.random.default_rng(seed + 50).normal(0, 10, coarse.shape)
    return (
        Volume((coarse + noise).astype(np.float32), "ZYX", (1.0, 2.0, 2.0), "um"),
        Volume(fine, "ZYX", 1.0, "um"),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "job"
    sources, targets = zip(*(pair(seed) for seed in (90, 91)), strict=True)
    geosr.train(
        "srdiff",
        folder,
        list(sources),
        list(targets),
        name="mine",
        upscale_factor=2,
        batch_size=4,
        patch=8,
        width=8,
        layers=1,
        steps=40,
        learning_rate=5e-3,
        averaging=0.9,
        validation=0.3,
        device="cpu",
    )
    return geosr.load_model(str(folder)).path


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "mine")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("files")
    paths: dict[str, list[Path]] = {"source": [], "target": []}
    for seed in range(N_PAIRS):
        for role, volume in zip(paths, pair(seed), strict=True):
            paths[role].append(folder / f"{role}{seed}.ome.tif")
            io.write(volume, paths[role][-1])
    return paths


DIFFUSION: dict[str, Any] = {
    "uncertainty": "diffusion",
    "uncertainty_members": 3,
    "sampling_steps": 4,
}


def calibrated(
    model: Path, files: dict[str, list[Path]], **values: Any
) -> DeviationCalibration:
    config = CalibrationConfig.create(**{"nominal": 0.5, **files, **values})
    return run_to_end(calibrate_steps(model, config))


def test_the_factor_is_the_conformal_quantile_and_makes_an_interval(
    model: Path, files: dict[str, list[Path]]
) -> None:
    found = calibrated(model, files, seed=7, **DIFFUSION)
    needed, shifts = [], []
    for number, (source, target) in enumerate(zip(*files.values(), strict=True)):
        mean, deviation = geosr.restore_with_uncertainty(
            geosr.read(source), str(model), seed=7 + number, **DIFFUSION
        )
        threshold = geosr.measure_porosity(mean).threshold
        true = geosr.measure_porosity(geosr.read(target)).porosity
        arrays = np.asarray(mean.data), np.asarray(deviation.data)
        needed.append(needed_factor(*arrays, threshold, "dark", true))
        each = mean.provenance[-1]["porosity_samples"]["porosity"]
        shifts.append(needed_shift(each, 0.5, true))
    assert found.factor == pytest.approx(conformal_factor(needed, 0.5), rel=1e-3)
    shift = conformal_quantile(shifts, 0.5)
    assert found.quantile_shift == pytest.approx(shift, rel=1e-3)
    assert (found.kind, found.members, found.sampling_steps) == ("diffusion", 3, 4)
    assert geosr.load_model(str(model)).card.uncertainty == found

    scan = pair(20)[0]
    pair_of = geosr.restore_with_uncertainty(scan, str(model), **DIFFUSION)
    report = geosr.measure_porosity(pair_of[0], deviation=pair_of[1])
    assert report.interval is not None
    assert (report.interval.factor, report.interval.nominal) == (found.factor, 0.5)
    assert not any("calibrated with" in warning for warning in report.warnings)
    alone = geosr.measure_porosity(pair_of[0])  # without the deviations
    assert alone.interval is not None
    assert (alone.interval.factor, alone.interval.nominal) == (None, 0.5)
    each = pair_of[0].provenance[-1]["porosity_samples"]["porosity"]
    ends = sample_quantiles(each, 0.5, found.quantile_shift)
    assert alone.interval.porosity == pytest.approx(ends, abs=0.02)
    other = geosr.restore_with_uncertainty(
        scan, str(model), **{**DIFFUSION, "sampling_steps": 5}
    )
    report = geosr.measure_porosity(other[0], deviation=other[1])
    assert any("samples of 4 steps, but the samples for" in w for w in report.warnings)


def test_the_factor_does_not_apply_to_another_kind_or_other_weights(
    model: Path, files: dict[str, list[Path]]
) -> None:
    tta = calibrated(model, files, uncertainty_members=2)
    assert (tta.kind, tta.members, tta.sampling_steps) == ("tta", 2, None)
    assert tta.quantile_shift is None
    scan = pair(20)[0]
    samples = geosr.restore_with_uncertainty(scan, str(model), **DIFFUSION)
    report = geosr.measure_porosity(samples[0], deviation=samples[1])
    assert report.interval is not None
    assert report.interval.porosity is None
    assert report.interval.spread > 0
    copies = geosr.restore_with_uncertainty(scan, str(model), uncertainty_members=2)
    report = geosr.measure_porosity(copies[0], deviation=copies[1])
    assert report.interval is not None
    assert report.interval.factor == tta.factor


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nominal": 0.9}, "needs at least 9 scans, but there are 3"),
        ({"target": []}, "3 sources and 0 targets"),
        ({"uncertainty_members": 64}, "Mirroring and rotation"),
    ],
)
def test_unsuitable_settings_are_rejected(
    model: Path, files: dict[str, list[Path]], values: dict[str, Any], message: str
) -> None:
    before = (model / "card.yaml").read_bytes()
    with pytest.raises(ConfigError, match=message):
        calibrated(model, files, **values)
    assert (model / "card.yaml").read_bytes() == before


def test_targets_on_another_grid_are_rejected(
    model: Path, files: dict[str, list[Path]]
) -> None:
    with pytest.raises(ConfigError, match="a target on the voxel grid of the result"):
        calibrated(model, {**files, "target": files["source"]}, uncertainty_members=2)


def test_bundled_models_and_stopped_runs_change_no_card(
    model: Path, files: dict[str, list[Path]]
) -> None:
    with pytest.raises(ModelError, match="is part of napari-geosr"):
        calibrated(zoo.bundled_folder() / "foam-sr-x2", files)
    config = CalibrationConfig.create(nominal=0.5, **files)
    with pytest.raises(Cancelled):
        run_to_end(calibrate_steps(model, config, should_stop=lambda: True))
    assert geosr.load_model(str(model)).card.uncertainty is None


def test_the_command_prints_the_calibration(
    model: Path, files: dict[str, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["models", "calibrate", str(model), "--nominal", "0.5"]
    words += ["--uncertainty-members", "2"]
    for role, paths in files.items():
        words += [f"--{role}", ",".join(map(str, paths))]
    assert run([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["scans"] == N_PAIRS
    assert run(words) == 0
    assert f"{said['factor']:g} standard deviations" in capsys.readouterr().out
