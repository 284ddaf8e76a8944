"""Sparse networks: their size, stored data, and memory use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.networks import NETWORKS, build_network, parameter_count
from napari_geosr.networks.sparse import SPARSE_NETWORKS, SparseTensor
from napari_geosr.networks.sparse.sparse_unet import PRESETS


def ball(edge: int = 20, radius: float = 7.0) -> torch.Tensor:
    axes = [torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2] * 3
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return ((grid**2).sum(0) < radius**2).float()[None, None]


def test_they_are_not_listed_among_networks_for_grey_values() -> None:
    assert set(SPARSE_NETWORKS.names()) == {
        "interpolation",
        "shell_atlas",
        "sparse_unet",
        "surface_unet",
    }
    assert not set(SPARSE_NETWORKS.names()) & set(NETWORKS.names())


@pytest.mark.parametrize(
    ("preset", "expected"),
    [("completion", 16_563), ("medium", 109_047), ("super-resolution", 434_695)],
)
def test_sizes_are_those_of_the_publication(preset: str, expected: int) -> None:
    """The first and the last are published; the second is between them."""
    assert len(PRESETS) == 3
    network = build_network("sparse_unet", channels=PRESETS[preset])
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("sparse_unet", {"channels": (2, 3, 4)}),
        ("surface_unet", {"channels": (3, 4)}),
        ("surface_unet", {"channels": (3,), "upscale_factor": 1, "out_channels": 4}),
        ("interpolation", {}),
        ("shell_atlas", {"directions": 300, "components": 4}),
    ],
)
def test_parameter_count_follows_the_formula(name: str, kwargs: dict) -> None:
    network = build_network(name, **kwargs)
    found = sum(p.numel() for p in network.parameters())
    assert found == parameter_count(name, **kwargs)
    assert network.spec.input == "shape"


def test_invalid_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="two or more"):
        build_network("sparse_unet", channels=(4,))


def test_voxels_of_the_target_are_kept_while_training() -> None:
    torch.manual_seed(0)
    network = build_network("sparse_unet", channels=(2, 2, 2)).eval()
    for head in network.heads:
        torch.nn.init.constant_(head.bias, -100.0)  # nothing is predicted
    dense = ball(16, 5)
    target = SparseTensor.from_dense(dense)
    half = torch.nn.functional.max_pool3d(dense, 2)
    source = SparseTensor.from_dense(dense * (torch.arange(16) < 10))
    found, levels = network(source, [target, SparseTensor.from_dense(half)])
    assert len(levels) == 2
    assert torch.equal(found.contains(target), torch.ones(len(target)).bool())
    none, _ = network(source)
    assert len(none) == 0


def test_an_empty_shape_gives_an_empty_one() -> None:
    network = build_network("sparse_unet", channels=(2, 2)).eval()
    empty = SparseTensor.from_dense(torch.zeros(1, 1, 8, 8, 8))
    found, levels = network(empty)
    assert len(found) == 0
    assert len(levels) == 1


def with_random_weights(channels: Sequence[int]) -> torch.nn.Module:
    torch.manual_seed(1)
    network = build_network("surface_unet", channels=channels).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.4)
    return network


def test_at_first_the_surface_is_interpolated() -> None:
    network = build_network("surface_unet", channels=(4, 4)).eval()
    plain = build_network("interpolation")
    with torch.no_grad():
        assert torch.equal(network.refined(ball()), plain.refined(ball()))


@pytest.mark.parametrize("channels", [(4,), (4, 4), (4, 4, 4)])
def test_a_changed_voxel_has_no_effect_beyond_the_halo(channels: tuple) -> None:
    network = with_random_weights(channels)
    halo = network.spec.halo[0]
    generator = torch.Generator().manual_seed(2)
    size = 2 * halo + 13
    shape = (torch.rand(1, 1, size, 9, 9, generator=generator) < 0.5).float()
    with torch.no_grad():
        before = network.refined(shape)
        reach = 0
        for place in range(halo + 4, halo + 8):
            changed = shape.clone()
            changed[0, 0, place, 4, 4] = 1 - changed[0, 0, place, 4, 4]
            after = network.refined(changed)
            planes = (before != after)[0, 0].flatten(1).any(1).nonzero() // 2
            if len(planes):
                reach = max(reach, int((planes - place).abs().max()))
    assert 0 < reach <= halo


_MEMORY = """
import ctypes, sys, torch
from napari_geosr.networks.sparse import SparseTensor, SubmanifoldConvolution
torch.set_num_threads(1)
n, sparse = 128, sys.argv[1] == "sparse"
axis = torch.arange(n, dtype=torch.float32) - (n - 1) / 2
square = axis[:, None, None]**2 + axis[:, None]**2 + axis**2
shell = ((square > 47.2**2) & (square < 51**2))[None, None]
share = float(shell.float().mean())
layers = [SubmanifoldConvolution(8, 8) for _ in range(4)]
if sparse:
    x = SparseTensor.from_dense(shell.float().expand(1, 8, n, n, n), shell[:, 0])
    features = x.features
