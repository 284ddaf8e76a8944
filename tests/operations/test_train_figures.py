"""Quality figures on the card of a trained model, and their references."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torch import nn

from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.steps import JudgingProgress, Step, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference import runner
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.networks.spec import NetworkSpec
from napari_geosr.operations.train import figures as judging
from napari_geosr.operations.train.figures import blocks as validation_blocks
from napari_geosr.operations.train.figures import evaluator

NOISY = {"noise2noise", "noise2inverse"}


class Nearest(nn.Module):
    """Each voxel `factor` times along every axis."""

    def __init__(self, factor: int, ndim: int) -> None:
        super().__init__()
        self.factor, self.ndim = factor, ndim
        axes = "YX" if ndim == 2 else "ZYX"
        self.spec = NetworkSpec(axes, (0,) * ndim, (1,) * ndim, (factor,) * ndim)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis in range(-self.ndim, 0):
            x = x.repeat_interleave(self.factor, axis)
        return x * self.weight


def training(
    sources: Any, targets: Any, factor: int, ndim: int, noisy: bool = False
) -> tuple[Any, Patches]:
    """Training with a network that repeats voxels."""
    n = len(sources)
    config = config_class("supervised").create(
        source=["a"] * n,
        target=["b"] * n,
        dimensions=f"{ndim}D",
        patch=8,
        sampling="uniform",
        threads=1,
    )
    volumes = {
        "source": [Volume(data, "ZYX", name="low") for data in sources],
        "target": [Volume(data, "ZYX", name="high") for data in targets],
    }
    patches = Patches(volumes, config, factors={"target": factor})
    trainer = SimpleNamespace(
        method=SimpleNamespace(
            upscale_factor=factor, noisy_target=noisy, task="denoise"
        ),
        average=Nearest(factor, ndim).eval(),
        accelerator=SimpleNamespace(device="cpu"),
    )
    return trainer, patches


def figures(source: Any, target: Any, factor: int, ndim: int, noisy: bool) -> Any:
    trainer, patches = training([source], [target], factor, ndim, noisy)
    return run_to_end(judging.evaluate_model_steps(trainer, patches)), patches


@pytest.mark.parametrize("name", METHODS.names())
def test_methods_say_whether_their_target_is_noisy(name: str) -> None:
    assert METHODS.load(name).Method.noisy_target is (name in NOISY)


@pytest.mark.parametrize("noisy", [True, False])
def test_a_noisy_target_is_called_so(rng: np.random.Generator, noisy: bool) -> None:
    data = rng.normal(size=(16, 24, 32))
    rows, _ = figures(data, data + rng.normal(0, 0.1, data.shape), 1, 2, noisy)
    assert {"input", "model"} <= {row.method for row in rows}
    assert all(("noisy target" in row.test_set) is noisy for row in rows)


@pytest.mark.parametrize("ndim", [2, 3])
def test_finer_voxels_are_compared_with_a_cubic_enlargement(
    rng: np.random.Generator, ndim: int
) -> None:
    """For a smooth object, it is better than a network that repeats voxels."""
    axes = np.meshgrid(*(np.arange(n) / 9 for n in (32, 48, 64)), indexing="ij")
    fine = np.sin(axes[0]) + np.sin(axes[1] + 1) + np.sin(axes[2])
    if ndim == 2:
        fine = fine[::2]
        low = fine.reshape(16, 24, 2, 32, 2).mean((2, 4))
    else:
        low = fine.reshape(16, 2, 24, 2, 32, 2).mean((1, 3, 5))
    rows, patches = figures(low, fine, 2, ndim, noisy=False)
    assert [row.method for row in rows] == ["input", "model"]
    assert "cubic" in rows[0].test_set
    found = {row.method: row.psnr for row in rows}
    assert found["input"] > found["model"] + 3
    # By hand: the held-out block of both.
    part = patches.scenes[0].split.validation
    assert patches.scenes[0].split.axis == 2
    given = patches.grey["source"].standardise(low[..., slice(*part)])
    truth = fine[..., 2 * part[0] : 2 * part[1]]
    truth = patches.grey["target"].standardise(truth)
    factors = (1, 2, 2) if ndim == 2 else (2, 2, 2)
    cubic = zoom(given, factors, order=3, grid_mode=True, mode="nearest")
    span = np.ptp(np.percentile(truth, (1, 99)))
    expected = 10 * np.log10(span**2 / np.mean((cubic - truth) ** 2))
    assert found["input"] == pytest.approx(expected, abs=0.01)


def test_all_volumes_count(rng: np.random.Generator) -> None:
    """For two different volumes, the mean of both figures; the first alone differs."""
    targets = [rng.normal(size=(16, 24, 32)) for _ in range(2)]
    noise = [rng.normal(0, sd, targets[0].shape) for sd in (0.1, 0.5)]
    sources = [t + n for t, n in zip(targets, noise, strict=True)]
    trainer, patches = training(sources, targets, 1, 2)
    steps: list[Step] = []
    rows = run_to_end(judging.evaluate_model_steps(trainer, patches), steps.append)
    found = {row.method: row.psnr for row in rows}
    assert found["model"] == found["input"]
    expected = []
    for scene in patches.scenes:
        low, high = scene.split.validation
        assert scene.split.axis == 2
        truth = scene.volumes["target"].data[..., low:high]
        error = scene.volumes["source"].data[..., low:high] - truth
        span = np.ptp(np.percentile(truth, (1, 99)))
        expected.append(10 * np.log10(span**2 / np.mean(error**2)))
    assert abs(expected[0] - expected[1]) > 10
    assert found["input"] == pytest.approx(np.mean(expected), abs=0.01)
    assert rows[0].test_set == "2 validation blocks relative to 'high', …"
    judged = [step for step in steps if isinstance(step, JudgingProgress)]
    assert (judged[-1].done, judged[-1].total) == (judged[-1].total, 2 * error.size)


def test_of_many_volumes_a_few_are_judged_in_as_many_voxels(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_blocks, "_MAX_VOXELS", 2**16)
    many = [rng.normal(size=(40, 80, 96)) for _ in range(10)]
    trainer, patches = training(many, many, 1, 2)
    steps: list[Step] = []
    rows = run_to_end(judging.evaluate_model_steps(trainer, patches), steps.append)
    assert rows[0].test_set.startswith("8 of 10 validation blocks relative to")
    judged = [step for step in steps if isinstance(step, JudgingProgress)]
    assert judged[-1].total <= 2**16 * 1.5


def test_it_stops_between_tiles(rng: np.random.Generator) -> None:
    data = [rng.normal(size=(16, 24, 32)) for _ in range(2)]
    stop = False
    steps = judging.evaluate_model_steps(
        *training(data, data, 1, 2), should_stop=lambda: stop
    )
    for step in steps:
        if isinstance(step, JudgingProgress):
            break
    assert 0 < step.done < step.total
    stop = True
    with pytest.raises(Cancelled):
        run_to_end(steps)


def test_where_the_device_is_full_the_processor_judges(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [rng.normal(size=(16, 24, 32)) for _ in range(2)]
    trainer, patches = training(data, data, 1, 2)
    expected = run_to_end(judging.evaluate_model_steps(trainer, patches))
    trainer.accelerator.device = "cuda:0"
    real, devices = runner.restore_tiles, []

    def full(*args: Any, device: str, **more: Any) -> Any:
        devices.append(device)
        if device != "cpu":
            raise DeviceMemoryError("Memory ran out.")
        return (yield from real(*args, device=device, **more))

    monkeypatch.setattr(evaluator, "restore_tiles", full)
    monkeypatch.setattr(evaluator, "release_memory", print)
    monkeypatch.setattr(evaluator, "free_memory", lambda _: 2**30)
    steps: list[Step] = []
    found = run_to_end(judging.evaluate_model_steps(trainer, patches), steps.append)
    assert devices == ["cuda:0", "cpu", "cpu"]
    assert len([step for step in steps if isinstance(step, WarningIssued)]) == 1
    assert found == expected
