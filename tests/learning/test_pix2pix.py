"""Pix2Pix: the input of its critic, smaller voxels, and learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr import restore
from napari_geosr.core.steps import run_to_end
from napari_geosr.io import read
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.translation import coarser, finer, middle
from napari_geosr.networks import build_network
from napari_geosr.operations.train import TrainJob, train_steps

SMALL: dict[str, Any] = {"layers": 1, "width": 4, "critic_width": 2}


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


@pytest.mark.parametrize("distance", ["jensen-shannon", "wasserstein", "least-squares"])
def test_it_learns_and_both_optimisers_move(build_trainer: Any, distance: str) -> None:
    trainer = build_trainer(
        "pix2pix",
        distance=distance,
        steps=40,
        learning_rate=1e-2,
        averaging=0.9,
        batch_size=4,
        layers=2,
        width=8,
        critic_width=2,
        validate_every=1000,
    )
    modules = trainer.method.modules
    judged, made = weights(modules["critic"]), weights(modules["network"])
    before = trainer._validate()
    run_to_end(trainer.run())
    assert trainer._validate() < 0.85 * before
    assert (weights(modules["critic"]) - judged).abs().max() > 1e-3
    assert (weights(modules["network"]) - made).abs().max() > 1e-3


@pytest.mark.parametrize("dimensions", ["2D", "2.5D", "3D"])
@pytest.mark.parametrize("factor", [1, 2])
def test_the_critic_sees_the_input_on_the_targets_grid(
    build_trainer: Any,
    run_steps: Any,
    fine_foam: Callable[[int, int], Path],
    dimensions: str,
    factor: int,
) -> None:
    ndim = 3 if dimensions == "3D" else 2
    trainer = build_trainer(
        "pix2pix",
        target=[fine_foam(factor, ndim)],
        dimensions=dimensions,
        upscale_factor=factor,
        network_options={"merge": 1},
        **SMALL,
    )
    seen: list[torch.Tensor] = []
    critic = trainer.method.modules["critic"]
    critic.register_forward_hook(lambda _m, given, _out: seen.append(given[0]))
    (losses,) = run_steps(trainer)
    assert set(losses) == {"pixel", "adversarial", "critic"}
    planes = 3 if dimensions == "2.5D" else 1
    depth = (8 if trainer.patches.edge[0] < 16 else 16,) if ndim == 3 else ()
    edge = tuple(factor * n for n in (*depth, 16, 16))
    assert seen[0].shape == (4, planes + 1, *edge)
    assert seen[1].shape == (2, planes + 1, *edge)


@pytest.mark.parametrize("factor", [1, 2])
def test_the_penalty_is_that_of_the_image_alone(
    build_trainer: Any, fine_foam: Callable[[int, int], Path], factor: int
) -> None:
    """1 in this case, regardless of the critic's slope along the input."""
    trainer = build_trainer(
        "pix2pix",
        target=[fine_foam(factor, 2)],
        upscale_factor=factor,
        distance="wasserstein",
        **SMALL,
    )
    method, edge = trainer.method, 16 * factor

    class Linear(torch.nn.Module):
        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            image = seen[:, -1:].flatten(1).sum(1, keepdim=True) / edge
            return 5 * seen[:, :-1].flatten(1).sum(1, keepdim=True) + image

    method.modules["critic"] = Linear()
    batch = {
        "source": torch.randn(2, 3, 16, 16),
        "target": torch.randn(2, 1, edge, edge),
    }
    _, losses = method.critic_loss(batch)
    assert float(losses["critic penalty"].detach()) == pytest.approx(0, abs=1e-4)


def test_grids() -> None:
    x = torch.randn(1, 3, 4, 6)
    torch.testing.assert_close(coarser(finer(x, 1), 1), x)
    assert finer(x, 2).shape == (1, 3, 8, 12)
    constant = torch.full((1, 1, 4, 4, 4), 2.5)
    torch.testing.assert_close(coarser(finer(constant, 2), 2), constant)
    assert torch.equal(middle(x), x[:, 1:2])
    ramp = torch.arange(8.0).expand(1, 1, 4, 8)
    assert coarser(ramp, 2)[0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]


@pytest.mark.parametrize(
    ("settings", "weight"),
    [
        ({}, 0.02),
        ({"network": "light_sr", "upscale_factor": 2}, 0.005),
        ({"adversarial_weight": 0.1}, 0.1),
        ({"adversarial_weight": 0.0}, 0.0),
    ],
)
def test_the_critic_weighs_less_where_voxels_become_finer(
    settings: dict[str, Any], weight: float
) -> None:
    method = METHODS.load("pix2pix").Method(config_class("pix2pix").create(**settings))
    assert method.adversarial_weight == weight


def test_the_default_generator_is_light() -> None:
    for factor in (1, 2, 4, 8):
        config = config_class("pix2pix").create(upscale_factor=factor)
        from napari_geosr.learning.methods.pix2pix import Method

        kwargs = Method(config).network_kwargs()
        network = build_network(config.network, **kwargs)
        assert sum(p.numel() for p in network.parameters()) < 1_000_000


def test_the_task_of_the_network_decides(build_trainer: Any) -> None:
    from napari_geosr.learning.methods.pix2pix import Method

    config = config_class("pix2pix").create(network="light_sr", dimensions="3D")
    assert Method(config).upscale_factor == 2


@pytest.mark.parametrize("factor", [1, 2])
def test_a_training_becomes_a_model(
    noisy_pair: Any, fine_foam: Callable[[int, int], Path], tmp_path: Path, factor: int
) -> None:
    config = config_class("pix2pix").create(
        source=[noisy_pair.first],
        target=[fine_foam(factor, 2)],
        steps=2,
        batch_size=2,
        patch=16,
        device="cpu",
        upscale_factor=factor,
        **SMALL,
    )
    job = TrainJob(method="pix2pix", training=config)
    path = run_to_end(train_steps(job, tmp_path / "job"))
    restored = restore(read(noisy_pair.first), model=str(path), device="cpu")
    assert restored.shape == (16, 64 * factor, 64 * factor)
    assert np.isfinite(np.asarray(restored.data)).all()
