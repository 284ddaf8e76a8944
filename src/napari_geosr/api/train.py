"""Train models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from napari_geosr.api.arrays import VolumeLike, as_volume
from napari_geosr.api.running import run_with_warnings
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.operations.models.catalogue import ModelLike, name_of
from napari_geosr.operations.train import training_steps
from napari_geosr.operations.train.in_memory import entry_for

if TYPE_CHECKING:
    from napari_geosr.operations.models.catalogue import Model

#: Training data: one or more paths, volumes or arrays.
TrainingData: TypeAlias = "VolumeLike | str | Path | Sequence[VolumeLike | str | Path]"


def train(
    method: str,
    folder: str | Path,
    source: TrainingData = (),
    target: TrainingData = (),
    *,
    axes: str | None = None,
    name: str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    patch: int | None = None,
    dimensions: Literal["2D", "2.5D", "3D"] | None = None,
    adjacent_slices: int | None = None,
    network: str | None = None,
    layers: int | None = None,
    width: int | None = None,
    network_options: AnyDict | None = None,
    learning_rate: float | None = None,
    final_rate: float | None = None,
    warm_up: int | None = None,
    averaging: float | None = None,
    gradient_clip: float | None = None,
    augment: bool | None = None,
    sampling: Literal["uniform", "structure"] | None = None,
    normalisation: Literal["stored", "volume"] | None = None,
    validation: float | None = None,
    validate_every: int | None = None,
    from_model: ModelLike | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    threads: int | None = None,
    checkpoint_seconds: float | None = None,
    preview_slice: int | None = None,
    similarity_index: bool | None = None,
    country: str | None = None,
    licence: str | None = None,
    **method_settings: Any,
) -> Model:
    """Train a model and return it; the same call resumes an interrupted run.

    Settings that are None take the method's default value.

    Parameters
    ----------
    method : str
        Learning method, e.g. ``"noise2void"`` or ``"supervised"``; ``napari-geosr train
        --list`` lists all methods.
    folder : str or Path
        Folder for the checkpoints and the model's bundle.
    source : Volume, array or path, or sequence of them
        Training volumes: data in memory, files, folders of slices or OME-Zarr stores.
    target : Volume, array or path, or sequence of them
        Target volumes for the sources, in the same order.
    axes : str, optional
        Meaning of the axes of plain arrays, e.g. ``"TYX"``.
    name : str, optional
        Name of the model: lower-case letters, digits, ``-`` and ``_``. By default
        derived from the method and the first source.
    steps : int, optional
        Number of updates of the network's weights.
    batch_size, patch : int, optional
        Number of patches per step, and their edge length in voxels.
    dimensions : {"2D", "2.5D", "3D"}, optional
        Whether the network takes slices, slices with their neighbours, or volumes.
    adjacent_slices : int, optional
        Number of input slices of a 2.5D network; must be odd.
    network : str, optional
        Architecture: ``"msdnet"``, ``"unet"``, ``"light_sr"``, …
    layers, width : int, optional
        Depth of the network and number of feature maps per layer.
    network_options : dict, optional
        Further settings of the network.
    learning_rate, final_rate : float, optional
        Adam's initial learning rate, and the final one as a fraction of it.
    warm_up : int, optional
        Number of initial steps during which the learning rate increases.
    averaging : float, optional
        Decay of the moving average of the weights.
    gradient_clip : float, optional
        Maximum norm of the gradient in a step.
    augment : bool, optional
        Whether patches are rotated and mirrored.
    sampling : {"uniform", "structure"}, optional
        Draw patches uniformly, or more often from regions with structure.
    normalisation : {"stored", "volume"}, optional
        Normalise grey values with the statistics of the training data, or with those of
        each volume to be restored.
    validation : float, optional
        Fraction of each volume that is held out, as a block, to evaluate the model.
    validate_every : int, optional
        Number of steps between validations.
    from_model : str, Path, Model or ZooEntry, optional
        Model from which training starts (fine-tuning), as in `restore`.
    seed : int, optional
        The same seed gives the same model.
    device : str, optional
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    precision : {"auto", "float32", "bfloat16"}, optional
        Precision of the computation; ``"auto"`` uses bfloat16 on a GPU.
    threads : int, optional
        CPU threads; by default one per core.
    checkpoint_seconds : float, optional
        Maximum interval between checkpoints in seconds.
    preview_slice : int, optional
        Slice of the first source shown in previews.
    similarity_index : bool, optional
        Store features of the training patches with the model, for the method
        ``"similar"`` of `explain`.
    country : str, optional
        Country (three-letter ISO code); CO2eq is estimated from its electricity mix.
    licence : str, optional
        Licence of the model.
    **method_settings
        Further settings of the method, such as ``labels`` of ``"supervised"``;
        ``napari-geosr train METHOD --help`` lists them.

    Returns
    -------
    Model
        Use it with ``restore(volume, model)``.

    Raises
    ------
    ConfigError, FileError, VolumeError, TrainingError, DeviceMemoryError
        If a setting or the data are invalid, training fails, or memory is insufficient.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> rng = np.random.default_rng(0)
    >>> noisy = rng.normal(100, 10, (8, 32, 32)).astype("f4")
    >>> model = geosr.train(
    ...     "noise2void", "job", noisy, steps=2, batch_size=1, patch=16, layers=2
    ... )
    >>> model.card.name, model.card.task
    ('noise2void-source', 'denoise')
    >>> geosr.restore(noisy, model).shape
    (8, 32, 32)
    """
    shared: AnyDict = {
        "name": name,
        "steps": steps,
        "batch_size": batch_size,
        "patch": patch,
        "dimensions": dimensions,
        "adjacent_slices": adjacent_slices,
        "network": network,
        "layers": layers,
        "width": width,
        "network_options": network_options,
        "learning_rate": learning_rate,
        "final_rate": final_rate,
        "warm_up": warm_up,
        "averaging": averaging,
        "gradient_clip": gradient_clip,
        "augment": augment,
        "sampling": sampling,
        "normalisation": normalisation,
        "validation": validation,
        "validate_every": validate_every,
        "from_model": None if from_model is None else name_of(from_model),
        "seed": seed,
        "device": device,
        "precision": precision,
        "threads": threads,
        "checkpoint_seconds": checkpoint_seconds,
        "preview_slice": preview_slice,
        "similarity_index": similarity_index,
        "country": country,
        "licence": licence,
    }
    settings = {key: value for key, value in shared.items() if value is not None}
    volumes: dict[Path, Volume] = {}
    for role, given in (("source", source), ("target", target)):
        if entries := _settings_entries(given, role, axes, volumes):
            settings[role] = entries
    return run_with_warnings(
        training_steps(method, folder, in_memory=volumes, **settings, **method_settings)
    )


def _settings_entries(
    given: TrainingData, role: str, axes: str | None, volumes: dict[Path, Volume]
) -> tuple[Path, ...]:
    """Return paths for the source or target data; add data in memory to `volumes`.

    Raises
    ------
    VolumeError, ConfigError
        If an item is not a volume, or is given twice.
    """
    several = given if isinstance(given, list | tuple) else [given]
    entries = []
    for i, each in enumerate(several):
        if isinstance(each, str | Path):
            entries.append(Path(each))
            continue
        number = f" {i + 1}" if len(several) > 1 else ""
        array_axes = None if isinstance(each, Volume) else axes
        volume = as_volume(cast(VolumeLike, each), array_axes, name=f"{role}{number}")
        if any(volume.data is other.data for other in volumes.values()):
            raise ConfigError(
                f"{volume.title} is given twice. Both copies have the same noise, so "
                "nothing can be learned from the pair. Use another scan."
            )
        entries.append(entry_for(volume, volumes))
        volumes[entries[-1]] = volume
    return tuple(entries)
