"""Restoring with samples of a diffusion model: result, resuming, rejected input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

import napari_geosr as geosr
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, DeviceMemoryError, ModelError
from napari_geosr.core.steps import BlockDone, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.unfinished import find_unfinished
from napari_geosr.learning.diffusion.posterior import PosteriorSampler
from napari_geosr.networks.diffusion_unet import DiffusionUNet
from napari_geosr.operations.restore import posterior
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.plan import outline_steps, plan_steps
from napari_geosr.operations.restore.posterior import SampleStore
from napari_geosr.operations.restore.preparation import prepare_steps
from napari_geosr.operations.restore.resume import find_unfinished_deviation
from napari_geosr.operations.restore.steps import restore_steps

SMALL: dict[str, Any] = {
    "batch_size": 4,
    "patch": 16,
    "device": "cpu",
    "averaging": 0.9,
}


def rock(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    return (100 + 80 * (field > -0.5 * field.std())).astype(np.float32)


def noisy(shape: tuple[int, ...], seed: int = 5) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    return (rock(shape, seed) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("prior") / "job"
    settings = {"width": 8, "layers": 1, "steps": 150, "learning_rate": 5e-3}
    geosr.train("ddpm", folder, rock((12, 48, 48)), name="rock", **SMALL | settings)
    return str(folder)


@pytest.fixture(scope="module")
def volume_prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("prior3d") / "job"
    settings = {"width": 8, "layers": 1, "steps": 2, "dimensions": "3D"}
    geosr.train("ddpm", folder, rock((24, 32, 32)), name="rock3d", **SMALL | settings)
    return str(folder)


def settings(prior: str, **values: Any) -> RestoreConfig:
    chosen = {"model": prior, "uncertainty": "diffusion", "uncertainty_members": 3}
    return RestoreConfig.create(**{**chosen, "sampling_steps": 6, **values})


def scan(shape: tuple[int, ...] = (2, 40, 40)) -> Volume:
    return Volume(noisy(shape), "ZYX"[-len(shape) :], 2.0, "um", name="scan")


def test_the_mean_is_closer_and_samples_are_measured(
    prior: str, tmp_path: Path
) -> None:
    out = tmp_path / "p.ome.tif"
    made = run_to_end(restore_steps(scan(), settings(prior), out=out))
    truth, before = rock((2, 40, 40), 5), noisy((2, 40, 40))
    result = np.asarray(geosr.read(out).data)
    assert np.abs(result - truth).mean() < 0.6 * np.abs(before - truth).mean()
    assert made.deviation is not None
    assert (np.asarray(made.deviation.data) >= 0).all()
    record = geosr.read(out).provenance[-1]
    assert record["complete"] is True
    found = record["porosity_samples"]
    assert len(found["porosity"]) == len(found["euler_number"]) == 3
    pores = (truth < found["threshold"]).mean()
    assert found["porosity"] == pytest.approx([pores] * 3, abs=0.08)
    assert len(set(found["porosity"])) > 1
    # The recorded curve gives the same porosity at the threshold.
    at = np.interp(found["threshold"], found["levels"], found["below_level"][0])
    assert at == pytest.approx(found["porosity"][0], abs=0.03)
    assert (made.volume.voxel_size, made.volume.unit) == ((2.0,) * 3, "µm")
    # only the two files are left
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.ome.tif", "p_std.ome.tif"]


def test_a_repeated_run_is_the_same_and_another_seed_differs(prior: str) -> None:
    whole = scan((3, 40, 40))
    made = run_to_end(restore_steps(whole, settings(prior)))
    again = run_to_end(restore_steps(whole, settings(prior)))
    np.testing.assert_array_equal(made.volume.data, again.volume.data)
    other = run_to_end(restore_steps(whole, settings(prior, seed=1)))
    assert np.abs(np.asarray(other.volume.data) - made.volume.data).max() > 1


def sampler(prior: str, noise: float, **values: Any) -> PosteriorSampler:
    network = geosr.load_model(prior).network().eval()
    return PosteriorSampler(network, noise, steps=6, **values)


def test_a_sample_depends_only_on_seed_and_voxel(
    prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples of a run are those drawn directly, in any order and number."""
    monkeypatch.setattr(SampleStore, "remove", lambda _: None)
    drawn = {}
    for number, memory in ((3, "2GB"), (2, "500MB")):
        out = tmp_path / str(number) / "p.ome.tif"
        out.parent.mkdir()
        config = settings(prior, uncertainty_members=number, memory=memory, seed=4)
        run_to_end(restore_steps(scan((3, 40, 70)), config, out=out))
        files = sorted((out.parent / ".p.ome.tif.samples").glob("sample_*.npy"))
        drawn[number] = np.stack([np.load(file) for file in files])
    np.testing.assert_array_equal(drawn[3][:2], drawn[2])
    prepared = run_to_end(prepare_steps(scan((3, 40, 70)), settings(prior, seed=4)))
    scale = prepared.statistics
    values = np.asarray(prepared.volume.data, np.float64)
    planes = (values - scale.input_mean) / scale.input_std
    noise = prepared.network.noise.level
    draw = sampler(prior, noise)
    for i, z in ((2, 1), (0, 2), (2, 0)):
        found = draw(planes[z].astype(np.float32), (4, i, z))
        np.testing.assert_array_equal(found, drawn[3][i, z])


