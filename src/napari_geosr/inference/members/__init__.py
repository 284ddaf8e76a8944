"""Members: several predictions for one volume, used to estimate its deviation.

Each kind of member has a module, which is found by file name. It defines ``TITLE``,
``HELP`` (one line shown to the user), ``NEEDS_OTHERS`` (whether it requires further
models) and ``make(inputs)``, which returns the network that combines all members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.registry import Registry

if TYPE_CHECKING:
    from napari_geosr.inference.members._networks import EnsembleNetwork
    from napari_geosr.inference.windows import Standardisation
    from napari_geosr.models.bundle import Model

#: Setting for a single forward pass, without a deviation.
NONE = "none"

KINDS = Registry(
    package="napari_geosr.inference.members",
    group="napari_geosr.members",
    noun="kind of uncertainty",
)


@dataclass(frozen=True)
class EnsembleInputs:
    """The run for which members are created.

    Attributes
    ----------
    models : sequence of Model
        The model of the run, and further ones for an ensemble.
    voxel_size : tuple of float
        Voxel size of the input, along its axes.
    statistics : Standardisation
        Grey scales of the run's input and output.
    n_members : int or None
        Requested number of members; None for the default of the kind.
    upscale_factor : int
        Upscale factor along each axis, for samples of a diffusion model.
    seed, steps : int
        Seed for the samples, and number of steps of each sample.
    """

    models: Sequence[Model]
    voxel_size: tuple[float, ...]
    statistics: Standardisation
    n_members: int | None = None
    upscale_factor: int = 1
    seed: int = 0
    steps: int = 20


def is_generative(kind: str) -> bool:
    """Whether the members of a kind are drawn by a generative model."""
    return kind != NONE and bool(getattr(load(kind), "GENERATIVE", False))


def check_kind(kind: str, n_others: int, n_members: int | None) -> None:
    """Raise `ConfigError` unless the uncertainty settings are consistent.

    Parameters
    ----------
    kind : str
        Kind of uncertainty; ``"none"`` for none.
    n_others : int
        Number of further models.
    n_members : int or None
        Requested number of members.
    """
    if kind == NONE:
        if n_others or n_members is not None:
            raise ConfigError(
                "Additional models and the number of members have an effect only if "
                "the uncertainty is computed: choose an uncertainty method "
                "(--uncertainty tta, ensemble or diffusion), or remove them."
            )
        return
    needs_others = load(kind).NEEDS_OTHERS
    if needs_others and not n_others:
        raise ConfigError(
            f"The uncertainty method {kind!r} compares several models: name at least "
            "one more (--ensemble-with NAME)."
        )
    if needs_others and n_members is not None:
        raise ConfigError(
            f"The uncertainty method {kind!r} always has one member per model: omit "
            "the number of members."
        )
    if n_others and not needs_others:
        raise ConfigError(
            "Additional models are used by the uncertainty method 'ensemble', not by "
            f"{kind!r}: choose --uncertainty ensemble, or remove them."
        )


def load(kind: str) -> Any:
    """Return the module that implements a kind of uncertainty.

    Raises
    ------
    ConfigError
        If there is no such kind.
    """
    return KINDS.load(kind)


def make_members(kind: str, inputs: EnsembleInputs) -> EnsembleNetwork:
    """Create a network that runs all members and outputs mean and standard deviation.

    Raises
    ------
    ConfigError, ModelError
        If the models do not match, or fewer members are available than requested.
    """
    members: EnsembleNetwork = load(kind).make(inputs)
    return members
