"""Network architectures, one a file, found by file name.

A network module offers ``NetworkConfig`` (a `napari_geosr.core.config.Config`) and
``build(config) -> torch.nn.Module`` whose result has a ``spec`` attribute, a
`napari_geosr.networks.spec.NetworkSpec`.

A setting that a network gets later must do, at its default, what the network did before
there was the setting: model cards name the settings that there were when they were
written. What new trainings are to take instead stands in ``training_defaults``
(`napari_geosr.learning.architecture`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.registry import Registry

if TYPE_CHECKING:
    from torch import nn

NETWORKS = Registry(
    package="napari_geosr.networks",
    group="napari_geosr.networks",
    noun="network",
    not_entries=frozenset({"spec", "foreign", "foreign_formats"}),
)
#: What cards call a network that others made; `napari_geosr.networks.foreign` builds it
#: around its weights. It cannot be trained, and so is none of `NETWORKS`.
FOREIGN = "foreign"


def all_settings(name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a network of which `kwargs`, those of a card, name some.

    Raises
    ------
    ConfigError
        If there is no such network, or it has no such setting.
    """
    if name == FOREIGN:
        raise ConfigError(
            "A network that others made restores, but cannot be trained here. Choose a "
            "model that napari-geosr trained."
        )
    config = NETWORKS.load(name).NetworkConfig.from_mapping(kwargs)
    values: dict[str, Any] = config.model_dump(mode="json")
    return values


def build_network(name: str, /, **kwargs: Any) -> nn.Module:
    """Build the network registered as `name` from its config's fields."""
    module = NETWORKS.load(name)
    network: nn.Module = module.build(module.NetworkConfig.create(**kwargs))
    return network
