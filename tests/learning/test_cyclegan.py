"""CycleGAN: symmetry, an image pool that survives a stop, grids, and learning."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from napari_geosr import restore
from napari_geosr.core.steps import run_to_end
from napari_geosr.io import read
from napari_geosr.learning.image_pool import ImagePool
from napari_geosr.learning.methods import config_class
from napari_geosr.operations.train import TrainJob, train_steps

SMALL: dict[str, Any] = {"layers": 1, "width": 4, "critic_width": 2}


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def test_the_pool_hands_out_old_and_new() -> None:
    torch.manual_seed(0)
    pool = ImagePool(4)
    first = torch.arange(4.0).view(4, 1, 1, 1)
    assert torch.equal(pool.exchange(first), first)
    given = [
        float(pool.exchange(torch.full((1, 1, 1, 1), 10.0 + i))) for i in range(40)
    ]
    old = [g != 10 + i for i, g in enumerate(given)]
    assert 10 < sum(old) < 30
    assert len(pool.images) == 4
    assert len(set(given)) == len(given)  # each image is returned once
    made = torch.randn(3, 1, 2, 2)
    assert torch.equal(ImagePool(0).exchange(made), made)


class _OnDevice:
    """An image that torch cannot concatenate with those in main memory."""

    def __init__(self, image: torch.Tensor) -> None:
        self.image = image

    def cpu(self) -> torch.Tensor:
        return self.image


def test_the_state_of_a_pool_with_images_on_two_devices() -> None:
    """After reading a checkpoint and some steps on a GPU."""
    pool = ImagePool(3)
    images = torch.randn(3, 1, 2, 2)
    pool.restore(images[:2])
    pool.images.append(_OnDevice(images[2]))  # type: ignore[arg-type]
    state = pool.state()
    assert state is not None
    assert torch.equal(state, images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_pool_goes_on_on_a_gpu() -> None:
    pool = ImagePool(2)
    pool.restore(torch.randn(2, 1, 2, 2))
    for _ in range(8):
        given = pool.exchange(torch.randn(2, 1, 2, 2, device="cuda"))
        assert given.device.type == "cuda"
        state = pool.state()
        assert state is not None
        assert state.device.type == "cpu"


def test_a_pool_goes_on_from_its_state() -> None:
    one, other = ImagePool(3), ImagePool(3)
    assert one.state() is None
    one.exchange(torch.randn(3, 1, 2, 2))
    other.restore(one.state())
    apart = one.copy()
    made = torch.randn(6, 1, 2, 2)
    results = []
    for pool in (one, other):
        torch.manual_seed(1)
        results.append(pool.exchange(made))
    assert torch.equal(*results)
    assert torch.equal(one.state(), other.state())  # type: ignore[arg-type]
    assert not torch.equal(apart.state(), one.state())  # type: ignore[arg-type]


@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_resumed_training_gives_the_same_weights(
    build_trainer: Any, tmp_path: Path, stop_at: int
) -> None:
    settings = {"steps": 5, "pool_size": 3, "dimensions": "2D", **SMALL}
    whole = build_trainer("cyclegan", **settings)
    run_to_end(whole.run())
    folder, forgetful = tmp_path / "one", tmp_path / "other"
    first = build_trainer("cyclegan", folder, **settings)
    list(first.run(lambda: first.step >= stop_at))
    shutil.copytree(folder, forgetful)
    second = build_trainer("cyclegan", folder, **settings)
    assert second.resume()
    run_to_end(second.run())
    for name, module in whole.method.modules.items():
        assert torch.equal(weights(module), weights(second.method.modules[name]))
    for name, pool in whole.method.pools.items():
        assert torch.equal(pool.state(), second.method.pools[name].state())
    # The pool matters: without it, the critics get other images.
    third = build_trainer("cyclegan", forgetful, **settings)
    assert third.resume()
    for pool in third.method.pools.values():
        assert pool.images
        pool.restore(None)
    run_to_end(third.run())
    critic = weights(third.method.modules["critic_target"])
    assert not torch.equal(critic, weights(whole.method.modules["critic_target"]))


def test_generators_swap_roles(build_trainer: Any) -> None:
    """Exchanging the two kinds together with all modules changes nothing."""
    trainer = build_trainer("cyclegan", dimensions="2D", **SMALL)
    method = trainer.method
    torch.manual_seed(0)
    for module in method.modules.values():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
    batch = {"source": torch.randn(2, 1, 16, 16), "target": torch.randn(2, 1, 16, 16)}
    total, losses, made = method.generator_loss(batch)
    swaps = {
        "network": "backward",
        "backward": "network",
        "critic_target": "critic_source",
        "critic_source": "critic_target",
    }
    method.modules = {name: method.modules[other] for name, other in swaps.items()}
    turned = {"source": batch["target"], "target": batch["source"]}
    again, others, made_again = method.generator_loss(turned)
    torch.testing.assert_close(again, total)
    for name, value in losses.items():
        torch.testing.assert_close(others[name], value)
    torch.testing.assert_close(made_again["critic_source"], made["critic_target"])


def test_generators_that_return_their_input_cost_nothing_but_the_critics(
    build_trainer: Any,
) -> None:
    method = build_trainer("cyclegan", **SMALL).method
    for name in ("network", "backward"):
        torch.nn.init.zeros_(method.modules[name].tail.weight)
    batch = {"source": torch.randn(2, 3, 16, 16), "target": torch.randn(2, 3, 16, 16)}
    _, losses, made = method.generator_loss(batch)
    assert float(losses["cycle"].detach()) == 0
    assert float(losses["identity"].detach()) == 0
    assert torch.equal(made["critic_target"], batch["source"][:, 1:2])
    assert torch.equal(made["critic_source"], batch["target"][:, 1:2])


def test_it_learns_and_both_optimisers_move(
    build_trainer: Any, noisy_pair: Any
) -> None:
    """Without pairs, it brings the noisy scan nearer to the foam.

    With its default weights, it does not remain the identity.
    """
    trainer = build_trainer(
        "cyclegan",
        steps=80,
        patch=32,
        learning_rate=5e-3,
        averaging=0.8,
        dimensions="2D",
        validate_every=1000,
        layers=1,
        width=8,
        critic_width=8,
        network_options={"merge": 1},
        pool_size=10,
    )
    modules = trainer.method.modules
    before = {name: weights(module) for name, module in modules.items()}
    run_to_end(trainer.run())
    for name, module in modules.items():
        assert (weights(module) - before[name]).abs().max() > 1e-3, name
    noisy = np.asarray(read(noisy_pair.first).data)
    grey = trainer.patches.grey
    with torch.no_grad():
        x = torch.from_numpy(grey["source"].standardise(noisy))[:, None]
        made = grey["target"].restore(trainer.average(x)[:, 0].numpy())
    error = np.mean((made - noisy_pair.clean) ** 2)
    assert error < 0.6 * np.mean((noisy - noisy_pair.clean) ** 2)


@pytest.mark.parametrize("dimensions", ["2D", "2.5D", "3D"])
def test_finer_voxels(
    build_trainer: Any,
    run_steps: Any,
    fine_foam: Callable[[int, int], Path],
    dimensions: str,
) -> None:
    ndim = 3 if dimensions == "3D" else 2
    trainer = build_trainer(
        "cyclegan",
        target=[fine_foam(2, ndim)],
        dimensions=dimensions,
        upscale_factor=2,
        **SMALL,
    )
    (losses,) = run_steps(trainer)
    assert {"cycle", "identity", "consistency"} <= set(losses)
    method = trainer.method
    fine = torch.randn(1, 1, *(2 * n for n in trainer.patches.edge))
    assert method.backward(fine).shape[2:] == trainer.patches.edge
    assert np.isfinite(trainer._validate())


def test_consistency_is_the_mean_of_finer_voxels(
    build_trainer: Any, fine_foam: Callable[[int, int], Path]
) -> None:
    trainer = build_trainer(
        "cyclegan", target=[fine_foam(2, 2)], dimensions="2D", upscale_factor=2, **SMALL
    )
    method = trainer.method
    source = torch.randn(2, 1, 8, 8)
    fine = source.repeat_interleave(2, -1).repeat_interleave(2, -2)
    method.forward = lambda x: fine if x.shape[-1] == 8 else x
    batch = {"source": source, "target": fine}
    _, losses, _ = method.generator_loss(batch)
    assert float(losses["consistency"].detach()) == pytest.approx(0, abs=1e-6)
    method.forward = lambda _x: fine + 0.5
    _, losses, _ = method.generator_loss(batch)
    assert float(losses["consistency"].detach()) == pytest.approx(0.5, abs=1e-5)


def test_numbers_of_volumes_may_differ(noisy_pair: Any, tmp_path: Path) -> None:
    """Two sources and one target of another size become one model."""
    target = tmp_path / "other.tif"
    part = noisy_pair.clean[:12, :40, 8:]
    tifffile.imwrite(target, part, imagej=True, metadata={"axes": "ZYX"})
    config = config_class("cyclegan").create(
        source=[noisy_pair.first, noisy_pair.second],
        target=[target],
        steps=2,
        batch_size=2,
        patch=16,
        device="cpu",
        **SMALL,
    )
    job = TrainJob(method="cyclegan", training=config)
    path = run_to_end(train_steps(job, tmp_path / "job"))
    restored = restore(read(noisy_pair.first), model=str(path), device="cpu")
    assert restored.shape == (16, 64, 64)
    assert np.isfinite(np.asarray(restored.data)).all()
