"""Ensembles of several models for the same task.

Lakshminarayanan, Pritzel, Blundell. Simple and scalable predictive uncertainty
estimation using deep ensembles. NeurIPS (2017). arXiv:1612.01474
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError
from napari_geosr.inference.memory import network_spec
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from napari_geosr.inference.members import EnsembleInputs
    from napari_geosr.inference.members._networks import EnsembleNetwork
    from napari_geosr.models.bundle import Model

TITLE = "several models"
HELP = "models of the same task, e.g. trained with different seeds"
NEEDS_OTHERS = True


def make(inputs: EnsembleInputs) -> EnsembleNetwork:
    """Return an ensemble with one member per model.

    Raises
    ------
    ConfigError
        If the models are for different tasks, or one is given twice.
    """
    from napari_geosr.inference.members._networks import AdaptedNetwork, EnsembleNetwork

    first, *others = inputs.models
    for model in inputs.models:
        if not model.card.has_weights:
            raise ConfigError(
                f"{model.card.name!r} is a classical filter: an ensemble measures how "
                "much trained models differ. Name trained models."
            )
    for i, model in enumerate(others, start=1):
        _check(first, model)
        if any(
            model.card.weights_sha256 == known.card.weights_sha256
            for known in inputs.models[:i]
        ):
            raise ConfigError(
                f"The model {model.card.name!r} is given twice: the models of an "
                "ensemble must differ. Name another one."
            )
    specs = [network_spec(model.restorer()) for model in inputs.models]
    spec = _spec_of(specs)
    members = [
        AdaptedNetwork(model, inputs.statistics, spec.adjacent_slices)
        for model in inputs.models
    ]
    return EnsembleNetwork(members, spec, [model.card.name for model in inputs.models])


def _check(first: Model, other: Model) -> None:
    ours, theirs = first.card, other.card
    for what, a, b in (
        ("task", ours.task, theirs.task),
        ("upscale factor", ours.upscale_factor, theirs.upscale_factor),
        ("axes", ours.axes, theirs.axes),
    ):
        if a != b:
            raise ConfigError(
                f"The models {ours.name!r} and {theirs.name!r} cannot form an "
                f"ensemble: their {what} differs ({a} and {b}). Choose models of the "
                "same kind."
            )


def _spec_of(specs: list[NetworkSpec]) -> NetworkSpec:
    """Return a spec that meets the requirements of all networks."""
    axes = range(len(specs[0].axes))
    pieces = [s.at_once for s in specs if s.at_once is not None]
    return NetworkSpec(
        axes=specs[0].axes,
        halo=tuple(max(s.halo[i] for s in specs) for i in axes),
        stride=tuple(math.lcm(*(s.stride[i] for s in specs)) for i in axes),
        upscale_factor=specs[0].upscale_factor,
        adjacent_slices=max(s.adjacent_slices for s in specs),
        minimum_size=tuple(max(s.minimum_size[i] for s in specs) for i in axes),
        local=all(s.local for s in specs),
        # The largest number of voxels that any member computes at once; None if a
        # member has no limit.
        at_once=max(pieces) if len(pieces) == len(specs) else None,
        n_outputs=2,
    )
