"""Draw images or volumes from a diffusion model.

They are not measurements of anything: every file is named ``generated …``, and its
record says so.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
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
    VolumeError,
)
from napari_geosr.core.memory import is_out_of_memory
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import pick_device
from napari_geosr.learning.diffusion.memorisation import (
    CopyCheck,
    compared_edge,
    resemblance,
)
from napari_geosr.learning.diffusion.sampling import noise_field, sample
from napari_geosr.learning.statistics import GreyScale
from napari_geosr.models import zoo
from napari_geosr.models.bundle import Model
from napari_geosr.operations.generate.config import GenerateConfig

#: Edge of samples by default, in voxels, by the number of axes.
_EDGES = {2: 128, 3: 64}
#: How far a porosity may lie beyond the range of the training data, relative to it.
_BEYOND = 0.2
#: In the record of every sample.
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

    Each sample is a function of model, seed, its number, shape and steps; the noise
    that it begins with is a function of the voxel, whatever the shape.

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
        Asked before every step.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ModelError
        If the model draws no images, copies its training images, or cannot be told a
        porosity.
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
            f"{there} exists. Choose another folder, or replace it (--overwrite)."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"{out} cannot be created: {error.strerror}. Choose another folder."
        ) from error
    if sentence := _porosity_doubt(bundle, config):
        yield WarningIssued(message=sentence)
    drawn: dict[int, AnyArray] = {}
    comparison = None
    if config.training:
        # all of them first: nothing may be written of a model that copies
        training, held_out = (
            _images(names, len(shape)) for names in (config.training, config.held_out)
        )
        yield StageStarted(message="Drawing samples", total=config.number)
        for i in range(config.number):
            drawn[i] = _drawn(bundle, config, shape, i, device, should_stop)
            yield BlockDone(i + 1, config.number)
        comparison = yield from check_copies_steps(
            list(drawn.values()), training, held_out, should_stop
        )
        if comparison.is_copying:
            raise ModelError(
                f"{comparison.sentence} {bundle.card.name} copies its training images, "
                "so no samples were written: train it on more images, or for fewer "
                "steps."
            )
        yield WarningIssued(message=comparison.sentence)
    yield StageStarted(message="Writing samples", total=config.number)
    for i, path in enumerate(paths):
        values = drawn.pop(i, None)
        if values is None:
            values = _drawn(bundle, config, shape, i, device, should_stop)
        more = _measured(bundle, values)
        if comparison is not None:
            more["copy_check"] = {
                "sentence": comparison.sentence,
                "resemblance": round(comparison.samples[i], 4),
                "of_held_out": round(max(comparison.held_out), 4),
                "training": list(config.training),
                "held_out": list(config.held_out),
            }
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
            **more,
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


def check_copies_steps(
    samples: Sequence[AnyArray],
    training: Sequence[AnyArray],
    held_out: Sequence[AnyArray],
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, CopyCheck]:
    """Compare samples and held-out images with the training images.

    Parameters
    ----------
    samples, training, held_out : sequence of ndarray
        Images or volumes, all with as many axes.
    should_stop : callable

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    edge = compared_edge([*samples, *training, *held_out])
    images = [*samples, *held_out]
    yield StageStarted(message="Looking for copies", total=len(images))
    found = []
    for i, image in enumerate(images):
        if should_stop():
            raise Cancelled("Stopped; no samples were written.")
        found.append(resemblance(image, training, edge))
        yield BlockDone(i + 1, len(images))
    n = len(samples)
    return CopyCheck(tuple(found[:n]), tuple(found[n:]))


def _images(names: Sequence[str], ndim: int) -> list[AnyArray]:
    """Images, or volumes, of files."""
    found: list[AnyArray] = []
    for name in names:
        volume = io.read(name).select()
        values = np.asarray(volume.data[:], np.float32)
        if not np.isfinite(values).all():
            raise VolumeError(
                f"{volume.title} has NaN or infinite voxels, so samples cannot be "
                "compared with it. Crop it, or leave it out."
            )
        if values.ndim < ndim:
            raise VolumeError(
                f"{volume.title} is a single image, but the model draws volumes. Give "
                "a volume."
            )
        found += list(values) if values.ndim > ndim else [values]
    return found


def _porosity_doubt(model: Model, config: GenerateConfig) -> str:
    """Say that a porosity is outside the range of the training data.

    Raises
    ------
    ModelError
        If the model cannot be told a porosity, or never saw one like this.
    """
    wish, settings = config.porosity, model.card.network_kwargs
    if wish is None:
        return ""
    if not settings.get("porosity"):
        raise ModelError(
            f"The model {model.card.name!r} cannot be told a porosity. Train one with "
            "--condition porosity, or leave --porosity out."
        )
    low, high = settings["porosity_range"]
    seen = f"{100 * low:.1f} to {100 * high:.1f} %"
    if not (1 - _BEYOND) * low <= wish <= (1 + _BEYOND) * high:
        raise ConfigError(
            f"A porosity of {100 * wish:.1f} % is too far from the training data of "
            f"{model.card.name} ({seen} in its patches). Give one in this range."
        )
    if not low <= wish <= high:
        return (
            f"A porosity of {100 * wish:.1f} % is outside the range of the training "
            f"data of {model.card.name} ({seen} in its patches): the samples may not "
            "have it."
        )
    return ""


def _measured(model: Model, values: AnyArray) -> AnyDict:
    """The porosity of a sample, as in training, if the model knows it."""
    settings, scale = model.card.network_kwargs, model.card.normalisation
    if not settings.get("porosity"):
        return {}
    assert scale.mean is not None
    assert scale.std is not None
    threshold = settings["porosity_threshold"] * scale.std + scale.mean
    porosity = float((values < threshold).mean())
    return {"porosity": round(porosity, 4), "threshold": round(float(threshold), 6)}


def _checked_shape(model: Model, config: GenerateConfig) -> tuple[int, ...]:
    card = model.card
    if card.task != "generate":
        raise ModelError(
            f"The model {card.name!r} draws no images: its task is {card.task}. Train "
            "one with napari-geosr train ddpm."
        )
    if card.adjacent_slices > 1:
        raise ModelError(
            f"The model {card.name!r} works on slices with their neighbours and draws "
            "no images; train one with --dimensions 2D or 3D."
        )
    ndim = len(card.axes)
    shape = config.shape or (_EDGES[ndim],) * ndim
    if len(shape) != ndim:
        kind = "images (Y,X)" if ndim == 2 else "volumes (Z,Y,X)"
        raise ConfigError(
            f"The model {card.name!r} draws {kind}: give {ndim} numbers for the shape, "
            f"not {len(shape)}."
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
        values = sample(
            network,
            noise,
            config.sampling_steps,
            stop_if_asked,
            config.porosity,
            config.guidance,
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        edges = " × ".join(map(str, shape))
        raise DeviceMemoryError(
            f"A sample of {edges} voxels does not fit into the memory of {device}. "
            "Give a smaller shape (--shape)."
        ) from error
    grey = GreyScale(scale.mean, scale.std)
    return np.asarray(grey.restore(values[0, 0].float().cpu().numpy()))
