"""Finds the models of a restoration, and checks that they fit the volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.volume import Volume
from napari_geosr.inference import members
from napari_geosr.models import zoo
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.ranking.tune import for_axes

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model
    from napari_geosr.operations.restore.ranking import Ranking


def find_models(
    volume: Volume, config: RestoreConfig, ranking: Ranking | None
) -> tuple[Model, tuple[Model, ...]]:
    """Find the model and any further models of an ensemble; check that they fit."""
    model = zoo.find(config.model) if ranking is None else _chosen(ranking)
    model = for_axes(model, volume)
    others = tuple(zoo.find(name) for name in config.ensemble_with)
    members.check_kind(config.uncertainty, len(others), config.uncertainty_members)
    _check_factor(config, model)
    for each in (model, *others):
        _check_fit(volume, each)
    return model, others


def _check_factor(config: RestoreConfig, model: Model) -> None:
    """Refuse an upscale factor if it cannot be set for the model."""
    if config.upscale_factor == 1:
        return
    if members.is_generative(config.uncertainty):
        if not model.card.gives_samples:
            return
    elif model.card.task == "generate":
        raise ConfigError(
            "The upscale factor can be set only for samples of a diffusion "
            "model: add --uncertainty diffusion, or omit the factor."
        )
    raise ConfigError(
        f"The model {config.model!r} has a fixed upscale factor: omit the "
        "factor, choose a super-resolution model with this factor, or let one be "
        "chosen (--model auto)."
    )


def _chosen(ranking: Ranking) -> Model:
    """Return the model that a ranking selects."""
    model = ranking.chosen.model
    if model is None:
        raise ModelError(
            "The recommendation is to leave the scan as it is. To restore it "
            "nevertheless, name a model."
        )
    return model


def wants_several(model: Model) -> str:
    """Return a warning that a model expects several reconstructions, to be averaged."""
    card = model.card
    return (
        f"{card.name} was trained on {card.inputs} reconstructions of one object, "
        "each from different projections. Give all of them together (napari-geosr "
        "restore A B … --average; in Python, a list): the mean of the outputs "
        "has less noise than any single output."
    )


def _check_fit(volume: Volume, model: Model) -> None:
    card = model.card
    if card.axes == "ZYX" and volume.axes == "YX":
        raise ModelError(
            f"{volume.title} is a single Y, X image, but the model {card.name!r} "
            "restores Z, Y, X volumes. Open the whole stack or choose a 2D model."
        )