def test_windows_do_not_change_samples(prior: str) -> None:
    """Slices that do not fit into memory have the samples of the whole slice.

    A part of the slice is empty, so that windows differ from each other.
    """
    image = rock((300, 300), 5)
    image[:, :150] = 100
    scale, noise = geosr.load_model(prior).card.normalisation, 0.5
    given = (image - scale.mean) / scale.std
    given += noise * np.random.default_rng(1).normal(size=image.shape)
    seen = given.astype(np.float32)
    wholes = [sampler(prior, noise)(seen, (0, i)) for i in range(3)]
    spread = np.sqrt(np.var(wholes, axis=0, ddof=1).mean())
    parts = sampler(prior, noise, at_once=200**2)(seen, (0, 0))
    assert np.abs(parts - wholes[0]).max() / spread < 1e-3


def test_a_sample_that_does_not_fit_is_drawn_in_windows(
    prior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running out of memory, and a small budget, lead to the same result."""
    whole = scan((1, 170, 190))
    expected = run_to_end(restore_steps(whole, settings(prior))).volume.data
    tried = []
    output = DiffusionUNet.output

    def with_little_memory(self: Any, x: torch.Tensor, *more: Any) -> torch.Tensor:
        tried.append(x[0, 0].numel())
        if tried[-1] > 25_000:
            raise MemoryError
        return output(self, x, *more)

    monkeypatch.setattr(DiffusionUNet, "output", with_little_memory)
    said: list[Any] = []
    made = run_to_end(restore_steps(whole, settings(prior)), said.append)
    assert tried[0] == 170 * 190
    warnings = [step.message for step in said if isinstance(step, WarningIssued)]
    assert any("cpu ran out of memory" in text for text in warnings)
    np.testing.assert_allclose(made.volume.data, expected, atol=1e-2)
    monkeypatch.setattr(DiffusionUNet, "output", output)


def test_the_memory_budget_decides_on_windows(
    prior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run states how much longer it takes in windows."""
    sizes: set[int] = set()
    output = DiffusionUNet.output

    def noted(self: Any, x: torch.Tensor, *more: Any) -> torch.Tensor:
        sizes.add(x[0, 0].numel())
        return output(self, x, *more)

    whole, made = scan((1, 200, 200)), {}
    monkeypatch.setattr(DiffusionUNet, "output", noted)
    for memory in ("4GB", "60MB"):
        sizes.clear()
        config, said = settings(prior, memory=memory), []
        made[memory] = run_to_end(restore_steps(whole, config), said.append)
        in_windows = memory == "60MB"
        assert (max(sizes) < 200**2) is in_windows
        warnings = [step.message for step in said if isinstance(step, WarningIssued)]
        assert any("times as long" in text for text in warnings) is in_windows
    results = [one.volume.data for one in made.values()]
    np.testing.assert_allclose(*results, atol=1e-2)


def test_a_run_in_windows_can_be_planned(prior: str) -> None:
    """The estimated time is that of the whole slice, times the cost of windows."""
    volume, plans = scan((2, 200, 200)), {}
    for memory in ("2GB", "60MB"):
        config = settings(prior, memory=memory)
        plans[memory] = run_to_end(plan_steps(volume, config))
    assert plans["60MB"].seconds > 2 * plans["2GB"].seconds
    run_to_end(outline_steps(volume, settings(prior, memory="60MB")))
    with pytest.raises(DeviceMemoryError, match="Drawing a sample needs"):
        run_to_end(outline_steps(volume, settings(prior, memory="49MB")))


def test_windows_that_would_take_far_too_long_are_refused(
    volume_prior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.operations.restore.memory._LONGEST", 3)
    config = settings(volume_prior, memory="170MB")
    with pytest.raises(DeviceMemoryError, match="times as long as with"):
        run_to_end(restore_steps(scan((80, 80, 80)), config))


def test_a_run_in_windows_can_be_stopped_at_each_window(prior: str) -> None:
    checked: list[int] = []
    draw = sampler(prior, 0.5, at_once=60**2)
    draw(rock((100, 100)) / 40 - 3, (0, 0), checked.append)
    assert checked.count(0) > 20


def test_too_little_memory_is_refused(prior: str) -> None:
    config = settings(prior, memory="49MB")
    with pytest.raises(DeviceMemoryError, match=r"Drawing a sample needs .* MB") as err:
        run_to_end(restore_steps(scan((1, 200, 200)), config))
    enough = settings(prior, memory=f"{math.ceil(err.value.enough / 1e6)}MB")
    assert run_to_end(restore_steps(scan((1, 200, 200)), enough)).complete


def test_a_killed_run_is_resumed_to_the_same_result(
    prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_to_end(restore_steps(scan(), settings(prior)))
    out = tmp_path / "p.ome.tif"
    stop = iter(range(1000))
    stopped = run_to_end(
        restore_steps(
            scan(), settings(prior), out=out, should_stop=lambda: next(stop) > 35
        )
    )
    assert not stopped.complete
    kept = sorted(p.name for p in (tmp_path / ".p.ome.tif.samples").glob("s*.npy"))
    assert 0 < len(kept) < 3
    drawn = []
    new = SampleStore.new

    def counted(self: SampleStore, number: int, shape: tuple[int, ...]) -> Any:
        drawn.append(number)
        return new(self, number, shape)

    monkeypatch.setattr(SampleStore, "new", counted)
    resumed = run_to_end(
        restore_steps(
            scan(),
            settings(prior),
            out=out,
            overwrite=True,
            unfinished=find_unfinished(out),
            unfinished_deviation=find_unfinished_deviation(out),
        )
    )
    assert drawn == list(range(len(kept), 3))
    assert resumed.complete
    np.testing.assert_array_equal(resumed.volume.data, whole.volume.data)
    assert resumed.deviation is not None
    assert whole.deviation is not None
    np.testing.assert_array_equal(resumed.deviation.data, whole.deviation.data)
    assert not (tmp_path / ".p.ome.tif.samples").exists()


def test_super_resolution_agrees_with_the_scan(prior: str) -> None:
    fine = rock((1, 48, 48), 5)
    coarse = fine.reshape(1, 24, 2, 24, 2).mean((2, 4))
    volume = Volume(coarse, "ZYX", 2.0, "um", name="coarse")
    config = settings(prior, upscale_factor=2, sampling_steps=10)
    made = run_to_end(restore_steps(volume, config))
    result = np.asarray(made.volume.data)
    assert result.shape == (1, 48, 48)
    assert made.volume.voxel_size == (2.0, 1.0, 1.0)
    means = result.reshape(1, 24, 2, 24, 2).mean((2, 4))
    assert np.abs(means - coarse).max() < 2  # at a contrast of 80
    plain = np.kron(coarse[0], np.ones((2, 2)))[None]
    inside = np.corrcoef((result - plain).ravel(), (fine - plain).ravel())[0, 1]
    assert inside > 0.2  # hidden structure is continued from the surroundings


def test_samples_that_differ_from_the_scan_are_left_out(
    volume_prior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, config = scan((16, 24, 24)), settings(volume_prior, sampling_steps=3)
    made = run_to_end(restore_steps(volume, config))
    found = made.volume.provenance[-1]["porosity_samples"]
    assert found["left_out"] == 0
    monkeypatch.setattr(posterior, "_MAX_MISFIT", 0.0)
    # one of the three samples is just beyond the limit
    monkeypatch.setattr(posterior, "_TOLERANCE", max(found["misfit"]) - 1e-4)
    steps = list(restore_steps(volume, config))
    assert any("samples differ from the scan" in str(step) for step in steps)
    monkeypatch.setattr(posterior, "_TOLERANCE", 1e-9)
    with pytest.raises(ModelError, match="has not learned this kind"):
        run_to_end(restore_steps(volume, config))


def test_voxels_without_a_value(prior: str) -> None:
    volume = scan()
    data = np.array(volume.data)
    data[0, :3, :5] = np.nan
    made = run_to_end(restore_steps(volume.replace(data=data), settings(prior)))
    assert made.deviation is not None
    for result in (made.volume, made.deviation):
        missing = ~np.isfinite(np.asarray(result.data))
        np.testing.assert_array_equal(missing, np.isnan(data))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "tv"}, "cannot draw samples: its task is denoise"),
        ({"uncertainty": "none", "uncertainty_members": None}, "--uncertainty diff"),
        ({"upscale_factor": 2, "uncertainty": "tta"}, "only for samples"),
        ({"ensemble_with": "tv"}, "used by the uncertainty method 'ensemble'"),
    ],
)
def test_settings_that_do_not_fit(
    prior: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, ModelError), match=message):
        run_to_end(restore_steps(scan(), settings(prior, **values)))


