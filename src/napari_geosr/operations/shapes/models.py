"""Finds models for shapes: bundled ones by name, the user's own by path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError, ModelError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.models import bundle, zoo
from napari_geosr.models.bundle import Model
from napari_geosr.operations.shapes.config import TRILINEAR
from napari_geosr.operations.shapes.voxels import MAX_ANISOTROPY, anisotropy

if TYPE_CHECKING:
    from napari_geosr.models.card import ModelCard
    from napari_geosr.operations.shapes.config import GreyScale

#: Learning methods of the models that complete shapes.
COMPLETING = ("shape_completion", "shell_completion")
#: Learning methods of the models that refine shapes, and of those that segment scans.
REFINING, SEGMENTING = "shape_sr", "sparse_segmentation"
#: Network for closed shells. The other networks are evaluated on a grid of voxels.
ATLAS = "shell_atlas"
#: Folder of the bundled models for shapes.
BUNDLED = zoo.bundled_folder() / "shapes"


def bundled_names() -> list[str]:
    """Return the names of the bundled models for shapes."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/card.yaml"))


def shape_models(*methods: str) -> tuple[str, ...]:
    """Return the names of models of these methods; for ``shape_sr``, also trilinear."""
    names = [
        name
        for name in bundled_names()
        if bundle.read_card(BUNDLED / name).method in methods
    ]
    return (*names, TRILINEAR) if "shape_sr" in methods else tuple(names)


def absolute_shape_model(name: str) -> str:
    """Make the path of a model absolute; the names of bundled models are kept."""
    path = Path(name).expanduser()
    if name in (*bundled_names(), TRILINEAR) or not path.exists():
        return name
    return str(path.absolute())


def find_shape_model(name: str, method: str | tuple[str, ...], verb: str) -> Model:
    """Return a model for shapes by name or path.

    Parameters
    ----------
    name : str
    method : str or tuple of str
        Learning methods with which the model may have been trained.
    verb : str
        What the model should do, for messages.

    Raises
    ------
    ModelError
        If there is no such model, or it has another purpose.
    """
    if name in bundled_names():
        model = bundle.load(BUNDLED / name)
    elif Path(name).expanduser().exists():
        model = zoo.find(name)
    else:
        listed = ", ".join(bundled_names()) or "none"
        raise ModelError(
            f"There is no model for shapes named {name!r}. Known: {listed}. Give one "
            "of these names, or the path of a model."
        )
    if model.card.method not in SHAPE_METHODS.names():
        raise ModelError(
            f"The model {model.card.name} is for grey values, not for shapes. Use it "
            "with napari-geosr restore, or choose another model."
        )
    if model.card.method not in ((method,) if isinstance(method, str) else method):
        raise ModelError(
            f"The model {model.card.name} was trained with {model.card.method}, so it "
            f"cannot {verb} shapes. Choose another model."
        )
    return model


def check_cubic(volume: Volume, model: Model) -> str:
    """Return a warning if a model needs cubic voxels and a shape has others; else "".

    Raises
    ------
    VolumeError
        If the voxels are too far from cubic.
    """
    if model.card.network == ATLAS or (ratio := anisotropy(volume)) == 1:
        return ""
    what = _not_cubic(volume, ratio)
    if ratio > MAX_ANISOTROPY:
        raise VolumeError(f"{what} Resample the volume to cubic voxels first.")
    return f"{what} The completed part may be distorted."


def check_voxels(volume: Volume) -> str:
    """Return a warning if voxels are not cubic (models expect cubic ones); else "".

    Raises
    ------
    VolumeError
        If the voxels are too far from cubic.
    """
    if (ratio := anisotropy(volume)) == 1:
        return ""
    what = _not_cubic(volume, ratio)
    if ratio > MAX_ANISOTROPY:
        raise VolumeError(
            f"{what} Resample the volume to cubic voxels, or use --model trilinear."
        )
    return f"{what} The same factor is applied along all axes."


def _not_cubic(volume: Volume, ratio: float) -> str:
    return (
        f"The voxels of {volume.title} are {ratio:.3g} times longer along one axis "
        "than along another; the model expects nearly cubic voxels."
    )


def check_grey_scale(card: ModelCard, choice: GreyScale) -> None:
    """Check that a model stores the grey values that a choice of the scale needs.

    Raises
    ------
    ConfigError
        If it does not.
    """
    if choice in ("model", "scan") and not card.training.grey_values:
        raise ConfigError(
            f"The model {card.name} does not store the grey values of its training "
            "scans. Train it again, or choose mask (--grey-scale).",
            fields=("grey_scale",),
        )
