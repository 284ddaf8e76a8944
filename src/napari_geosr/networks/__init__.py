"""Network architectures: one module each, found by file name.

The module of a network provides ``NetworkConfig`` (a `napari_geosr.core.config.Config`)
and ``build(config) -> torch.nn.Module``. The result of ``build`` has a ``spec``
attribute, a `napari_geosr.networks.spec.NetworkSpec`.

If a setting is added to a network later, its default must reproduce the network without
the setting, because model cards contain only the settings that existed when they were
written. Other defaults for new training runs belong in ``training_defaults``
(`napari_geosr.learning.architecture`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import lazy_loader

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.registry import Registry
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.networks.classical import FILTERS
from napari_geosr.networks.sparse import SPARSE_NETWORKS

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.core.noise import Noise
    from napari_geosr.networks import foreign
    from napari_geosr.networks.layers.mixed_scale import plain_layers
    from napari_geosr.networks.layers.noise_map import level_map
    from napari_geosr.networks.layers.upsampling import cubic_kernel, interpolated
    from napari_geosr.networks.wrappers import (
        ConsistentUpscaling,
        NoiseBound,
        Sharpness,
    )

__all__ = [
    "FOREIGN",
    "NETWORKS",
    "ConsistentUpscaling",
    "NoiseBound",
    "Sharpness",
    "all_settings",
    "build_network",
    "cubic_kernel",
    "foreign",
    "interpolated",
    "level_map",
    "needs_noise",
    "parameter_count",
    "plain_layers",
    "set_network_noise",
    "set_scan_sharpness",
]

# These modules import torch, so they are loaded on first use.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submodules=["foreign"],
    submod_attrs={
        "layers.mixed_scale": ["plain_layers"],
        "layers.noise_map": ["level_map"],
        "layers.upsampling": ["cubic_kernel", "interpolated"],
        "wrappers": ["ConsistentUpscaling", "NoiseBound", "Sharpness"],
    },
)

NETWORKS = Registry(
    package="napari_geosr.networks",
    group="napari_geosr.networks",
    noun="network",
    not_entries=frozenset(
        {
            "spec",
            "foreign",
            "foreign_formats",
            "classical",
            "layers",
            "sparse",
            "wrappers",
        }
    ),
)
#: Name of third-party networks on cards; `napari_geosr.networks.foreign` builds them
#: from their weights. They cannot be trained, so they are not in `NETWORKS`.
FOREIGN = "foreign"


def all_settings(name: str, kwargs: AnyMapping) -> AnyDict:
    """Return the settings of a card (`kwargs`), completed with a network's defaults.

    Raises
    ------
    ConfigError
        If there is no such network, or it has no such setting.
    """
    if name in FILTERS.modules():
        raise ConfigError(
            f"{name!r} is a classical filter: it has no weights, so there is nothing "
            "to train. Choose a trained model."
        )
    if name == FOREIGN:
        raise ConfigError(
            "A third-party network can restore, but cannot be trained. Choose a "
            "model that was trained with napari-geosr."
        )
    config = NETWORKS.load(name).NetworkConfig.from_mapping(kwargs)
    values: AnyDict = config.model_dump(mode="json")
    return values


def needs_noise(network: nn.Module) -> bool:
    """Whether a network, or a part of it, uses the noise of the scan."""
    return any(getattr(module, "needs_noise", False) for module in network.modules())


def set_network_noise(network: nn.Module, noise: Noise) -> None:
    """Pass the noise of the scan to a network, or to its submodules that need it.

    Parameters
    ----------
    noise : Noise
        Noise in the grey scale of the network's input.
    """
    own: Callable[[Noise], None] | None = getattr(network, "set_noise", None)
    if own is not None:
        own(noise)
        return
    for inner in network.children():
        set_network_noise(inner, noise)


def set_scan_sharpness(network: nn.Module, sharpness: float | None) -> None:
    """Pass the sharpness of the scan to a network, or to its submodules that use it.

    Parameters
    ----------
    sharpness : float or None
        As measured by `napari_geosr.measure.resolution.edge_sharpness`; None if it is
        unknown.
    """
    for module in network.modules():
        own = getattr(module, "set_scan_sharpness", None)
        if own is not None:
            own(sharpness)


def build_network(name: str, /, **kwargs: Any) -> nn.Module:
    """Build a network, sparse network or filter from the fields of its settings."""
    module = _module(name)
    network: nn.Module = module.build(module.NetworkConfig.create(**kwargs))
    return network


def parameter_count(name: str, /, **kwargs: Any) -> int | None:
    """Return the number of parameters of a network or filter; None if unknown."""
    module = _module(name)
    if not hasattr(module, "parameter_count"):
        return None
    count: int = module.parameter_count(module.NetworkConfig.create(**kwargs))
    return count


def _module(name: str) -> Any:
    others = (FILTERS, SPARSE_NETWORKS)
    registry = next((r for r in others if name in r.modules()), NETWORKS)
    return registry.load(name)
