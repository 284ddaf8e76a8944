"""TomoGAN: its three terms, its schedule, and learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr import restore
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import run_to_end
from napari_geosr.io import read
from napari_geosr.learning.methods import config_class
from napari_geosr.operations.train import TrainJob, train_steps

SMALL: dict[str, Any] = {"width": 4, "critic_width": 2}


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def batch_of(trainer: Any, n: int = 2) -> dict[str, torch.Tensor]:
    rngs = [np.random.default_rng(i) for i in range(n)]
    drawn = [trainer.method.draw(trainer.patches, rng) for rng in rngs]
    return {k: torch.from_numpy(np.stack([d[k] for d in drawn])) for k in drawn[0]}


@pytest.mark.parametrize(
    "distance",
    ["jensen-shannon", pytest.param("wasserstein", marks=pytest.mark.slow)],
)
def test_it_learns_and_both_optimisers_move(build_trainer: Any, distance: str) -> None:
    trainer = build_trainer(
        "tomogan",
        distance=distance,
        steps=50,
        learning_rate=1e-2,
        averaging=0.9,
        critic_steps=1,
        batch_size=4,
        dimensions="2D",
        validate_every=1000,
        width=6,
        critic_width=2,
    )
    critic = trainer.method.modules["critic"]
    judged, made = weights(critic), weights(trainer.method.modules["network"])
    before = trainer._validate()
    run_to_end(trainer.run())
    assert trainer._validate() < 0.8 * before
    assert (weights(critic) - judged).abs().max() > 1e-3
    assert (weights(trainer.method.modules["network"]) - made).abs().max() > 1e-3


def test_the_parts_of_the_loss(build_trainer: Any) -> None:
    trainer = build_trainer("tomogan", adversarial_weight=0.5, **SMALL)
    batch = batch_of(trainer)
    assert batch["source"].shape[1] == 3
    assert batch["target"].shape[1] == 1
    method = trainer.method
    total, parts = method.generator_loss(batch)
    config = method.config
    expected = (
        config.pixel_weight * parts["pixel"]
        + config.perceptual_weight * parts["perceptual"]
        + method.adversarial_weight * parts["adversarial"]
    )
    torch.testing.assert_close(total, expected)
    total.backward()
    assert method.modules["network"].stack[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in method.modules["critic"].parameters())
    assert all(p.requires_grad for p in method.modules["critic"].parameters())
    method.modules["network"].zero_grad()
    method.critic_loss(batch)[0].backward()
    assert all(p.grad is None for p in method.modules["network"].parameters())


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_the_critic_has_data_of_its_own(build_trainer: Any, critic_steps: int) -> None:
    trainer = build_trainer("tomogan", critic_steps=critic_steps, **SMALL)
    calls: list[tuple[str, torch.Tensor]] = []

    class Loop:
        step, steps = 5, 10

        def update(self, group: str, batches: Any, loss: Any) -> dict[str, float]:
            calls.append((group, batches[0]["source"]))
            return {}

    trainer.method.train_step(Loop(), [batch_of(trainer)])
    assert [g for g, _ in calls] == ["network"] + critic_steps * ["critic"]
    assert torch.equal(calls[0][1], calls[1][1])
    if critic_steps > 1:
        assert not torch.equal(calls[1][1], calls[2][1])


def test_the_pixel_term_comes_first_with_wasserstein(
    build_trainer: Any, run_steps: Any
) -> None:
    settings = {"critic_steps": 1, "steps": 5, "pixel_steps": 3, **SMALL}
    trainer = build_trainer("tomogan", distance="wasserstein", **settings)
    critic = trainer.method.modules["critic"]
    before = weights(critic)
    for step in range(5):
        (losses,) = run_steps(trainer)
        assert ("critic penalty" in losses) == (step >= 3)
        assert torch.equal(weights(critic), before) == (step < 3)


@pytest.mark.parametrize(
    ("distance", "steps", "expected"),
    [
        ("wasserstein", 200, 20),
        ("wasserstein", 10**6, 1000),
        ("jensen-shannon", 200, 0),
    ],
)
def test_pixel_steps_by_default(
    build_trainer: Any, distance: str, steps: int, expected: int
) -> None:
    trainer = build_trainer("tomogan", distance=distance, **SMALL)
    assert trainer.method.pixel_steps(steps) == expected


def test_vgg_is_asked_for_before_anything_runs(
    build_trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ConfigError, match="torchvision"):
        build_trainer("tomogan", features="vgg19", **SMALL)
    build_trainer("tomogan", features="vgg19", perceptual_weight=0, **SMALL)


def test_in_three_dimensions(build_trainer: Any, run_steps: Any) -> None:
    trainer = build_trainer(
        "tomogan", dimensions="3D", network="resnet", layers=1, width=2, critic_width=2
    )
    (losses,) = run_steps(trainer)
    assert set(losses) == {"pixel", "perceptual", "adversarial", "critic"}


def test_a_training_becomes_a_model(noisy_pair: Any, tmp_path: Path) -> None:
    config = config_class("tomogan").create(
        source=[noisy_pair.first],
        target=[noisy_pair.truth],
        steps=2,
        batch_size=2,
        patch=16,
        device="cpu",
        distance="wasserstein",
        **SMALL,
    )
    job = TrainJob(method="tomogan", training=config)
    path = run_to_end(train_steps(job, tmp_path / "job"))
    restored = restore(read(noisy_pair.first), model=str(path), device="cpu")
    assert restored.shape == (16, 64, 64)
    assert np.isfinite(np.asarray(restored.data)).all()
