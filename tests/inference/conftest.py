"""Small networks with known reach, and the whole forward pass that tiles must equal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.networks.spec import NetworkSpec

#: Settings with which every network is tested.
sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep remembered tile sizes out of the user's cache folder."""
    path = tmp_path / "tiles.json"
    monkeypatch.setattr(
        "napari_geosr.inference.tiles.memory.default_path", lambda: path
    )


def _build(kind: str, ndim: int, slices: int, scale: int, double: bool) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(7)
    conv = (nn.Conv2d, nn.Conv3d)[ndim - 2]
    up = (nn.ConvTranspose2d, nn.ConvTranspose3d)[ndim - 2]
    pool = (nn.MaxPool2d, nn.MaxPool3d)[ndim - 2]

    class Shuffle(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            from napari_geosr.networks.layers.upsampling import pixel_shuffle

            return pixel_shuffle(x, scale)

    halo, stride, least, local = 1, 1, 1, True
    if kind == "conv":
        layers = [
            conv(slices, 3, 3, padding=1),
            nn.LeakyReLU(0.3),
            conv(3, 1, 5, padding=2),
        ]
        halo = 3
    elif kind == "dilated":
        layers = [
            conv(slices, 2, 3, padding=4, dilation=4),
            nn.ReLU(),
            conv(2, 1, 3, padding=2, dilation=2),
        ]
        halo = 6
    elif kind == "reflecting":
        layers = [conv(slices, 1, 5, padding=2, padding_mode="reflect")]
        halo, least = 2, 3
    elif kind == "strided":
        layers = [
            conv(slices, 3, 3, padding=1),
            pool(2),
            conv(3, 4, 3, padding=1, stride=2),
            nn.LeakyReLU(0.3),
            up(4, 2, 2, stride=2),
            nn.Upsample(scale_factor=2, mode="nearest"),
            conv(2, 1, 3, padding=1),
        ]
        halo, stride, least = 8, 4, 4
    elif kind == "shuffle":
        layers = [
            conv(slices, 4, 3, padding=1),
            conv(4, scale**ndim, 3, padding=1),
            Shuffle(),
        ]
        halo = 2
    elif kind == "normalised":
        norm = (nn.InstanceNorm2d, nn.InstanceNorm3d)[ndim - 2]
        layers = [conv(slices, 2, 3, padding=1), norm(2), conv(2, 1, 3, padding=1)]
        halo, local = 2, False
    else:
        raise ValueError(kind)
    network: Any = nn.Sequential(*layers).eval()
    network.spec = NetworkSpec(
        axes="ZYX"[-ndim:],
        halo=(halo,) * ndim,
        stride=(stride,) * ndim,
        upscale_factor=(scale if kind == "shuffle" else 1,) * ndim,
        adjacent_slices=slices,
        minimum_size=(least,) * ndim,
        local=local,
    )
    return network.double() if double else network


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Any]:
    """``make_network(kind, ndim=2, slices=1, scale=2, double=False)``."""

    def make(
        kind: str, ndim: int = 2, slices: int = 1, scale: int = 2, double: bool = False
    ) -> Any:
        return _build(kind, ndim, slices, scale, double)

    return make


@pytest.fixture(scope="session")
def restore_whole() -> Callable[..., np.ndarray]:
    """One forward pass over everything, written without any of the tiling code."""

    def restore(
        network: Any, array: np.ndarray, statistics: IntensityStatistics
    ) -> np.ndarray:
        import torch

        spec = network.spec
        dtype = next(network.parameters()).dtype
        image = array.ndim == 2
        x = (array[None] if image else array).astype(np.float64)
        x = (x - statistics.mean) / statistics.std
        n = len(spec.axes)
        pads = []
        for size, stride, least in zip(
            x.shape[3 - n :], spec.stride, spec.minimum_size[-n:], strict=True
        ):
            goal = -(-max(size, least) // stride) * stride
            pads.append((0, goal - size))
        x = np.pad(x, [(0, 0)] * (3 - n) + pads, mode="reflect")
        with torch.inference_mode():
            if n == 3:
                y = network(torch.from_numpy(x)[None, None].to(dtype))[0, 0]
            else:
                c = spec.adjacent_slices // 2
                deep = np.pad(x, [(c, c), (0, 0), (0, 0)], mode="reflect")
                planes = [
                    network(torch.from_numpy(deep[i : i + 2 * c + 1])[None].to(dtype))[
                        0
                    ]
                    for i in range(len(x))
                ]
                y = torch.cat(planes)
        scale = (1,) * (3 - n) + spec.upscale_factor
        full = (1, *array.shape) if image else array.shape
        y = y[tuple(slice(0, m * s) for m, s in zip(full, scale, strict=True))]
        out = y.numpy().astype(np.float64) * statistics.std + statistics.mean
        return out[0] if image else out

    return restore


@pytest.fixture(scope="session")
def statistics_of() -> Callable[[np.ndarray], IntensityStatistics]:
    """Plain statistics of the finite voxels."""

    def find(array: np.ndarray) -> IntensityStatistics:
        good = array[np.isfinite(array)].astype(np.float64)
        return IntensityStatistics(
            mean=float(good.mean()),
            std=float(good.std()) or 1.0,
            minimum=float(good.min()),
            maximum=float(good.max()),
            n_voxels=array.size,
        )

    return find
