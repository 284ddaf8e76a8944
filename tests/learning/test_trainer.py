"""The training loop: exact resuming, parts of a batch, NaN losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr import train
from napari_geosr.core.errors import ConfigError, DeviceMemoryError, TrainingError
from napari_geosr.core.steps import Step, TrainingProgress, WarningIssued
from napari_geosr.io import read
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.learning.training import checkpoint
from napari_geosr.learning.training import trainer as trainer_module
from napari_geosr.learning.training.trainer import Trainer
from napari_geosr.networks.spec import SupportsTrainingDtype


def make(pair: Any, folder: Path | None = None, **settings: Any) -> Trainer:
    values = {
        "source": [pair.first],
        "target": [pair.second],
        "steps": 6,
        "batch_size": 4,
        "patch": 32,
        "layers": 3,
        "width": 2,
        "device": "cpu",
        "checkpoint_seconds": 60.0,
    }
    config = config_class("noise2noise").create(**(values | settings))
    method = METHODS.load("noise2noise").Method(config)
    volumes = {r: [read(p) for p in getattr(config, r)] for r in method.roles}
    return Trainer(method, Patches(volumes, config), folder)


def weights(trainer: Trainer) -> dict[str, Any]:
    return {k: v.numpy().copy() for k, v in trainer.average.state_dict().items()}


def finish(trainer: Trainer, stop_at: int | None = None) -> list[Step]:
    def stop() -> bool:
        return stop_at is not None and trainer.step >= stop_at

    return list(trainer.run(stop))


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_resumed_training_gives_the_same_weights(
    noisy_pair: Any, tmp_path: Path, stop_at: int
) -> None:
    whole = make(noisy_pair)
    finish(whole)
    first = make(noisy_pair, tmp_path)
    finish(first, stop_at)
    second = make(noisy_pair, tmp_path)
    assert second.resume()
    assert second.step == stop_at
    steps = finish(second)
    assert steps[0].done == stop_at  # a list of jobs does not go back to 0
    expected, found = weights(whole), weights(second)
    assert all(np.array_equal(expected[k], found[k]) for k in expected)


def test_a_batch_in_parts_moves_the_weights_alike(noisy_pair: Any) -> None:
    whole, parts = make(noisy_pair), make(noisy_pair)
    parts.parts.count = 4
    for trainer in (whole, parts):
        finish(trainer)
    expected, found = weights(whole), weights(parts)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-5)


def test_another_seed_gives_other_weights(noisy_pair: Any) -> None:
    one, other = make(noisy_pair), make(noisy_pair, seed=1)
    for trainer in (one, other):
        finish(trainer)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(weights(one).values(), weights(other).values(), strict=True)
    )


def test_out_of_memory_halves_the_batch_and_goes_on(
    noisy_pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(noisy_pair)
    loss = trainer.method.loss

    def hungry(batch: Any) -> Any:
        if len(batch["source"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(batch)

    monkeypatch.setattr(trainer.method, "loss", hungry)
    steps = finish(trainer)
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert len(said) == 1
    assert "4 parts" in said[0]
    assert trainer.step == 6


def test_a_patch_that_never_fits_is_said(
    noisy_pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(noisy_pair)

    def hungry(_batch: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.method, "loss", hungry)
    with pytest.raises(DeviceMemoryError, match="smaller patch"):
        finish(trainer)


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    noisy_pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(noisy_pair, tmp_path)
    finish(trainer, 2)
    loss = trainer.method.loss

    def broken(batch: Any) -> Any:
        value, _ = loss(batch)
        return value * float("nan"), {"loss": value * float("nan")}

    monkeypatch.setattr(trainer.method, "loss", broken)
    with pytest.raises(TrainingError, match="became NaN or infinite") as raised:
        finish(trainer)
    half = trainer.config.learning_rate / 2
    assert f"--learning-rate {half:g}." in str(raised.value)
    assert "'Resume with…' in the Jobs dock" in str(raised.value)
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert state["step"] == 2
    assert all(torch.isfinite(v).all() for v in state["average"].values())


def test_gradients_that_are_no_numbers_move_nothing(
    noisy_pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is finite, but its slope is not, like that of a square root at 0."""
    trainer = make(noisy_pair, tmp_path)
    finish(trainer, 2)
    before = weights(trainer)
    loss = trainer.method.loss

    def broken(batch: Any) -> Any:
        value, named = loss(batch)
        return value + (0 * value).sqrt(), named

    monkeypatch.setattr(trainer.method, "loss", broken)
    with pytest.raises(TrainingError, match="gradient.*half the learning rate"):
        finish(trainer)
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert state["step"] == 2
    for key, value in weights(trainer).items():
        np.testing.assert_array_equal(value, before[key])


def test_weights_that_are_no_numbers_are_not_kept(
    noisy_pair: Any, tmp_path: Path
) -> None:
    trainer = make(noisy_pair, tmp_path)
    finish(trainer, 2)
    next(trainer.method.modules["network"].parameters()).data.fill_(float("inf"))
    with pytest.raises(TrainingError, match="weight of network"):
        trainer.save()
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert all(torch.isfinite(v).all() for v in state["modules"]["network"].values())


def test_a_resumed_training_takes_the_learning_rate_of_its_settings(
    noisy_pair: Any, tmp_path: Path
) -> None:
    finish(make(noisy_pair, tmp_path, learning_rate=1e-2), 2)
    lower = make(noisy_pair, tmp_path, learning_rate=1e-9)
    assert lower.resume()
    module = lower.method.modules["network"]
    before = [p.detach().clone() for p in module.parameters()]
    finish(lower)
    for old, new in zip(before, module.parameters(), strict=True):
        assert float((new.detach() - old).abs().max()) < 1e-6


