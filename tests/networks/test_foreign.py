"""Third-party networks with the interface of ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.inference.memory import measure_cost
from napari_geosr.inference.receptive_field import check_spec, probe
from napari_geosr.networks import FOREIGN, NETWORKS, all_settings
from napari_geosr.networks.foreign import ForeignNetwork, NetworkConfig, build
from napari_geosr.networks.foreign_formats import FORMATS, careamics


def made(inner: nn.Module, **settings: Any) -> ForeignNetwork:
    network = ForeignNetwork(NetworkConfig.create(format="graph", **settings), inner)
    return network.eval().requires_grad_(False)


def test_they_are_no_choice_for_trainings() -> None:
    assert not {"foreign", "foreign_formats"} & set(NETWORKS.names())
    assert FORMATS.names() == ["careamics", "graph", "spandrel"]
    with pytest.raises(ConfigError, match="cannot be trained"):
        all_settings(FOREIGN, {})


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"local": False}, "window"),
        ({"window": (8, 8), "overlap": 4}, "as large as their overlap"),
        ({"halo": (1, 2, 3)}, "halo needs one number"),
        ({"stride": (0, 1)}, "at least 1"),
        ({"output_channel": 1}, "output channel"),
        ({"after": [["explode", 1.0]]}, "no operation"),
        ({"after": [["clip", 1.0]]}, "no operation"),
        ({"before": [["clip", "a", "b"]]}, "no operation"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        NetworkConfig.create(format="graph", **settings)


class Colours(nn.Module):
    """Three channels as input, and three channels times a factor as output."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1] == 3
        return x * torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1)


def test_grey_becomes_colour_and_colour_grey() -> None:
    x = torch.rand(1, 1, 5, 6)
    mean = made(Colours(), in_channels=3, out_channels=3)
    torch.testing.assert_close(mean(x), 3 * x)
    last = made(Colours(), in_channels=3, out_channels=3, output_channel=2)
    torch.testing.assert_close(last(x), 6 * x)
    with pytest.raises(ModelError, match="shape"):
        made(Colours(), in_channels=3, out_channels=1)(x)


class Picky(nn.Module):
    """Accepts multiples of 4 from 8 on, and doubles them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert all(n % 4 == 0 and n >= 8 for n in x.shape[2:])
        return functional.interpolate(x, scale_factor=2, mode="nearest")


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (8, 8), (13, 40)])
def test_sizes_are_padded_and_cropped(size: tuple[int, int]) -> None:
    network = made(Picky(), upscale_factor=2, multiple_of=(4, 4), minimum_size=(8, 8))
    x = torch.rand(1, 1, *size)
    expected = functional.interpolate(x, scale_factor=2, mode="nearest")
    torch.testing.assert_close(network(x), expected)
    assert network.spec.stride == (4, 4)
    assert network.spec.minimum_size == (8, 8)


def test_values_are_brought_to_the_networks_scale_and_back() -> None:
    network = made(
        nn.Identity(),
        before=[["linear", 2.0, 1.0], ["clip", 0.0, 2.0]],
        after=[["above", 1.5], ["linear", 3.0, 0.0]],
    )
    x = torch.tensor([[[[-1.0, 0.2, 0.3, 9.0]]]])
    assert network(x).ravel().tolist() == [0.0, 0.0, 3.0, 3.0]
    softmax = made(Colours(), in_channels=3, out_channels=3, after=[["softmax"]])
    torch.testing.assert_close(softmax(x), torch.full_like(x, 1 / 3))


class WholeImage(nn.Module):
    """A norm over the image: every voxel affects every other one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean((2, 3), keepdim=True) * self.weight


def test_a_network_that_sees_everything_goes_over_large_images_in_windows() -> None:
    network = made(WholeImage(), local=False, window=(16, 16), overlap=6)
    small = torch.rand(1, 1, 16, 9)
    torch.testing.assert_close(network(small), small - small.mean())
    flat = torch.full((1, 1, 40, 33), 5.0)
    torch.testing.assert_close(network(flat), torch.zeros_like(flat))
    # A local network in windows: where weights overlap, nothing is lost.
    plain = made(nn.Identity(), local=False, window=(16, 12), overlap=5)
    x = torch.rand(2, 1, 53, 12)
    torch.testing.assert_close(plain(x), x)
    doubled = made(
        Picky(), local=False, window=(12, 8), overlap=3, upscale_factor=2,
        multiple_of=(4, 4), minimum_size=(8, 8),
    )  # fmt: skip
    torch.testing.assert_close(
        doubled(x), functional.interpolate(x, scale_factor=2, mode="nearest")
    )


def test_windows_bound_the_memory_that_is_reckoned_with() -> None:
    network = made(WholeImage(), local=False, window=(256, 256), overlap=32)
    cost = measure_cost(network)
    whole = cost.counted(256 * 256)
    assert cost.counted(1024 * 1024) < whole + 13 * 1024 * 1024
    for n_voxels in (100, 256 * 256, 3000 * 3000):
        nbytes = int(cost.peak(n_voxels)) + 1
        assert cost.max_voxels(nbytes) == pytest.approx(n_voxels, rel=0.01, abs=2)


SHAPES = [
    {},
    {"conv_dims": 3, "depth": 1},
    {"n2v2": True, "use_batch_norm": False},
    {"residual": True, "final_activation": "Tanh"},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_careamics_unet_is_exact_in_tiles(shape: dict[str, Any]) -> None:
    torch.manual_seed(0)
    settings = careamics.UNetSettings.create(num_channels_init=2, **shape)
    inner = careamics.CareamicsUNet(settings)
    for name, parameter in inner.named_parameters():
        if name.endswith("bias"):
            # otherwise, all rectifiers may be inactive
            nn.init.constant_(parameter, 0.3)
    n, multiple = settings.conv_dims, 2**settings.depth
    config = NetworkConfig.create(
        format="careamics",
        settings=settings.model_dump(),
        ndim=n,
        multiple_of=(multiple,) * n,
    )
    network = ForeignNetwork(config, inner).eval()
    found = probe(network)
    assert found.local
    assert found.stride == (multiple,) * n
    config = config.model_copy(update={"halo": found.halo, "stride": found.stride})
    network = ForeignNetwork(config, inner).eval()
    check_spec(network)
    weights = network.state_dict()
    assert "inner.encoder.encoder_blocks.0.conv1.weight" in weights
    assert "inner.decoder.bottleneck.batch_norm2.running_var" in weights
    again = build(config, weights).eval()
    again.load_state_dict(weights)
    x = torch.rand(1, 1, *(3 * multiple + 1,) * n)
    assert torch.equal(network(x), again(x))


def test_channels_that_go_apart_stay_apart() -> None:
    settings = careamics.UNetSettings.create(
        num_channels_init=2, in_channels=2, num_classes=2, depth=1
    )
    network = careamics.CareamicsUNet(settings).eval()
    x = torch.rand(1, 2, 8, 8)
    other = x.clone()
    other[:, 1] += 1
    with torch.no_grad():
        first, second = network(x), network(other)
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.equal(first[:, 1], second[:, 1])
