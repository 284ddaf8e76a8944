"""Build the network of a training run from its settings.

The capabilities of a network follow from the fields of its ``NetworkConfig``, never
from its name: ``adjacent_slices`` (2.5D), ``upscale_factor`` with the supported factors
(``Literal``), ``out_channels`` (labels), ``dilations`` and ``bound`` (changes bounded
by the noise level).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.networks import NETWORKS

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from torch import nn


def network_fields(network: str) -> dict[str, FieldInfo]:
    """Return the fields of a network's settings, by name.

    Raises
    ------
    ConfigError
        If there is no such network.
    """
    fields: dict[str, FieldInfo] = NETWORKS.load(network).NetworkConfig.model_fields
    return fields


def upscale_factors(network: str) -> tuple[int, ...]:
    """Return a network's upscale factors: (1,) if it has none, () if all are valid."""
    field = network_fields(network).get("upscale_factor")
    return (1,) if field is None else tuple(get_args(field.annotation))


def networks_supporting(has_capability: Callable[[str], bool]) -> list[str]:
    """Return the names of the trainable networks for which `has_capability` is true."""
    names = []
    for name in NETWORKS.names():
        try:
            is_trainable = not any(
                f.is_required() for f in network_fields(name).values()
            )
        except ConfigError:  # an unusable network of another package
            continue
        if is_trainable and has_capability(name):
            names.append(name)
    return names


def check_network(config: TrainingConfig) -> None:
    """Reject a network that is not suitable for training.

    Raises
    ------
    ConfigError
        If the network is not suitable; the message names alternatives.
    """
    fields, network = network_fields(config.network), config.network
    if config.planes > 1 and "adjacent_slices" not in fields:
        raise ConfigError(
            f"{network} does not use adjacent slices: set --dimensions to 3D to train "
            "on volumes, or to 2D to train on single slices."
        )
    _check_factor(config)


def network_bound(network: str, kwargs: AnyMapping) -> float | None:
    """Return a network's bound, in noise levels; None if it is unbounded."""
    if "bound" not in network_fields(network):
        return None
    return float(kwargs["bound"])


def _check_factor(config: TrainingConfig) -> None:
    network, offered = config.network, upscale_factors(config.network)
    has_factor = "upscale_factor" in type(config).model_fields
    chosen = getattr(config, "upscale_factor", None) if has_factor else 1
    option = _number(config.network_options.get("upscale_factor"))
    if has_factor and None not in (chosen, option) and chosen != option:
        raise ConfigError(
            f"The upscale factor is given twice: {chosen}, and {option} in the "
            "network's options. Remove one."
        )
    if not offered:
        return
    if not has_factor and (1 not in offered or option not in (None, 1)):
        if config.from_model:
            raise ConfigError(
                f"The model {config.from_model} increases the resolution, but this "
                "method keeps the voxel size: choose a denoiser, such as ct-denoise."
            )
        default = type(config).model_fields["network"].default
        raise ConfigError(
            f"{network} increases the resolution, but this method keeps the voxel "
            f"size: choose another network, such as {default}."
        )
    factor = option if chosen is None else chosen
    if factor is None or factor in offered:
        return
    if offered == (1,):
        raise ConfigError(_unchanged_voxels_message(config, factor))
    supported = format_alternatives(offered)
    raise ConfigError(
        f"{network} supports upscale factors of {supported}, not {factor}: set "
        f"--upscale-factor to {supported}, or choose another network."
    )


def _number(value: object) -> Any:
    """Convert a number that the command line passes as text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _unchanged_voxels_message(config: TrainingConfig, factor: int) -> str:
    supporting = networks_supporting(lambda name: factor in upscale_factors(name))
    default = type(config).model_fields["network"].default
    first = default if default in supporting else next(iter(supporting), "")
    others = [name for name in supporting if name != first]
    alternatives = f" (or {format_alternatives(others)})" if others else ""
    return (
        f"{config.network} does not change the voxel size: for targets with voxels "
        f"{factor} times smaller, set --network {first}{alternatives}, and "
        "--dimensions 3D if they are also smaller along Z."
    )


def format_alternatives(values: list[str] | tuple[int, ...]) -> str:
    """Format a list of alternatives, such as ``"2, 4 or 8"``."""
    *front, last = map(str, values)
    return f"{', '.join(front)} or {last}" if front else last


def network_kwargs(config: TrainingConfig, **more: Any) -> AnyDict:
    """Return the network's settings: training defaults, overridden by the user's.

    Class variables of a ``NetworkConfig`` may define ``training_defaults`` (a dict) and
    the names of the fields for *layers* and *width* (``layers_field``,
    ``width_field``). The upscale factor is that of the method, if the method has one.

    Parameters
    ----------
    **more
        Settings required by the method, such as ``out_channels``.

    Raises
    ------
    ConfigError
        If the network has no such setting, or a value is invalid.
    """
    kind = NETWORKS.load(config.network).NetworkConfig
    values: AnyDict = dict(getattr(kind, "training_defaults", {}))
    values["ndim"] = config.ndim
    if config.planes > 1:
        values["adjacent_slices"] = config.planes
    factor = getattr(config, "upscale_factor", None)
    if factor is not None and (factor > 1 or "upscale_factor" in kind.model_fields):
        values["upscale_factor"] = factor
    for setting in ("layers", "width"):
        chosen = getattr(config, setting)
        if chosen is None:
            continue
        field = getattr(kind, f"{setting}_field", None)
        if field is None:
            raise ConfigError(
                f"The network {config.network!r} has no setting {setting}."
            )
        values[field] = chosen
    values |= config.network_options | more
    unknown = sorted(values.keys() - kind.model_fields.keys())
    if unknown:
        raise ConfigError(
            f"The network {config.network!r} has no setting {', '.join(unknown)}. It "
            f"has: {', '.join(kind.model_fields)}."
        )
    checked: AnyDict = kind.create(**values).model_dump(mode="json")
    return checked


def merged_for_export(network: nn.Module, kwargs: AnyDict) -> tuple[nn.Module, AnyDict]:
    """Return the network as stored in a model, and its settings.

    A network with a method ``merged()`` is stored in the lighter form that this method
    returns.
    """
    merge: Callable[[], nn.Module] | None = getattr(network, "merged", None)
    if merge is None:
        return network, kwargs
    lighter: Any = merge()
    return lighter, lighter.config.model_dump(mode="json")


def training_remark(network: nn.Module) -> str:
    """Return a remark that a network adds to a training run; usually empty."""
    return str(getattr(network, "remark", ""))
