"""Noise information of each patch for a noise-bounded network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.methods.noise2noise import Config
from napari_geosr.learning.noise_input import apply_network, noise_arrays
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.networks import build_network, set_network_noise
from napari_geosr.networks.wrappers.bound import NoiseBound

TINY = {"ndim": 2, "adjacent_slices": 3, "features": 4, "blocks": 1}
NOISE = Noise(
    0.4,
    2.0,
    greys=(-1.0, 1.5),
    levels=(0.2, 0.6),
    correlation={"z": 0.1, "y": 0.3, "x": 0.5},
)


def wild(network: Any) -> Any:
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    return network.eval()


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_patch_is_restored_as_a_volume_of_that_noise(wrapped: bool) -> None:
    """The result is the same with noise from the sample or from `set_network_noise`."""
    network = wild(build_network("noise_bounded", **TINY))
    if wrapped:
        inner = build_network("msdnet", ndim=2, adjacent_slices=3, depth=2, width=1)
        network = NoiseBound(wild(inner), 4.0)
    x = torch.randn(2, 3, 16, 16)
    other = NOISE.scaled(0.3)
    told = [noise_arrays(NOISE), noise_arrays(other)]
    batch = {k: torch.from_numpy(np.stack([t[k] for t in told])) for k in told[0]}
    with torch.no_grad():
        found = apply_network(network, {"source": x, **batch})
        for i, noise in enumerate((NOISE, other)):
            set_network_noise(network, noise)
            torch.testing.assert_close(found[i : i + 1], network(x[i : i + 1]))
    assert not torch.allclose(found, x[:, 1:2])


def test_others_are_given_the_patch_alone() -> None:
    network = wild(build_network("msdnet", ndim=2, depth=2, width=1))
    x = torch.randn(1, 1, 16, 16)
    told = {k: torch.from_numpy(v)[None] for k, v in noise_arrays(NOISE).items()}
    torch.testing.assert_close(
        apply_network(network, {"source": x, **told}), network(x)
    )


def test_samples_bring_the_noise_of_their_input_as_they_are_turned() -> None:
    """The volume increases by 1 per voxel along X and is constant along Y, so that a
    rotation is visible.
    """
    ramp = np.tile(np.arange(48.0), (12, 48, 1))
    config = Config.create(source=["a"], target=["b"], patch=16, dimensions="2D")
    patches = Patches(
        {"source": [Volume(ramp, "ZYX")], "target": [Volume(ramp, "ZYX")]}, config
    )
    grey = patches.grey["source"]
    raw = NOISE.standardised(-grey.mean / grey.std, 1 / grey.std)
    patches.set_noise({"source": [raw], "target": [raw.scaled(2)]})
    seen = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        drawn = patches.draw(rng, ("source", "target"), context_of="target")
        np.testing.assert_allclose(drawn["levels"][[0, -1]], [0.4, 1.2], rtol=1e-5)
        steep = np.abs(np.diff(drawn["source"][0], axis=1)).mean() > 1e-3
        along = [0.1, 0.3, 0.5] if steep else [0.1, 0.5, 0.3]
        np.testing.assert_allclose(drawn["correlation"], along, rtol=1e-6)
        seen.add(bool(steep))
    assert seen == {True, False}


@pytest.mark.parametrize("name", METHODS.names())
def test_methods_that_change_more_than_noise_refuse_such_networks(name: str) -> None:
    kind = METHODS.load(name).Method
    files: dict[str, Any] = {"source": ["a", "b"]}
    if "target" in kind.roles:
        files["target"] = ["c", "d"]
    if name == "adapt":
        files["from_model"] = "ct-denoise"
    config = config_class(name).create(**files, network="noise_bounded")
    if name in ("noise2noise", "noise2inverse", "noise2void", "supervised", "adapt"):
        kind.check(config)
        return
    with pytest.raises(ConfigError, match="choose another network"):
        kind.check(config)
