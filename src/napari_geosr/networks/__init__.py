"""Network architectures, one a file, found by file name.

A network module offers ``NetworkConfig`` (a `napari_geosr.core.config.Config`) and
``build(config) -> torch.nn.Module`` whose result has a ``spec`` attribute, a
`napari_geosr.networks.spec.NetworkSpec`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_geosr.core.registry import Registry

if TYPE_CHECKING:
    from torch import nn

NETWORKS = Registry(
    package="napari_geosr.networks",
    group="napari_geosr.networks",
    noun="network",
    not_entries=frozenset({"spec"}),
)


def build_network(name: str, /, **kwargs: Any) -> nn.Module:
    """Build the network registered as `name` from its config's fields."""
    module = NETWORKS.load(name)
    network: nn.Module = module.build(module.NetworkConfig.create(**kwargs))
    return network
