"""Settings for fine-tuning a trained model that are compatible with its weights."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.core.types import AnyDict
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.methods import config_class
from napari_geosr.networks import all_settings
from napari_geosr.operations.models import catalogue

#: Fields of a training config that determine the network.
NETWORK_FIELDS = frozenset(
    {
        "network",
        "network_options",
        "layers",
        "width",
        "dimensions",
        "adjacent_slices",
    }
)
#: Maximum default learning rate: a rate that suits random weights would destroy the
#: trained ones within a few steps.
_MAX_LEARNING_RATE = 2e-3
#: Network options that are derived from other fields of the training config.
_DERIVED_OPTIONS = {"ndim", "adjacent_slices", "upscale_factor", "out_channels"}


def fine_tune_settings(name_or_path: str | Path, method: str | None = None) -> AnyDict:
    """Return the fields of a training config that fine-tunes a model.

    This imports the network's module, and with it torch. The learning rate is low
    enough to preserve what the model has learned.

    Fields that duplicate network options are None, so that combining them with the
    fields of an earlier training run never sets an option twice.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a model in the zoo, or its bundle.
    method : str, optional
        The learning method; only fields of its config are returned. By default, all
        fields.

    Raises
    ------
    ModelError, ConfigError
        If the model or its network does not exist.
    """
    card = catalogue.find(name_or_path).card
    # Include defaults, because those for training differ from those of the network.
    all_options = all_settings(card.network, card.network_kwargs)
    options = {k: v for k, v in all_options.items() if k not in _DERIVED_OPTIONS}
    settings: AnyDict = {
        "from_model": str(name_or_path),
        "learning_rate": _learning_rate(method),
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
        own = config_class(method).network_settings
        settings |= {k: v for k, v in options.items() if k in own}
        settings = {k: v for k, v in settings.items() if k in known}
    return settings


def _learning_rate(method: str | None) -> float:
    config = TrainingConfig if method is None else config_class(method)
    return min(float(config.model_fields["learning_rate"].default), _MAX_LEARNING_RATE)
