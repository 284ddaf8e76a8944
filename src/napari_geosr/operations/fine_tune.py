"""Go on from a trained model: the settings of a training that its weights fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_geosr.operations import catalogue

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
#: Settings of a network that follow from others of the training.
_FOLLOW = {"ndim", "adjacent_slices", "upscale_factor"}


def fine_tune_settings(name_or_path: str | Path) -> dict[str, Any]:
    """Return the fields of a training that starts from a model, network and all.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a model in the zoo, or its bundle.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    card = catalogue.find(name_or_path).card
    options = {k: v for k, v in card.network_kwargs.items() if k not in _FOLLOW}
    settings: dict[str, Any] = {
        "from_model": str(name_or_path),
        "network": card.network,
        "network_options": options,
        "layers": None,
        "width": None,
        "dimensions": "3D" if card.axes == "ZYX" else "2D",
    }
    if card.adjacent_slices > 1:
        settings |= {"dimensions": "2.5D", "adjacent_slices": card.adjacent_slices}
    return settings
