"""Go on from a trained model: the settings of a training that its weights fit."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.core.types import AnyDict
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.methods import config_class
from napari_geosr.networks import all_settings
from napari_geosr.operations.models import catalogue

#: Fields of a training that say which network it is.
OF_THE_NETWORK = frozenset(
    {
        "network",
        "network_options",
        "layers",
        "width",
        "dimensions",
        "adjacent_slices",
    }
)
#: The highest learning rate by default: one that suits fresh weights would lose in a
#: few steps what a model knows.
_HIGHEST_RATE = 2e-3
#: Settings of a network that follow from others of the training.
_FOLLOW = {"ndim", "adjacent_slices", "upscale_factor", "out_channels"}


def fine_tune_settings(name_or_path: str | Path, method: str | None = None) -> AnyDict:
    """Return the fields of a training that starts from a model, network and all.

    Loads the network's module, and torch with it. The learning rate is one that does
    not lose what the model knows.

    Fields that say the same as the network's options are None, so that nothing is given
    twice where the fields of an earlier training are replaced by these.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a model in the zoo, or its bundle.
    method : str, optional
        The learning method: the fields that it has alone. By default all there are.

    Raises
    ------
    ModelError, ConfigError
        If there is no such model, or no such network.
    """
    card = catalogue.find(name_or_path).card
    # All of them: trainings have other defaults than those that a card means.
    found = all_settings(card.network, card.network_kwargs)
    options = {k: v for k, v in found.items() if k not in _FOLLOW}
    settings: AnyDict = {
        "from_model": str(name_or_path),
        "learning_rate": _rate(method),
        "network": card.network,
        "network_options": options,
        "layers": None,
        "width": None,
        "dilations": None,
        "upscale_factor": card.upscale_factor if card.upscale_factor > 1 else None,
        "dimensions": "3D" if card.axes == "ZYX" else "2D",
    }
    if card.adjacent_slices > 1:
        settings |= {"dimensions": "2.5D", "adjacent_slices": card.adjacent_slices}
    if card.labels > 1:
        settings["labels"] = card.labels
    if method is not None:
        known = config_class(method).model_fields
        settings = {k: v for k, v in settings.items() if k in known}
    return settings


def _rate(method: str | None) -> float:
    usual = TrainingConfig if method is None else config_class(method)
    return min(float(usual.model_fields["learning_rate"].default), _HIGHEST_RATE)
