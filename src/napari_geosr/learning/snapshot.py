"""The state of a training as a checkpoint holds it, and how a training goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_geosr.core.errors import TrainingError
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from napari_geosr.learning.trainer import Trainer


#: Settings that decide which patches are learned from and which are kept apart: with
#: others the training would go on with what it is judged by, or become another.
_OF_THE_DATA = ("seed", "validation", "augment", "sampling", "patch")


def take(trainer: Trainer) -> dict[str, Any]:
    """Everything that the next step depends on."""
    unwrap = trainer.accelerator.unwrap_model
    modules = trainer.method.modules
    return {
        "modules": {name: unwrap(m).state_dict() for name, m in modules.items()},
        "average": trainer.average.state_dict(),
        "optimisers": {n: o.state_dict() for n, o in trainer.optimisers.items()},
        "step": trainer.step,
        "seconds": trainer.seconds,
        "parts": trainer.parts,
        "method": trainer.method.state(),
        "settings": _settings(trainer),
    }


def put_back(trainer: Trainer, state: dict[str, Any]) -> None:
    """Go on from what :func:`take` gave.

    Raises
    ------
    TrainingError
        If it is of other settings.
    """
    _refuse_other_settings(trainer, state.get("settings", {}))
    unwrap = trainer.accelerator.unwrap_model
    try:
        for name, module in trainer.method.modules.items():
            unwrap(module).load_state_dict(state["modules"][name])
        trainer.average.load_state_dict(state["average"])
        for name, optimiser in trainer.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise TrainingError(
            "The checkpoint does not fit these settings: network or method were "
            "changed. Start again in another folder."
        ) from error
    trainer.method.restore_state(state["method"])
    trainer.step, trainer.seconds = state["step"], state["seconds"]
    trainer.first_step = trainer.step
    trainer.parts = state["parts"]


def _settings(trainer: Trainer) -> dict[str, Any]:
    """What may not change until the end, as a checkpoint keeps it.

    Of files only how many there are: their place may change, and what is in them is
    compared elsewhere.
    """
    found: dict[str, Any] = {n: getattr(trainer.config, n) for n in _OF_THE_DATA}
    roles: dict[str, list[str]] = {}
    for scene in trainer.patches.scenes:
        for role, volume in scene.volumes.items():
            name = volume.name if is_simulated(volume.name) else ""
            roles.setdefault(role, []).append(name)
    return found | {"roles": roles}


def _refuse_other_settings(trainer: Trainer, before: dict[str, Any]) -> None:
    """Compare with what a checkpoint keeps; those of earlier releases keep nothing.

    Raises
    ------
    TrainingError
        With the first setting that is not what it was.
    """
    now = _settings(trainer)
    for name in (n for n in now if n in before and now[n] != before[n]):
        if name == "roles":
            said = "other volumes than there are now"
        else:
            title = type(trainer.config).model_fields[name].title or name
            said = f"{title.lower()} {before[name]}, now it is {now[name]}"
        raise TrainingError(
            f"This training began with {said}: it would be a mixture of two. Put that "
            "back to go on, or start again in another folder."
        )


def start_from(trainer: Trainer, weights: dict[str, torch.Tensor]) -> None:
    """Begin with the weights of a trained model.

    Raises
    ------
    TrainingError
        If they are of another network.
    """
    result = trainer.method.modules[trainer.method.result]
    network = trainer.accelerator.unwrap_model(result)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(
            "The model to start from has another network than these settings. Set "
            "network, dimensions and adjacent slices to those of the model."
        ) from error
    trainer.average.load_state_dict(network.state_dict())


def odd_weights(trainer: Trainer) -> str:
    """The name of a module with weights that are no numbers; empty if there is none."""
    modules = (*trainer.method.modules.items(), ("average", trainer.average))
    for name, module in modules:
        if not all(torch.isfinite(p).all() for p in module.parameters()):
            return name
    return ""
