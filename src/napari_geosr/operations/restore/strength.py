"""Checks the strength of a restoration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError
from napari_geosr.networks import needs_noise

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model


def check_strength(models: Sequence[Model]) -> None:
    """Raise `ConfigError` if a model has no strength that could be set."""
    for model in models:
        is_filter = not model.card.has_weights and model.card.task == "denoise"
        if not is_filter and not needs_noise(model.restorer()):
            raise no_strength(model)


def no_strength(model: Model) -> ConfigError:
    """The error for a model without a strength."""
    return ConfigError(
        f"The model {model.card.name!r} does not use the noise level, so its strength "
        "cannot be set: leave --strength at 1, or choose a noise-bounded model."
    )
