"""Small linear and non-linear networks, and requests for attributions."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest

from napari_geosr.attribution import METHODS, AttributionRequest, AttributionResult
from napari_geosr.attribution._window import ExplainedScan
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.networks.spec import NetworkSpec


def statistics_of(array: np.ndarray) -> IntensityStatistics:
    good = array[np.isfinite(array)].astype(np.float64)
    return IntensityStatistics(
        mean=float(good.mean()),
        std=float(good.std()),
        minimum=float(good.min()),
        maximum=float(good.max()),
        n_voxels=array.size,
    )


def with_spec(network: Any, halo: int, ndim: int = 2, **more: Any) -> Any:
    """Attach the spec that tiling needs to a network."""
    network = network.eval().requires_grad_(False)
    values = {
        "axes": "ZYX"[-ndim:],
        "halo": (halo,) * ndim,
        "stride": (1,) * ndim,
        "upscale_factor": (1,) * ndim,
    }
    network.spec = NetworkSpec(**{**values, **more})
    return network


def relu_network(ndim: int = 2, slices: int = 1, activation: Any = None) -> Any:
    """Three layers with biases; with rectifiers by default."""
    import torch
    from torch import nn

    torch.manual_seed(3)
    conv = (nn.Conv2d, nn.Conv3d)[ndim - 2]
    make = activation or nn.ReLU
    layers = [
        conv(slices, 6, 3, padding=1),
        make(),
        conv(6, 6, 3, padding=2, dilation=2),
        make(),
        conv(6, 1, 3, padding=1),
    ]
    return with_spec(nn.Sequential(*layers), 4, ndim, adjacent_slices=slices)


def linear_network(ndim: int = 2, slices: int = 1) -> Any:
    """One convolution of 5 voxels along each axis."""
    import torch
    from torch import nn

    torch.manual_seed(5)
    conv = (nn.Conv2d, nn.Conv3d)[ndim - 2]
    network = nn.Sequential(conv(slices, 1, 5, padding=2))
    return with_spec(network, 2, ndim, adjacent_slices=slices)


def scene_of(
    network: Any,
    array: Any,
    statistics: IntensityStatistics | None = None,
    **more: Any,
) -> ExplainedScan:
    known = statistics or statistics_of(np.asarray(array))
    return ExplainedScan(network, array, known, threads=1, **more)


def request_at(
    scene: ExplainedScan, *at: int, noise: float = 0.0, **more: Any
) -> AttributionRequest:
    """Request an attribution for one voxel of the result."""
    z, y, x = (0,) * (3 - len(at)) + at
    region = (slice(z, z + 1), slice(y, y + 1), slice(x, x + 1))
    values: dict[str, Any] = {
        "scene": scene,
        "region": region,
        "mask": np.ones((1, 1, 1), bool),
        "voxel_size": (1.0, 1.0, 1.0),
        "unit": "µm",
        "noise": lambda: Noise(level=noise, contrast=1.0),
        "network_for_noise": lambda factor: scene.network,
    }
    return AttributionRequest(**{**values, **more})


def ask(method: str, request: AttributionRequest) -> AttributionResult:
    steps: Generator[Any, None, AttributionResult] = METHODS.load(method).explain(
        request
    )
    return run_to_end(steps)


@pytest.fixture
def scan() -> Callable[..., np.ndarray]:
    """Grey values of a scan: ``scan(shape)``."""

    def make(*shape: int) -> np.ndarray:
        rng = np.random.default_rng(7)
        return rng.normal(100, 15, shape).astype(np.float32)

    return make
