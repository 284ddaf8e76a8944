"""Diffusion models: learning, figures, and permitted uses of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_geosr as geosr
from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.steps import PreviewReady, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.diffusion.sampling import noise_field, sample
from napari_geosr.learning.diffusion.schedule import Schedule
from napari_geosr.learning.methods.ddpm import Config, Method
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.models import zoo
from napari_geosr.operations.train import TrainJob, train_steps
from napari_geosr.operations.train.card_summary import summarise_card
from napari_geosr.operations.train.fine_tune import fine_tune_settings

SMALL: dict[str, Any] = {
    "patch": 16,
    "batch_size": 4,
    "width": 8,
    "layers": 1,
    "device": "cpu",
    "checkpoint_seconds": 60.0,
}


def batch_of(method: Method, patches: Patches, n: int = 3) -> dict[str, torch.Tensor]:
    drawn = [method.draw(patches, np.random.default_rng(i)) for i in range(n)]
    return {k: torch.from_numpy(np.stack([d[k] for d in drawn])) for k in drawn[0]}


@pytest.fixture
def patches() -> Patches:
    data = np.random.default_rng(0).normal(100, 7, (6, 40, 48)).astype(np.float32)
    config = Config.create(source=["a"], **SMALL)
    return Patches({"source": [Volume(data, "ZYX")]}, config)


class Perfect:
    """A network that is given the image and the noise."""

    def __init__(self, method: Method, batch: dict[str, torch.Tensor]) -> None:
        self.schedule, self.batch = method.schedule(), batch

    def output(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        source, noise = self.batch["source"], self.batch["noise"]
        torch.testing.assert_close(x, self.schedule.noised(source, noise, time))
        return self.schedule.target(source, noise, time)


@pytest.mark.parametrize("prediction", ["noise", "velocity", "image"])
def test_a_perfect_network_has_no_error(patches: Patches, prediction: Any) -> None:
    config = Config.create(source=["a"], prediction=prediction, **SMALL)
    method = Method(config)
    batch = batch_of(method, patches)
    method.modules = {"network": Perfect(method, batch)}  # type: ignore[dict-item]
    assert float(method.loss(batch)[0]) == pytest.approx(0, abs=1e-10)
    assert method.validate(batch)["noise error"] == pytest.approx(0, abs=1e-5)


def test_without_neighbours_the_error_is_the_share_of_the_image(
    patches: Patches,
) -> None:
    """For independent voxels of unit variance, it is the mean of `signal` over the
    times.
    """
    method = Method(patches.config)
    times = range(62, 1000, 125)
    expected = float(Schedule().signal[list(times)].mean())
    found = method.linear_error(batch_of(method, patches, 40))
    assert found == pytest.approx(expected, rel=0.05)


def test_noise_is_a_function_of_the_voxel() -> None:
    whole = noise_field((3, 1), [slice(0, 70), slice(0, 40), slice(0, 33)])
    part = noise_field((3, 1), [slice(30, 65), slice(7, 40), slice(32, 33)])
    np.testing.assert_array_equal(part, whole[30:65, 7:40, 32:33])
    other = noise_field((3, 2), [slice(0, 70), slice(0, 40), slice(0, 33)])
    assert abs(np.corrcoef(whole.ravel(), other.ravel())[0, 1]) < 0.02
    assert whole.std() == pytest.approx(1, abs=0.01)


def test_samples_of_a_known_distribution_are_drawn() -> None:
    """Constant images with values from N(2, 0.5), for which the exact velocity is
    known.
    """
    schedule = Schedule()

    class Exact:
        class config:  # noqa: N801
            noise_schedule, prediction = "cosine", "velocity"
            zero_terminal = False

        def output(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            a, s = schedule.shares(int(time), x)
            image = 2 + 0.25 * a / (0.25 * a**2 + s**2) * (x - 2 * a)
            return schedule.target(image, (x - a * image) / s, int(time))

    noise = torch.from_numpy(noise_field((0,), [slice(0, 128)] * 2))[None, None]
    drawn = sample(Exact(), noise.double(), 30)  # type: ignore[arg-type]
    assert float(drawn.mean()) == pytest.approx(2, abs=0.03)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "unet"}, "choose diffusion_unet"),
        ({"normalisation": "volume"}, "stored"),
        ({"network_options": {"residual": True}}, "residual"),
        ({"prediction": "noise", "zero_terminal": True}, "velocity or image"),
        ({"target": ["b"]}, "remove --target"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Method.check(Config.create(source=["a"], **values))


def test_training_gives_a_model_that_draws_but_restores_nothing(
    noisy_pair: Any, tmp_path: Path
) -> None:
    config = Config.create(
        source=[noisy_pair.truth],
        name="prior",
        **SMALL | {"steps": 60, "learning_rate": 5e-3, "averaging": 0.9},
    )
    job = TrainJob(method="ddpm", training=config)
    job.check()
    steps, events = train_steps(job, tmp_path / "job"), []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as stop:
            path = stop.value
            break
    previews = [e.volume for e in events if isinstance(e, PreviewReady)]
    assert previews[0].name == "generated preview"
    assert np.isfinite(previews[-1].data).all()
    model = zoo.find(str(tmp_path / "job"))
    card = model.card
    assert (card.task, card.local, card.labels) == ("generate", False, 1)
    errors = {row.method: row.noise_error for row in card.figures}
    assert errors["model"] < errors["no neighbours"]
    assert "Error of the predicted noise" in summarise_card(path)
    with pytest.raises(ModelError, match="cannot restore images"):
        model.restorer()
    kept = fine_tune_settings(path, "ddpm")
    assert (kept["noise_schedule"], kept["network"]) == ("cosine", "diffusion_unet")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((32, 32), "only as much as 1 patch of 16 × 32"),
        ((6, 40, 48), "14 patches of 24 × 24"),
    ],
)
def test_very_little_training_data_are_reported(
    shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(100, 7, shape).astype(np.float32)
    settings = SMALL | {"patch": 64 if len(shape) == 2 else 24, "steps": 1}
    with pytest.warns(UserWarning, match="With fewer than 20 patches") as caught:
        geosr.train("ddpm", tmp_path / "job", values, **settings)
    assert any(message in str(each.message) for each in caught)


def test_enough_training_data_are_not_reported(patches: Patches) -> None:
    assert patches.size_in_patches() >= 20
    assert Method(patches.config).remarks(patches) == []


def test_a_resumed_run_is_the_same(noisy_pair: Any, tmp_path: Path) -> None:
    def trained(folder: Path, stop_at: int | None = None) -> Path | None:
        config = Config.create(source=[noisy_pair.truth], **SMALL | {"steps": 6})
        job = TrainJob(method="ddpm", training=config)
        calls = iter(range(1000))
        return run_to_end(
            train_steps(
                job,
                folder,
                should_stop=lambda: stop_at is not None and next(calls) >= stop_at,
            )
        )

    whole = trained(tmp_path / "whole")
    assert trained(tmp_path / "parts", 3) is None
    resumed = trained(tmp_path / "parts")
    assert whole is not None
    assert resumed is not None
    weights = [zoo.find(str(p)).network().state_dict() for p in (whole, resumed)]
    for name, values in weights[0].items():
        assert torch.equal(values, weights[1][name]), name
