"""From a training's settings to the network that it trains."""

from __future__ import annotations

from typing import Any

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.networks import NETWORKS


def network_kwargs(config: TrainingConfig, **more: Any) -> dict[str, Any]:
    """Settings of the network: its defaults for training, then what a person chose.

    A network's ``NetworkConfig`` may say, as class variables, ``training_defaults`` (a
    dict) and which of its fields are meant by *layers* and *width* (``layers_field``,
    ``width_field``).

    Parameters
    ----------
    **more
        What the method demands, e.g. ``upscale_factor``.

    Raises
    ------
    ConfigError
        If the network has no such setting, or the values do not fit.
    """
    kind = NETWORKS.load(config.network).NetworkConfig
    values: dict[str, Any] = dict(getattr(kind, "training_defaults", {}))
    values["ndim"] = config.ndim
    if config.planes > 1:
        values["adjacent_slices"] = config.planes
    for setting in ("layers", "width"):
        chosen = getattr(config, setting)
        if chosen is None:
            continue
        field = getattr(kind, f"{setting}_field", None)
        if field is None:
            raise ConfigError(
                f"The network {config.network!r} has no {setting} to set."
            )
        values[field] = chosen
    values |= config.network_options | more
    unknown = sorted(values.keys() - kind.model_fields.keys())
    if unknown:
        raise ConfigError(
            f"The network {config.network!r} has no setting {', '.join(unknown)}. It "
            f"has: {', '.join(kind.model_fields)}."
        )
    checked: dict[str, Any] = kind.create(**values).model_dump(mode="json")
    return checked