def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / checkpoint.FILE).write_bytes(b"PK not a checkpoint")
    with pytest.raises(TrainingError, match="damaged"):
        checkpoint.load(tmp_path)


def test_other_settings_do_not_take_a_checkpoint(
    noisy_pair: Any, tmp_path: Path
) -> None:
    finish(make(noisy_pair, tmp_path), 1)
    with pytest.raises(TrainingError, match="does not match"):
        make(noisy_pair, tmp_path, width=3).resume()


def test_reports_count_time_and_patches(noisy_pair: Any) -> None:
    steps = finish(make(noisy_pair))
    progress = [s for s in steps if isinstance(s, TrainingProgress)]
    assert progress[-1].done == progress[-1].total == 6
    assert progress[-1].seconds_left == 0
    assert progress[-1].images_per_second > 0
    assert "validation" in {name for p in progress for name in p.losses}


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [("cuda:1", "auto", "bf16"), ("cpu", "auto", "no"), ("mps", "auto", "no")],
)
def test_it_computes_where_it_is_told(
    noisy_pair: Any,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    precision: str,
    expected: str,
) -> None:
    """The chosen device, not a default, is passed to accelerate."""
    asked: list[tuple[str, str]] = []

    def noted(device: str, precision: str) -> Any:
        asked.append((device, precision))
        return accelerator("cpu", "no")

    accelerator = trainer_module.make_accelerator
    monkeypatch.setattr(trainer_module, "make_accelerator", noted)
    make(noisy_pair, device=device, precision=precision)
    assert asked == [(device, expected)]


def test_the_accelerator_is_on_the_device_asked_for() -> None:
    """Also if earlier training used another device; meta represents a second GPU."""
    for device in ("meta", "cpu"):
        found = trainer_module.make_accelerator(device, "no")
        assert found.device == torch.device(device)


def test_a_device_that_is_not_there_is_said(noisy_pair: Any, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigError, match="no usable CUDA device"):
        train(
            "noise2noise",
            tmp_path,
            source=[noisy_pair.first],
            target=[noisy_pair.second],
            device="cuda:1",
        )


def test_checkpoints_keep_their_keys_and_are_taken_as_they_are(
    build_trainer: Any,
) -> None:
    """Checkpoints of earlier releases lack the settings, and are accepted anyway."""
    trained = build_trainer("noise2noise", steps=2)
    list(trained.run())
    state = trained.state_dict()
    assert list(state) == [
        *("modules", "average", "optimisers", "step", "seconds", "parts"),
        *("method", "settings"),
    ]
    assert list(state["settings"]) == [
        *("seed", "validation", "augment", "sampling", "patch", "roles"),
    ]
    del state["settings"]
    resumed = build_trainer("noise2noise", steps=4)
    resumed.load_state_dict({**state, "parts": 2})
    assert (resumed.step, resumed.first_step, resumed.parts.count) == (2, 2, 2)
    for name, weights in trained.average.state_dict().items():
        assert torch.equal(weights, resumed.average.state_dict()[name])


def test_networks_that_train_in_another_type_are_told(build_trainer: Any) -> None:
    settings = {"layers": 3, "precision": "bfloat16"}
    told = build_trainer("noise2noise", network="msdnet", **settings)
    assert told.method.modules["network"].training_dtype is torch.bfloat16
    assert isinstance(told.method.modules["network"], SupportsTrainingDtype)
    other = build_trainer("noise2noise", network="resnet", precision="bfloat16")
    assert not isinstance(other.method.modules["network"], SupportsTrainingDtype)


def test_a_resumed_training_keeps_the_parts_that_fit(
    noisy_pair: Any, tmp_path: Path
) -> None:
    """Otherwise, memory would run out, and be reported, again after every resume."""

    def hungry(trainer: Trainer) -> Trainer:
        loss = trainer.method.loss

        def wants_more(batch: Any) -> Any:
            if len(batch["source"]) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss(batch)

        trainer.method.loss = wants_more
        return trainer

    first = hungry(make(noisy_pair, tmp_path))
    assert any(isinstance(s, WarningIssued) for s in finish(first, stop_at=2))
    second = hungry(make(noisy_pair, tmp_path))
    assert second.resume()
    assert second.parts.count == first.parts.count == 4
    assert not any(isinstance(s, WarningIssued) for s in finish(second))


def test_no_two_uses_of_random_numbers_are_seeded_alike(
    noisy_pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples, validation and torch use separate random streams at every step."""
    import sys

    seeds: dict[str, set[tuple[int, ...]]] = {}

    def noting(original: Any) -> Any:
        def noted(entropy: Any = None, *more: Any) -> Any:
            if isinstance(entropy, list):
                # Trailing zeros of a seed have no effect in numpy.
                padded = tuple((entropy + [0] * 4)[:4])
                caller = sys._getframe(1).f_code.co_qualname
                seeds.setdefault(caller, set()).add(padded)
            return original(entropy, *more)

        return noted

    trainer = make(noisy_pair, steps=5, validate_every=1)
    monkeypatch.setattr(np.random, "default_rng", noting(np.random.default_rng))
    monkeypatch.setattr(np.random, "SeedSequence", noting(np.random.SeedSequence))
    finish(trainer)
    assert len(seeds) >= 3
    drawn = [seed for found in seeds.values() for seed in found]
    assert len(drawn) == len(set(drawn)), seeds


def test_training_uses_the_cores_that_a_queue_has_allocated(
    noisy_pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    try:
        torch.set_num_threads(2)
        make(noisy_pair)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
