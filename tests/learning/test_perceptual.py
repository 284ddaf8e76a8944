"""Feature networks: the source of their weights, and properties of their distance."""

from __future__ import annotations

import hashlib
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.losses import perceptual
from napari_geosr.learning.losses.perceptual import load_features, perceptual_loss
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.specimens.phantoms import random_blobs


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def test_the_weights_are_the_ones_that_were_trained() -> None:
    place = resources.files(perceptual.__package__).joinpath(perceptual.STRUCTURE_FILE)
    raw = place.read_bytes()
    assert hashlib.sha256(raw).hexdigest() == perceptual.STRUCTURE_SHA256
    assert len(raw) < 300_000
    network = load_features("structure")
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training


def test_other_weights_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / perceptual.STRUCTURE_FILE).write_bytes(b"something else")
    monkeypatch.setattr(perceptual.resources, "files", lambda _: tmp_path)
    with pytest.raises(ConfigError, match="not the weights file"):
        load_features("structure")
    (tmp_path / perceptual.STRUCTURE_FILE).unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_features("structure")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="Known: structure, vgg19, gradient"):
        load_features("random")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["structure", "gradient"])
@pytest.mark.parametrize("shape", [(2, 1, 48, 48), (1, 1, 5, 17, 24), (3, 1, 4, 5)])
def test_distance_of_features(name: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    features = load_features(name)
    target = torch.randn(shape, requires_grad=True)
    output = torch.randn(shape, requires_grad=True)
    same = perceptual_loss(features, target, target)
    assert float(same.detach()) == pytest.approx(0, abs=1e-10)
    loss = perceptual_loss(features, output, target)
    loss.backward()
    assert float(loss.detach()) > 0
    assert target.grad is None
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()
    assert output.grad.abs().sum() > 0


def test_gradients_by_hand() -> None:
    features = load_features("gradient")
    ramp = torch.arange(8.0).expand(8, 8)[None, None]
    flat = torch.zeros(1, 1, 8, 8)
    # Steps of 1, 2 and 4 along X at the three scales, none along Y.
    expected = (0 + 1 + 0 + 4 + 0 + 16) / 6
    assert float(perceptual_loss(features, ramp, flat)) == pytest.approx(expected)
    assert float(perceptual_loss(features, ramp + 5, ramp)) == pytest.approx(0)


def test_structure_counts_more_than_brightness() -> None:
    """At equal mean squared error, blur and noise have a larger distance than an
    offset.
    """
    features = load_features("structure")
    clean = random_blobs((2, 64, 64), porosity=0.3, radius=3, seed=9).fraction
    clean = (clean - clean.mean()) / clean.std()
    changes = {
        "offset": np.ones_like(clean),
        "blur": gaussian_blur(clean, (0, 2, 2)) - clean,
        "noise": np.random.default_rng(0).normal(size=clean.shape),
    }
    target = torch.from_numpy(clean[:, None])
    found = {}
    for name, change in changes.items():
        change = (0.25 * change / np.sqrt(np.mean(change**2))).astype(np.float32)
        output = target + torch.from_numpy(change[:, None])
        found[name] = float(perceptual_loss(features, output, target))
    assert found["blur"] > 1.15 * found["offset"]
    assert found["noise"] > 2 * found["offset"]


class _Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A torchvision with a tiny VGG-19; returns the path of its weights."""
    torch.manual_seed(3)
    path = tmp_path / "checkpoints" / "weights.pth"
    path.parent.mkdir()
    torch.save(_Tiny().state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    path = path.rename(path.with_name(f"vgg19-{digest}.pth"))
    weights = SimpleNamespace(
        IMAGENET1K_V1=SimpleNamespace(url=f"https://example.org/{path.name}")
    )
    module, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    models.VGG19_Weights = weights  # type: ignore[attr-defined]
    models.vgg19 = lambda weights: _Tiny()  # type: ignore[attr-defined]
    module.models = models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return path


def test_vgg19_takes_its_weights_from_the_disk(torchvision: Path) -> None:
    features = load_features("vgg19")
    expected = torch.load(torchvision, weights_only=True)["features.0.weight"]
    assert torch.equal(features.layers[0].weight, expected)
    x = torch.randn(1, 1, 9, 20)
    assert float(perceptual_loss(features, x, x + 1)) > 0


def test_vgg19_without_its_weights_is_an_error(torchvision: Path) -> None:
    torchvision.write_bytes(torchvision.read_bytes() + b"x")
    with pytest.raises(ConfigError, match="damaged"):
        load_features("vgg19")
    torchvision.unlink()
    with pytest.raises(ConfigError, match="not on this computer"):
        load_features("vgg19")


def test_vgg19_without_torchvision_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ConfigError, match="pip install torchvision"):
        load_features("vgg19")
