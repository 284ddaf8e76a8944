"""Checks the porosity requested for samples, and measures that of the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from napari_geosr.models.card import ModelCard

#: Maximum distance of a porosity from the training range, as a fraction of the exceeded
#: limit.
_MAX_EXCESS = 0.2
_NO_EFFECT = "The guidance has no effect, because no porosity was chosen."


def check_porosity(
    card: ModelCard, porosity: float | None, guidance: float = 1.0
) -> str:
    """Return a warning about unused guidance, or a porosity outside the training range.

    Parameters
    ----------
    card : ModelCard
    porosity : float or None
        Porosity of the samples; None if none is requested.
    guidance : float
        Guidance weight of the porosity.

    Raises
    ------
    ConfigError
        If the model cannot generate images with a chosen porosity, or the porosity is
        more than 20 % below or above the training range.
    """
    if porosity is None:
        return "" if guidance == 1 else _NO_EFFECT
    trained = card.porosity_condition
    if trained is None:
        raise ConfigError(
            f"The model {card.name!r} was trained without porosities, so the porosity "
            "of its samples cannot be chosen. Train one with napari-geosr train ddpm "
            "--condition porosity, or omit the porosity."
        )
    if trained.low <= porosity <= trained.high:
        return ""
    what = (
        f"A porosity of {porosity:g} is outside the range of the training data of "
        f"{card.name!r} ({trained.low:g} to {trained.high:g})"
    )
    lowest, highest = trained.low * (1 - _MAX_EXCESS), trained.high * (1 + _MAX_EXCESS)
    if not lowest <= porosity <= highest:
        raise ConfigError(
            f"{what} by more than {_MAX_EXCESS:.0%}. Choose a porosity within the "
            "range."
        )
    return f"{what}: check the porosity and the structure of the samples."


def sample_porosity(card: ModelCard, values: AnyArray) -> float | None:
    """Return a sample's porosity at the model's threshold; None without a threshold."""
    trained = card.porosity_condition
    if trained is None:
        return None
    is_dark = np.asarray(values) <= trained.threshold
    return float((is_dark == (trained.phase == "dark")).mean())
