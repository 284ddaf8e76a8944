"""Generate images or volumes with a diffusion model.

The results are not measurements: every file is named ``generated …``, and its record
states that it was generated.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    DeviceMemoryError,
    FileError,
    ModelError,
)
from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import exact_settings
from napari_geosr.inference.device import pick_device
from napari_geosr.learning.diffusion.sampling import noise_field, sample
from napari_geosr.learning.statistics import GreyScale
from napari_geosr.models import zoo
from napari_geosr.models.bundle import Model
from napari_geosr.operations.generate.config import GenerateConfig

#: Default edge length of samples, in voxels, by number of axes.
_EDGES = {2: 128, 3: 64}
#: Note in the provenance record of every sample.
_NOTE = "Drawn from a diffusion model: not a measurement of any object."


def generate_steps(
    model: str,
    out: Path,
    config: GenerateConfig,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, list[Path]]:
    """Write samples: ``generated_MODEL_0000.ome.tif`` and so on.

    Each sample depends only on the model, the seed, its number, the shape and the
    steps; the initial noise of a voxel does not depend on the shape.

    Parameters
    ----------
    model : str
        Name or path of a model of ``train ddpm``.
    out : Path
        Folder, created if missing.
    config : GenerateConfig
    overwrite : bool
        Whether to replace files of earlier samples.
    should_stop : callable
        Called before every step.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ModelError
        If the model cannot generate images, or the shape has the wrong number of axes.
    ConfigError, FileError, DeviceMemoryError
        If the device does not exist, a file cannot be written, or memory runs out.
    """
    bundle = zoo.find(model)
    shape = _checked_shape(bundle, config)
    device = pick_device(config.device)
    paths = [
        out / f"generated_{bundle.card.name}_{i:04d}.ome.tif"
        for i in range(config.number)
    ]
    if not overwrite and (there := next((p for p in paths if p.exists()), None)):
        raise FileError(
            f"{there} already exists. Choose another folder, or replace it "
            "(--overwrite)."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"{out} cannot be created: {error.strerror}. Choose another folder."
        ) from error
    yield StageStarted(message="Drawing samples", total=config.number)
    for i, path in enumerate(paths):
        values = _drawn(bundle, config, shape, i, device, should_stop)
        record = provenance.record(
            "generate",
            inputs={},
            settings=config.model_dump(mode="json"),
            model={
                "name": bundle.card.name,
                "weights_sha256": bundle.card.weights_sha256,
            },
            generated=True,
            sample=i,
            note=_NOTE,
        )
        volume = Volume(
            values,
            "ZYX"[-len(shape) :],
            name=f"generated {bundle.card.name} {i}",
            provenance=(record,),
        )
        io.write(volume, path, overwrite=overwrite)
        yield BlockDone(i + 1, config.number)
    return paths


def _checked_shape(model: Model, config: GenerateConfig) -> tuple[int, ...]:
    card = model.card
    if card.task != "generate":
        raise ModelError(
            f"The model {card.name!r} cannot generate images: its task is {card.task}. "
            "Train one with napari-geosr train ddpm."
        )
    if card.adjacent_slices > 1:
        raise ModelError(
            f"The model {card.name!r} works on slices with their neighbours and cannot "
            "generate images; train one with --dimensions 2D or 3D."
        )
    ndim = len(card.axes)
    shape = config.shape or (_EDGES[ndim],) * ndim
    if len(shape) != ndim:
        kind = "images (Y,X)" if ndim == 2 else "volumes (Z,Y,X)"
        raise ConfigError(
            f"The model {card.name!r} generates {kind}: give {ndim} numbers for the "
            f"shape, not {len(shape)}."
        )
    return shape


def _drawn(
    model: Model,
    config: GenerateConfig,
    shape: tuple[int, ...],
    number: int,
    device: str,
    should_stop: ShouldStop,
) -> AnyArray:
    """One sample in grey values of the training data."""

    def stop_if_asked(_step: int) -> None:
        if should_stop():
            raise Cancelled(f"Stopped; {number} samples were written.")

    scale = model.card.normalisation
    assert scale.mean is not None
    assert scale.std is not None
    field = noise_field((config.seed, number), [slice(0, n) for n in shape])
    network = model.network().to(device)
    noise = torch.from_numpy(field)[None, None].to(device)
    try:
        with exact_settings(config.threads):
            values = sample(network, noise, config.sampling_steps, stop_if_asked)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        edges = " × ".join(map(str, shape))
        raise DeviceMemoryError(
            f"A sample of {edges} voxels does not fit into the memory of {device}. "
            "Choose a smaller shape (--shape)."
        ) from error
    grey = GreyScale(scale.mean, scale.std)
    return np.asarray(grey.restore(values[0, 0].float().cpu().numpy()))
