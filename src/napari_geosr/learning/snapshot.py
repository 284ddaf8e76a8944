"""The state of a training as a checkpoint holds it, and how a training goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_geosr.core.errors import TrainingError

if TYPE_CHECKING:
    from napari_geosr.learning.trainer import Trainer


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
    }


def put_back(trainer: Trainer, state: dict[str, Any]) -> None:
    """Go on from what :func:`take` gave.

    Raises
    ------
    TrainingError
        If it is of other settings.
    """
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
