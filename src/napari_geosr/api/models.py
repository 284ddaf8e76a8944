"""The models that can restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.operations.models import catalogue

if TYPE_CHECKING:
    from napari_geosr.operations.models.catalogue import Model, ModelLike, ZooEntry


def list_models(
    *,
    task: str | None = None,
    modality: str | None = None,
    voxel_size: float | None = None,
    unit: str = "µm",
    words: str = "",
) -> list[ZooEntry]:
    """List the models that came with the package and those in the user's folder.

    Parameters
    ----------
    task : str, optional
        ``"denoise"``, ``"super-resolution"`` or ``"segment"``; by default all.
    modality : str, optional
        How the images were made, e.g. ``"ct"`` or ``"fluorescence"``. Models that do
        not say are listed, too.
    voxel_size : float, optional
        Edge length of a voxel, in `unit`: models trained for voxels of more than twice
        or less than half the size are left out.
    unit : str
        Unit of length of `voxel_size`.
    words : str
        Each has to be in the name, title or description of the model; ``"bundled"``
        and ``"own"`` say where it comes from.

    Returns
    -------
    list of ZooEntry
        With `name`, `card` and `path`, ordered by name.

    Examples
    --------
    >>> import napari_geosr as geosr
    >>> "ct-denoise" in [model.name for model in geosr.list_models(task="denoise")]
    True
    >>> [model.name for model in geosr.list_models(words="bundled foam x4")]
    ['foam-sr-x4']
    """
    wanted = catalogue.ModelFilter(
        task=task, modality=modality, voxel_size=voxel_size, unit=unit, words=words
    )
    return catalogue.list_models(wanted)


def load_model(name_or_path: ModelLike) -> Model:
    """Load a model by its name or the path of its bundle.

    Parameters
    ----------
    name_or_path : str, Path or ZooEntry
        A name that `list_models` knows or one of its entries, or the folder or
        zip of a bundle.

    Returns
    -------
    Model
        With its `card`; `network()` builds the torch module with its weights, which
        are read on first use.

    Raises
    ------
    ModelError
        If there is no such model or its bundle is damaged.

    Examples
    --------
    >>> import napari_geosr as geosr
    >>> card = geosr.load_model("foam-sr-x2").card
    >>> card.task, card.upscale_factor
    ('super-resolution', 2)
    """
    return catalogue.find(catalogue.name_of(name_or_path))