def test_scans_that_are_refused(prior: str, volume_prior: str) -> None:
    other = scan().replace(data=np.asarray(scan().data) * 50)
    with pytest.raises(ModelError, match="a different grey scale"):
        run_to_end(restore_steps(other, settings(prior)))
    faint = np.asarray(scan().data)
    faint = scan().replace(data=faint.mean() + (faint - faint.mean()) / 5)
    said = [
        step.message
        for step in restore_steps(faint, settings(prior))
        if isinstance(step, WarningIssued)
    ]
    assert any("If it shows more than one material" in each for each in said)
    with pytest.raises(ModelError, match="single Y, X image"):
        run_to_end(restore_steps(scan((40, 40)), settings(volume_prior)))
    clean = scan().replace(data=rock((2, 40, 40)))
    with pytest.raises(ConfigError, match="No noise was measured"):
        run_to_end(restore_steps(clean, settings(prior)))
    series = Volume(noisy((2, 2, 40, 40)), "TZYX", 2.0, "um", name="series")
    with pytest.raises(ConfigError, match="one volume"):
        run_to_end(restore_steps(series, settings(prior)))


def test_progress_is_reported(prior: str) -> None:
    steps = list(restore_steps(scan(), settings(prior)))
    done = [s for s in steps if isinstance(s, BlockDone)]
    assert len([s for s in done if s.total == 6]) >= 6


