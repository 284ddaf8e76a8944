"""Requirements of every registered network, including those of third parties."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from network_variants import CASES as VARIANTS
from safetensors.torch import load, save
from torch import nn

from napari_geosr.networks import NETWORKS, build_network

CASES = [pytest.param(name, kwargs, id=label) for name, kwargs, label in VARIANTS]


@pytest.fixture
def network(request: pytest.FixtureRequest) -> nn.Module:
    """A network with random weights everywhere, zero-initialised layers included."""
    name, kwargs = request.param
    torch.manual_seed(0)
    made = build_network(name, **kwargs).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3)
    return made


every = pytest.mark.parametrize(
    "network", [pytest.param(c.values, id=c.id) for c in CASES], indirect=True
)


def _input(network: nn.Module, size: tuple[int, ...], **options: Any) -> torch.Tensor:
    n = len(network.spec.axes)
    return torch.randn(1, network.spec.adjacent_slices, *size[:n], **options)


@every
@pytest.mark.parametrize("size", [(8, 8, 8), (7, 9, 5), (1, 1, 1), (3, 2, 13)])
def test_forward_has_the_right_shape(network: nn.Module, size: tuple[int, ...]) -> None:
    x = _input(network, size)
    with torch.no_grad():
        y = network(x)
    factors = network.spec.upscale_factor
    expected = tuple(s * n for s, n in zip(factors, size, strict=False))
    assert y.shape == (1, 1, *expected)
    assert torch.isfinite(y).all()


@every
def test_samples_of_a_batch_do_not_mix(network: nn.Module) -> None:
    network = network.double()
    x = [_input(network, (6, 7, 8), dtype=torch.float64) for _ in range(2)]
    both = torch.cat(x)
    with torch.no_grad():
        together = network(both)
        alone = torch.cat([network(both[:1]), network(both[1:])])
    torch.testing.assert_close(together, alone, rtol=1e-11, atol=1e-11)


@every
def test_gradients_are_finite_and_reach_all_weights(network: nn.Module) -> None:
    x = _input(network, (6, 7, 8), requires_grad=True)
    network(x).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@every
def test_training_and_inference_give_the_same(network: nn.Module) -> None:
    network = network.double()
    x = _input(network, (6, 9, 11), dtype=torch.float64)
    with torch.no_grad():
        inferred = network(x)
    torch.testing.assert_close(network(x).detach(), inferred, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "kwargs"), [c.values for c in CASES])
def test_state_round_trip(name: str, kwargs: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first, second = build_network(name, **kwargs), build_network(name, **kwargs)
    state = {k: t.contiguous() for k, t in first.state_dict().items()}
    second.load_state_dict(load(save(state)))
    x = _input(first, (5, 6, 7))
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(("name", "kwargs"), [c.values for c in CASES])
def test_parameter_count_follows_the_formula(name: str, kwargs: dict[str, Any]) -> None:
    module = NETWORKS.load(name)
    if not hasattr(module, "parameter_count"):
        pytest.skip(f"{name} offers no formula for its number of parameters")
    config = module.NetworkConfig.create(**kwargs)
    made = module.build(config)
    found = sum(p.numel() for p in made.parameters())
    assert found == module.parameter_count(config)
    beside = dict(made.named_buffers())
    state = made.state_dict()
    assert found == sum(t.numel() for name, t in state.items() if name not in beside)


@every
def test_halo_is_where_a_nan_stops_spreading(network: nn.Module) -> None:
    """A NaN voxel affects the halo along every axis, and nothing else.

    With strides, the reach depends on the position in their grid: the largest counts,
    and the halo may be rounded up to whole strides.
    """
    spec = network.spec
    if not spec.local:
        pytest.skip("uses statistics of the whole image")
    for axis, (halo, stride, factor) in enumerate(
        zip(spec.halo, spec.stride, spec.upscale_factor, strict=True)
    ):
        reach = 0
        for phase in range(stride):
            middle = up(halo + 2, stride) + phase
            size = [up(5, n) for n in spec.stride]
            size[axis] = up(middle + halo + 3, stride)
            x = torch.zeros(1, spec.adjacent_slices, *size)
            index = [slice(None)] * x.ndim
            index[2 + axis] = middle
            x[tuple(index)] = torch.nan
            with torch.no_grad():
                bad = torch.isnan(network(x))[0, 0]
            found = torch.nonzero(bad.movedim(axis, 0).flatten(1).any(1))
            low, high = int(found.min()), int(found.max())
            if stride == 1:
                assert low // factor == middle - halo
                assert high // factor == middle + halo
            reach = max(reach, middle - low // factor, high // factor - middle)
        assert halo - stride < reach <= halo


def up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@every
def test_tile_is_part_of_the_whole(network: nn.Module) -> None:
    """A window with the halo around a core reproduces the core of the whole, in
    float64.
    """
    network = network.double()
    spec = network.spec
    if not spec.local:
        pytest.skip("uses statistics of the whole image")
    size = tuple(2 * h + 7 for h in spec.halo)
    x = _input(network, size, dtype=torch.float64)
    with torch.no_grad():
        whole = network(x)
        for first in (0, 2, 5):
            core = [slice(first, first + 2)] * len(size)
            window, keep, place = [], [], []
            for part, h, n, s, stride in zip(
                core, spec.halo, size, spec.upscale_factor, spec.stride, strict=True
            ):
                start = max(0, part.start - h) // stride * stride
                window.append(slice(start, min(n, up(part.stop + h, stride))))
                keep.append(slice(s * (part.start - start), s * (part.stop - start)))
                place.append(slice(s * part.start, s * part.stop))
            tile = network(x[(..., *window)])[(..., *keep)]
            scale = whole.abs().max()
            assert (tile - whole[(..., *place)]).abs().max() <= 1e-12 * scale


@pytest.mark.parametrize(("name", "kwargs"), [c.values for c in CASES])
def test_spec_is_complete(name: str, kwargs: dict[str, Any]) -> None:
    spec = build_network(name, **kwargs).spec
    n = len(spec.axes)
    assert spec.axes in ("YX", "ZYX")
    for part in (spec.halo, spec.stride, spec.upscale_factor, spec.minimum_size):
        assert len(part) == n
    assert spec.adjacent_slices % 2 == 1


@pytest.mark.parametrize("name", NETWORKS.names())
def test_a_hyphen_is_as_good(name: str) -> None:
    assert NETWORKS.load(name.replace("_", "-")) is NETWORKS.load(name)
