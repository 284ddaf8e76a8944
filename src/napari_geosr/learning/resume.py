"""What may not change between a checkpoint and the training that resumes from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from napari_geosr.core.errors import TrainingError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.patches import Scene
from napari_geosr.physics.simulated import is_simulated

#: Settings that decide which patches are learned from and which are held out: with
#: others the training would learn from what it is validated on, or become another.
_OF_THE_DATA = ("seed", "validation", "augment", "sampling", "patch")


def fixed_settings(config: TrainingConfig, scenes: Iterable[Scene]) -> AnyDict:
    """What may not change until the end, as a checkpoint keeps it.

    Of files only how many there are: their place may change, and what is in them is
    compared elsewhere.
    """
    found: AnyDict = {n: getattr(config, n) for n in _OF_THE_DATA}
    roles: dict[str, list[str]] = {}
    for scene in scenes:
        for role, volume in scene.volumes.items():
            name = volume.name if is_simulated(volume.name) else ""
            roles.setdefault(role, []).append(name)
    return found | {"roles": roles}


def check_fixed_settings(
    config: TrainingConfig, now: AnyMapping, before: AnyMapping
) -> None:
    """Compare with what a checkpoint keeps; those of earlier releases keep nothing.

    Parameters
    ----------
    config : TrainingConfig
        Whose titles messages use.
    now, before : mapping
        Of :func:`fixed_settings`.

    Raises
    ------
    TrainingError
        With the first setting that is not what it was.
    """
    for name in (n for n in now if n in before and now[n] != before[n]):
        if name == "roles":
            changed = "other volumes than there are now"
        else:
            title = type(config).model_fields[name].title or name
            changed = f"{title.lower()} {before[name]}, now it is {now[name]}"
        raise TrainingError(
            f"This training began with {changed}: it would be a mixture of two. Put "
            "that back to go on, or start again in another folder."
        )


def not_finite(modules: Mapping[str, nn.Module]) -> str | None:
    """The name of the first module some of whose weights are not numbers, if any."""
    for name, module in modules.items():
        if not all(torch.isfinite(p).all() for p in module.parameters()):
            return name
    return None
