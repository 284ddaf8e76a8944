from __future__ import annotations

import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.networks import build_network
from napari_geosr.networks.layers.upsampling import pixel_shuffle
from napari_geosr.networks.resnet import merge_voxels, pad_to


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_merging_undoes_the_shuffle(axes: int, factor: int) -> None:
    x = torch.randn(2, 3, *(factor * m for m in (2, 3, 4)[:axes]))
    merged = merge_voxels(x, factor)
    assert merged.shape == (2, 3 * factor**axes, *(2, 3, 4)[:axes])
    assert torch.equal(pixel_shuffle(merged, factor), x)


def test_in_a_plane_it_is_torchs_own() -> None:
    x = torch.randn(2, 3, 8, 12)
    theirs = torch.nn.functional.pixel_unshuffle(x, 4)
    assert torch.equal(merge_voxels(x, 4), theirs)


def test_padding_repeats_the_last_voxels() -> None:
    x = torch.arange(5.0).view(1, 1, 1, 5)
    padded = pad_to(x, 4)
    assert padded.shape == (1, 1, 4, 8)
    assert padded[0, 0, 3].tolist() == [0, 1, 2, 3, 4, 4, 4, 4]


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("ndim", [2, 3])
def test_default_networks_are_light(ndim: int, factor: int) -> None:
    network = build_network("resnet", ndim=ndim, upscale_factor=factor)
    assert sum(p.numel() for p in network.parameters()) < 1_000_000


def test_the_skip_is_the_centre_plane() -> None:
    network = build_network("resnet", adjacent_slices=3, blocks=1, features=4)
    with torch.no_grad():
        network.tail.weight.zero_()
        x = torch.randn(1, 3, 7, 9)
        assert torch.equal(network(x), x[:, 1:2])


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="merge"):
        build_network("resnet", merge=3)
    with pytest.raises(ConfigError, match="odd"):
        build_network("resnet", adjacent_slices=4)
