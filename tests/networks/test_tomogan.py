from __future__ import annotations

import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.inference.receptive_field import probe
from napari_geosr.networks import build_network
from napari_geosr.networks.tomogan import NetworkConfig, parameter_count


@pytest.mark.parametrize(("slices", "count"), [(1, 694897), (3, 694913), (5, 694929)])
def test_published_parameter_counts(slices: int, count: int) -> None:
    network = build_network("tomogan", adjacent_slices=slices)
    assert sum(p.numel() for p in network.parameters()) == count
    assert parameter_count(NetworkConfig(adjacent_slices=slices)) == count


def test_stride_and_halo() -> None:
    network = build_network("tomogan", width=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    found = probe(network)
    assert found.halo == (50, 50)
    assert found.stride == network.spec.stride == (8, 8)
    assert network.spec.halo == (56, 56)


def test_volumes_of_any_size() -> None:
    network = build_network("tomogan", ndim=3, width=2)
    with torch.no_grad():
        assert network(torch.randn(1, 1, 5, 9, 16)).shape == (1, 1, 5, 9, 16)
    count = sum(p.numel() for p in network.parameters())
    assert count == parameter_count(NetworkConfig(ndim=3, width=2))


def test_with_the_skip_it_starts_close_to_its_input() -> None:
    torch.manual_seed(0)
    network = build_network("tomogan", adjacent_slices=3, residual=True)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert (network(x) - x[:, 1:2]).std() < 0.2


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="odd"):
        build_network("tomogan", adjacent_slices=2)
    with pytest.raises(ConfigError, match="not use adjacent"):
        build_network("tomogan", ndim=3, adjacent_slices=3)