else:
    features = shell.float().expand(1, 8, n, n, n).contiguous()
    dense = [torch.nn.Conv3d(8, 8, 3, padding=1, bias=False) for _ in range(4)]
    dense[0](features[..., :4, :4, :4]).sum().backward()  # load the library
del square
if sparse:  # compile the loops before the memory is measured
    tiny = SparseTensor.from_coords(
        torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 8), (1, 2, 2, 2))
    layers[1](layers[0](tiny)).features.sum().backward()
ctypes.CDLL("libc.so.6").malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")
def value(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1])
base = value("VmRSS")
if sparse:
    for layer in layers:
        x = layer(x)
        x = x.with_features(x.features.relu())
    x.features.square().sum().backward()
else:
    y = features
    for layer in dense:
        y = layer(y).relu()
    y.square().sum().backward()
print(share, value("VmHWM") - base)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_training_step_is_a_fifth_of_the_dense_one() -> None:
    """Four layers of eight channels on a shell of 5 % of 128³ voxels."""
    found = {}
    for kind in ("sparse", "dense"):
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY, kind],
            capture_output=True,
            text=True,
            check=True,
        )
        share, peak = done.stdout.split()
        assert 0.04 < float(share) < 0.06
        found[kind] = int(peak)
    assert found["sparse"] <= found["dense"] / 5, found


@pytest.mark.parametrize("channels", [(4,), (3, 5), (4, 4, 6)])
@pytest.mark.parametrize("upscale_factor", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 1.0])
@pytest.mark.parametrize(
    ("dtype", "accuracy"), [(torch.float64, 1e-12), (torch.float32, 1e-5)]
)
def test_dense_convolutions_give_the_same_values(
    channels: tuple, upscale_factor: int, share: float, dtype, accuracy: float
) -> None:
    torch.manual_seed(2)
    network = build_network(
        "surface_unet",
        channels=channels,
        upscale_factor=upscale_factor,
        out_channels=3,
    ).eval()
    with torch.no_grad():
        for name, values in network.state_dict().items():
            if values.is_floating_point():
                values.uniform_(0.5, 1.5) if "norm" in name else values.normal_(0, 0.3)
    network = network.to(dtype)
    box = (2, 3, 9, 7, 10)
    active = torch.rand(2, *box[2:]) < share
    voxels = SparseTensor.from_dense(torch.randn(box, dtype=dtype), active)
    with torch.no_grad():
        expected = network(voxels)
    found = network.dense_forward(voxels)
    assert len(found) == upscale_factor**3 * active.sum()
    assert torch.equal(found.coords, expected.coords)
    if len(found):
        scale = max(1.0, float(expected.features.abs().max()))
        error = (found.features - expected.features).abs()
        assert float(error.max()) < accuracy * scale
        assert float(expected.features.std()) > 0.01
