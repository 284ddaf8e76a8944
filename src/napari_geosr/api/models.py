"""List and load models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.operations.models import catalogue

if TYPE_CHECKING:
    from napari_geosr.core.text.vocabulary import Task
    from napari_geosr.operations.models.catalogue import Model, ModelLike, ZooEntry


def list_models(
    *,
    task: Task | None = None,
    modality: str | None = None,
    voxel_size: float | None = None,
    unit: str = "µm",
    words: str = "",
) -> list[ZooEntry]:
    """List the bundled models and those in the user's folder.

    Parameters
    ----------
    task : str, optional
        Task of the models: ``"denoise"``, ``"super-resolution"``, ``"translate"``,
        ``"segment"``, ``"complete"`` or ``"generate"``; by default all tasks.
    modality : str, optional
        Kind of image, e.g. ``"ct"`` or ``"fluorescence"``. Models of unknown kind are
        also listed.
    voxel_size : float, optional
        Edge length of a voxel, in `unit`. Models trained for voxels of more than twice
        or less than half this size are omitted.
    unit : str
        Unit of length of `voxel_size`.
    words : str
        Words that must all occur on the card, for example in its name, title,
        description or task; ``"bundled"`` and ``"own"`` select models by their source.

    Returns
    -------
    list of ZooEntry
        Entries with `name`, `card` and `path`, sorted by name.

    Examples
    --------
    >>> import napari_geosr as geosr
    >>> "ct-denoise" in [model.name for model in geosr.list_models(task="denoise")]
    True
    >>> [model.name for model in geosr.list_models(words="bundled foam x4")]
    ['foam-sr-x4']
    """
    criteria = catalogue.ModelFilter(
        task=task, modality=modality, voxel_size=voxel_size, unit=unit, words=words
    )
    return catalogue.list_models(criteria)


def load_model(name_or_path: ModelLike) -> Model:
    """Load a model by its name or the path of its bundle.

    Parameters
    ----------
    name_or_path : str, Path or ZooEntry
        A name or entry from `list_models`, or the folder or zip file of a bundle.

    Returns
    -------
    Model
        Contains the `card`; `network()` builds the torch module. Weights are read on
        first use.

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
