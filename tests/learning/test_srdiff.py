"""SRDiff: loss, samples with closed-form distributions, and rejected settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.volume import Volume
from napari_geosr.learning.diffusion.conditional import ConditionalSampler
from napari_geosr.learning.diffusion.schedule import Schedule
from napari_geosr.learning.methods.srdiff import Config, Method
from napari_geosr.learning.sampling.patches import Patches

SMALL: dict[str, Any] = {
    "patch": 16,
    "batch_size": 4,
    "width": 8,
    "layers": 1,
    "device": "cpu",
}
#: Mean of the residual as a multiple of the enlarged scan, and its standard deviation,
#: in units of `SCALE`.
MEAN, DEVIATION, SCALE = 0.4, 0.7, 3.0


class Exact(nn.Module):
    """The exact expectation for residuals N(MEAN · scan, DEVIATION²) of each voxel."""

    class config:  # noqa: N801
        noise_schedule, prediction, zero_terminal = "cosine", "velocity", True

    factor = 2

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.scale = torch.tensor(SCALE)
        self.schedule = Schedule(prediction="velocity", zero_terminal=True)

    def enlarge(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, scale_factor=2)

    def output(
        self, x: torch.Tensor, time: torch.Tensor, enlarged: torch.Tensor
    ) -> torch.Tensor:
        a, s = (float(v) for v in self.schedule.shares(int(time), x))
        mean = MEAN * enlarged
        known = a * DEVIATION**2 / (a**2 * DEVIATION**2 + s**2)
        residual = mean + known * (x - a * mean)
        return (a * x - residual) / s


SCAN = np.random.default_rng(0).normal(size=(30, 24)).astype(np.float32)


def drawn(n: int, **values: Any) -> np.ndarray:
    sampler = ConditionalSampler(Exact(), **{"steps": 20} | values)
    return np.stack([sampler(SCAN, (3, i)) for i in range(n)])


def test_samples_have_the_distribution_of_the_objects() -> None:
    samples = drawn(60)
    enlarged = SCAN.repeat(2, 0).repeat(2, 1)
    assert samples.shape == (60, 60, 48)
    mean = samples.mean(0) - (1 + SCALE * MEAN) * enlarged
    assert mean.std() == pytest.approx(SCALE * DEVIATION / np.sqrt(60), rel=0.05)
    assert samples.std(0).mean() == pytest.approx(SCALE * DEVIATION, rel=0.03)


def test_samples_depend_on_the_seed_only() -> None:
    whole = drawn(1, steps=8)
    np.testing.assert_array_equal(drawn(1, steps=8), whole)
    assert np.abs(drawn(2, steps=8)[1] - whole[0]).max() > 1


def test_the_misfit_is_that_of_the_block_means() -> None:
    """The sample is in another grey scale: scan = 2 · sample + 1."""
    sampler = ConditionalSampler(Exact(), 4, (2.0, 1.0))
    sample = ((SCAN - 1) / 2).repeat(2, 0).repeat(2, 1)
    assert sampler.residual(SCAN, sample) == pytest.approx(0, abs=1e-6)
    assert sampler.residual(SCAN, sample + 0.5) == pytest.approx(1)


@pytest.fixture
def patches() -> Patches:
    rng = np.random.default_rng(0)
    fine = rng.normal(100, 7, (6, 80, 96)).astype(np.float32)
    coarse = fine.reshape(6, 40, 2, 48, 2).mean((2, 4))
    config = Config.create(source=["a"], target=["b"], upscale_factor=2, **SMALL)
    volumes = {"source": [Volume(coarse, "ZYX")], "target": [Volume(fine, "ZYX")]}
    return Patches(volumes, config, factors={"target": 2})


def test_residuals_have_unit_variance_for_the_network(patches: Patches) -> None:
    method = Method(patches.config)
    method.prepare(patches)
    method.modules = method.build()
    network: Any = method.modules["network"]
    assert float(network.scale) == pytest.approx(method.scale)
    # The sources are the block means of the targets.
    assert float(network.misfit) == pytest.approx(0, abs=1e-4)
    draws = [method.draw(patches, np.random.default_rng(i)) for i in range(40)]
    batch = {k: torch.from_numpy(np.stack([d[k] for d in draws])) for k in draws[0]}
    rest = batch["target"] - network.enlarge(batch["source"])
    assert float((rest / network.scale).std()) == pytest.approx(1, rel=0.1)
    # An output of zeros is the best without knowing the scan: its error is the variance
    # of the velocity.
    nn.init.zeros_(network.unet.head.weight)
    nn.init.zeros_(network.unet.head.bias)
    with torch.no_grad():
        assert method.validate(batch)["loss"] == pytest.approx(1, rel=0.1)
    assert 0 < (batch["time"] == 999).float().mean() < 0.4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "unet"}, "choose residual_diffusion"),
        ({"target": ()}, "needs a target"),
        ({"network": "residual_diffusion", "dimensions": "2.5D"}, "dimensions"),
    ],
)
def test_unsuitable_settings_are_rejected(values: dict[str, Any], message: str) -> None:
    given = {"source": ["a"], "target": ["b"], **SMALL, **values}
    with pytest.raises(ConfigError, match=message):
        Method.check(Config.create(**given))
