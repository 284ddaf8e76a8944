"""A result that agrees with its scan, whatever the network's output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.noise import Noise
from napari_geosr.networks import build_network
from napari_geosr.networks.spec import NetworkSpec
from napari_geosr.networks.wrappers.consistent import (
    BOUND,
    MAX_EXCESS,
    ConsistentUpscaling,
    Sharpness,
    _noise_of_parts,
    _smoothed,
    blurred,
    parabola_weights,
    upscaled_by_parabolas,
)


class Anything(nn.Module):
    """Outputs noise, or two grey values: as wrong as possible."""

    def __init__(self, ndim: int, factor: int, kind: str = "noise") -> None:
        super().__init__()
        self.factor, self.kind = factor, kind
        self.spec = NetworkSpec(
            "ZYX"[-ndim:], (0,) * ndim, (1,) * ndim, (factor,) * ndim
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = x[:, :1]
        for axis in range(2, x.ndim):
            fine = fine.repeat_interleave(self.factor, dim=axis)
        if self.kind == "phases":
            return torch.sign(fine)
        generator = torch.Generator().manual_seed(1)
        return 3 * torch.randn(fine.shape, generator=generator, dtype=x.dtype)


def layer(
    network: nn.Module, excess: float = 0.0, keep: bool = False, **settings_: float
) -> ConsistentUpscaling:
    made = ConsistentUpscaling(network, **settings_)
    made.set_sharpness(Sharpness(excess, keep))
    return made


def scan_of(ndim: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 1, *(7, 9, 8)[-ndim:])
    return torch.randn(shape, generator=generator, dtype=dtype)


@settings(max_examples=25, deadline=None)
@given(
    ndim=st.sampled_from((2, 3)),
    factor=st.sampled_from((2, 4)),
    level=st.floats(0.001, 1.0),
    ratio=st.floats(0.0, 3.0),
    rho=st.floats(0.0, 0.9),
    excess=st.floats(0.0, 0.8),
    kind=st.sampled_from(("noise", "phases")),
    seed=st.integers(0, 99),
)
def test_averaged_back_the_result_is_the_scan_within_its_noise(
    ndim, factor, level, ratio, rho, excess, kind, seed
):
    network = layer(Anything(ndim, factor, kind), excess)
    noise = Noise(
        level=level,
        contrast=2.0,
        greys=(-1.0, 1.0),
        levels=(level, ratio * level),
        correlation={"z": rho, "y": rho, "x": rho},
    )
    network.set_noise(noise)
    x = scan_of(ndim, seed)
    with torch.no_grad():
        seen = network.averaged(network(x))
    most = BOUND * level * max(1.0, ratio)
    assert (x - seen).abs().max() <= most * (1 + 1e-9)


@settings(max_examples=12, deadline=None)
@given(
    ndim=st.sampled_from((2, 3)),
    factor=st.sampled_from((2, 4, 8)),
    excess=st.floats(0.0, 0.8),
    seed=st.integers(0, 99),
)
def test_without_noise_it_is_the_scan(ndim, factor, excess, seed):
    network = layer(Anything(ndim, factor), excess)
    x = scan_of(ndim, seed)
    with torch.no_grad():
        seen = network.averaged(network(x))
    torch.testing.assert_close(seen, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grey_phases_do_not_collapse(dtype):
    """A network trained on two phases, applied to a scan of five."""
    phases = torch.linspace(-1, 1, 5, dtype=dtype)
    x = phases.repeat_interleave(6)[None, None, None].expand(1, 1, 12, 30)
    plain = Anything(2, 2, "phases")
    network = ConsistentUpscaling(plain)
    network.set_noise(Noise(level=0.02, contrast=2.0))
    with torch.no_grad():
        seen, before = network.averaged(network(x)), network.averaged(plain(x))
    middle = seen[0, 0, 6, 2::6]
    assert (before[0, 0, 6, 2::6] - phases).abs().max() > 0.4
    assert (middle - phases).abs().max() < 0.02


def test_noise_alone_is_hardly_put_back():
    """A correct output is unchanged, because the residual is the noise of the scan."""

    class Truth(Anything):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(super().forward(x))

    x = 0.3 * scan_of(3, 5).repeat(1, 1, 3, 3, 3)
    network = ConsistentUpscaling(Truth(3, 2))
    network.set_noise(Noise(level=0.3, contrast=2.0))
    with torch.no_grad():
        y = network(x)
    assert float(network.averaged(y).std()) < 0.2 * 0.3


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("ndim", [2, 3])
def test_levels_of_detail_and_smooth_part(rho, ndim):
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(80,) * ndim)
    for axis in range(ndim):
        lines = np.moveaxis(noise, axis, 0)
        for i in range(1, len(lines)):
            lines[i] = rho * lines[i - 1] + np.sqrt(1 - rho**2) * lines[i]
    e = torch.from_numpy(noise)[None, None]
    smooth = _smoothed(e)
    detail_level, smooth_level = _noise_of_parts([rho] * ndim)
    inner = (..., *(slice(9, -3),) * ndim)
    assert float((e - smooth)[inner].std()) == pytest.approx(detail_level, rel=0.06)
    assert float(smooth[inner].std()) == pytest.approx(smooth_level, rel=0.06)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_upscaling_by_parabolas_keeps_averages_and_straight_lines(factor):
    line = parabola_weights(factor)
    torch.testing.assert_close(line.mean(0), torch.eye(5, dtype=line.dtype)[2])
    ramp = line @ torch.arange(-2.0, 3.0, dtype=line.dtype)
    expected = (torch.arange(factor, dtype=line.dtype) + 0.5) / factor - 0.5
    torch.testing.assert_close(ramp, expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_upscaling_by_parabolas_is_the_same_along_every_axis(ndim):
    x = scan_of(ndim, 3)
    fine = upscaled_by_parabolas(x, parabola_weights(2))
    turned = upscaled_by_parabolas(x.transpose(-1, -2), parabola_weights(2))
    turned = turned.transpose(-1, -2)
    assert fine.shape[2:] == tuple(2 * n for n in x.shape[2:])
    torch.testing.assert_close(fine, turned)
    torch.testing.assert_close(ConsistentUpscaling(Anything(ndim, 2)).averaged(fine), x)


def test_the_level_follows_the_grey_value():
    network = ConsistentUpscaling(Anything(2, 2))
    noise = Noise(2.0, 9.0, greys=(-1.0, 0.5, 2.0), levels=(1.0, 3.0, 2.0))
    network.set_noise(noise)
    grey = torch.linspace(-2, 3, 21, dtype=torch.float64)[None, None, None]
    np.testing.assert_allclose(
        network._level(grey)[0, 0, 0], noise.at(grey[0, 0, 0].numpy())
    )


def test_blur_agrees_with_scipy():
    from scipy import ndimage

    x = scan_of(3, 2)
    expected = ndimage.gaussian_filter(
        x[0, 0].numpy(), 1.3, mode="nearest", radius=int(np.ceil(3 * 1.3))
    )
    np.testing.assert_allclose(blurred(x, 1.3)[0, 0], expected, atol=1e-12)


def test_a_sharp_result_is_compared_after_the_blur():
    """An output that explains the scan by a blur alone is unchanged."""
    x = scan_of(2, 4).repeat(1, 1, 4, 4)
    plain = Anything(2, 2, "phases")
    with torch.no_grad():
        sharp = plain(x)
        seen = ConsistentUpscaling(plain).averaged(blurred(sharp, 0.5 * 2))

        class Known(Anything):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return sharp

        kept = layer(Known(2, 2), 0.5, keep=True)(seen)
        softened = layer(Known(2, 2), 0.5)(seen)
    torch.testing.assert_close(kept, sharp)
    torch.testing.assert_close(softened, blurred(sharp, 1.0))


def test_refuses_what_is_no_upscaling():
    with pytest.raises(ConfigError, match="upscale factor"):
        ConsistentUpscaling(build_network("msdnet"))
    with pytest.raises(ConfigError, match="above 0"):
        ConsistentUpscaling(Anything(2, 2), bound=0)
    with pytest.raises(ConfigError, match="deviation"):
        Sharpness(-0.1)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("ndim", [2, 3])
def test_reach_is_as_declared(ndim, keep):
    from napari_geosr.inference.receptive_field import check_spec

    made = build_network("light_sr", ndim=ndim, features=2, blocks=1, upscale_factor=2)
    network = layer(made.double(), MAX_EXCESS, keep)
    network.set_noise(Noise(level=0.1, contrast=1.0))
    found = check_spec(network)
    assert found.local
    assert found.stride == (1,) * ndim
    assert found.halo[0] >= network.spec.halo[0] - 1


def test_neighbouring_planes_are_context_alone():
    made = build_network("light_sr", ndim=2, adjacent_slices=5, features=2, blocks=1)
    network = ConsistentUpscaling(made)
    x = torch.randn(1, 5, 9, 9)
    with torch.no_grad():
        seen = network.averaged(network(x))
    torch.testing.assert_close(seen, x[:, 2:3], rtol=0, atol=1e-5)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", ["light_sr", "fsrcnn"])
@pytest.mark.parametrize(("ndim", "factor"), [(3, 2), (3, 4), (2, 8)])
def test_a_part_is_that_of_the_whole(name, ndim, factor, keep):
    """With and without a network that restores parts."""
    inner = build_network(name, ndim=ndim, upscale_factor=factor)
    for parameter in inner.parameters():
        nn.init.normal_(parameter, std=0.1)
    network = layer(inner, 0.6, keep)
    network.set_noise(Noise(level=0.3, contrast=2.0))
    size = (19, 21, 9)[3 - ndim :]
    with torch.inference_mode():
        x = torch.randn(1, 1, *size)
        whole = network(x)
        for starts, sizes in (
            ((9, 0, 0), (1, 21, 9)),
            ((0, 10, 3), (2, 11, 5)),
            ((18, 8, 0), (1, 6, 1)),
        ):
            places = zip(starts[3 - ndim :], sizes[3 - ndim :], strict=True)
            core = tuple(slice(a * factor, (a + n) * factor) for a, n in places)
            difference = network.restore_core(x, core) - whole[(..., *core)]
            assert difference.abs().max() < 1e-5 * whole.std()