def test_command(
    prior: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "scan.tif", tmp_path / "p.ome.tif"
    tifffile.imwrite(path, noisy((2, 40, 40)), imagej=True, metadata={"axes": "ZYX"})
    line = f"restore {path} --model {prior} --uncertainty diffusion --sampling-steps 4"
    assert run([*line.split(), "--uncertainty-members", "2", "-o", str(out)]) == 0
    assert "p_std.ome.tif" in capsys.readouterr().out
    assert run(["measure", str(out), "-o", str(tmp_path / "report"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    again = [*line.split(), "--uncertainty-members", "1", "-o", str(tmp_path / "q.tif")]
    assert run(again) == 2
    error = capsys.readouterr().err
    assert error.startswith("napari-geosr: uncertainty members: ")
    assert "a number of at least 2 is needed" in " ".join(error.split())


@pytest.fixture(scope="module")
def pair_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pairs") / "job"
    settings = {"width": 8, "layers": 1, "steps": 60, "learning_rate": 5e-3}
    fine = rock((8, 64, 64))
    geosr.train(
        "srdiff",
        folder,
        coarse(fine),
        Volume(fine, "ZYX", 1.0, "um"),
        upscale_factor=2,
        **SMALL | settings,
    )
    return str(folder)


def coarse(fine: np.ndarray, seed: int = 2, level: float = 10) -> Volume:
    z, y, x = fine.shape
    means = fine.reshape(z, y // 2, 2, x // 2, 2).mean((2, 4))
    noise = np.random.default_rng(seed).normal(0, level, means.shape)
    return Volume((means + noise).astype(np.float32), "ZYX", (1.0, 2.0, 2.0), "um")


def test_a_model_of_pairs_gives_its_mean_and_samples(pair_model: str) -> None:
    truth = rock((2, 64, 64), 5)
    scan = coarse(truth)
    mean = run_to_end(restore_steps(scan, RestoreConfig.create(model=pair_model)))
    assert mean.volume.voxel_size == (1.0, 1.0, 1.0)
    enlarged = np.asarray(scan.data).repeat(2, 1).repeat(2, 2)
    error = np.abs(np.asarray(mean.volume.data) - truth).mean()
    assert error < np.abs(enlarged - truth).mean()
    made = run_to_end(restore_steps(scan, settings(pair_model)))
    assert made.volume.data.shape == truth.shape
    assert made.deviation is not None
    assert np.asarray(made.deviation.data).mean() > 1
    found = made.volume.provenance[-1]["porosity_samples"]
    assert len(found["porosity"]) == 3
    assert geosr.load_model(pair_model).card.gives_samples


def test_samples_of_a_scan_with_less_noise_are_compared_with_the_pairs(
    pair_model: str,
) -> None:
    scan = coarse(rock((1, 64, 64), 6), level=0)
    made = run_to_end(restore_steps(scan, settings(pair_model)))
    assert made.volume.provenance[-1]["porosity_samples"]["left_out"] == 0


def test_a_model_of_pairs_has_a_fixed_factor(pair_model: str) -> None:
    fixed = settings(pair_model, upscale_factor=4)
    with pytest.raises(ConfigError, match="fixed upscale factor"):
        run_to_end(restore_steps(coarse(rock((2, 32, 32))), fixed))
