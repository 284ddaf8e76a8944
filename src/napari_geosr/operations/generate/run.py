"""Generate images or volumes with a diffusion model.

The results are not measurements: every file is named ``generated_…``, and its record
states that it was generated. If training images are given and too many samples are
copies of them, no sample is kept.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
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
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import exact_settings
from napari_geosr.inference.device import pick_device
from napari_geosr.learning.diffusion.copies import (
    TrainingPlanes,
    training_planes_steps,
)
from napari_geosr.learning.diffusion.sampling import noise_field, sample
from napari_geosr.learning.statistics import GreyScale
from napari_geosr.models import zoo
from napari_geosr.models.bundle import Model
from napari_geosr.operations.generate.config import GenerateConfig
from napari_geosr.operations.generate.porosity import check_porosity, sample_porosity

#: Message if no training images are given.
_NOT_COMPARED = (
    "The samples were not compared with the training images, so some may be copies of "
    "them. To compare them, give the training images (--training-images)."
)
#: Default edge length of samples, in voxels, by number of axes.
_EDGES = {2: 128, 3: 64}
#: Note in the provenance record of every sample.
_NOTE = "Drawn from a diffusion model: not a measurement of any object."
#: Maximum fraction of the samples that may exceed the similarity limit by chance.
_MAX_COPIES = 0.01


@dataclass(frozen=True)
class GeneratedSamples:
    """Samples that were written.

    Attributes
    ----------
    files : tuple of Path
    similarities : tuple of float
        Similarity of each sample to the most similar training image (normalised
        cross-correlation); empty if there was no comparison.
    usual, limit : float or None
        Median similarity between different training images, and similarity above which
        a sample counts as a copy; None if there was no comparison.
    porosities : tuple of float
        Porosity of each sample at the threshold of the model's card; empty if the model
        was not trained with the porosity.
    """

    files: tuple[Path, ...]
    similarities: tuple[float, ...] = ()
    usual: float | None = None
    limit: float | None = None
    porosities: tuple[float, ...] = ()

    def to_json_dict(self) -> AnyDict:
        """Return the values for the output of ``--json``."""
        found: AnyDict = {"files": list(map(str, self.files)), "generated": True}
        if self.porosities:
            found["porosities"] = [round(value, 4) for value in self.porosities]
        if self.limit is not None:
            found["similarity"] = {
                "samples": [round(value, 3) for value in self.similarities],
                "training_images": self.usual,
                "limit": self.limit,
            }
        return found


def generate_steps(
    model: str,
    out: Path,
    config: GenerateConfig,
    *,
    training_images: Sequence[Volume] = (),
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, GeneratedSamples]:
    """Generate samples, and write them as ``generated_MODEL_0000.ome.tif`` etc.

    Each sample depends only on the model, the settings and the number of the sample;
    the initial noise of a voxel does not depend on the shape.

    Parameters
    ----------
    model : str
        Name or path of a model trained by ``train ddpm``.
    out : Path
        Folder, created if missing.
    config : GenerateConfig
    training_images : sequence of Volume
        Images on which the model was trained. Samples are compared with them; if more
        than 1 % are copies, no sample is kept.
    overwrite : bool
        Whether to replace files of earlier samples.
    should_stop : callable
        Called before every step.

    Returns
    -------
    GeneratedSamples

    Raises
    ------
    ModelError
        If the model cannot generate images, or too many samples are copies.
    ConfigError, FileError, DeviceMemoryError
        If the shape has the wrong number of axes, the porosity cannot be chosen or is
        far outside the range of the training data, the device does not exist, there are
        too few training images, a file cannot be written, or memory runs out.
    """
    bundle = zoo.find(model)
    shape = _checked_shape(bundle, config)
    sentence = check_porosity(bundle.card, config.porosity, config.guidance)
    if sentence:
        yield WarningIssued(message=sentence)
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
    known = None
    if training_images:
        known = yield from training_planes_steps(training_images, shape, should_stop)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"{out} cannot be created: {error.strerror}. Choose another folder."
        ) from error
    similarities: list[float] = []
    porosities: list[float] = []
    yield StageStarted(message="Drawing samples", total=config.number)
    for i, path in enumerate(paths):
        values = _drawn(bundle, config, shape, i, device, should_stop)
        if known is not None:
            similarities.append(known.similarity(values, should_stop))
            _refuse_copies(known, similarities, config.number, paths[:i])
        porosity = sample_porosity(bundle.card, values)
        porosities += [] if porosity is None else [porosity]
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
            **({} if porosity is None else {"sample_porosity": round(porosity, 4)}),
            **_compared(known, similarities),
        )
        volume = Volume(
            values,
            "ZYX"[-len(shape) :],
            name=f"generated {bundle.card.name} {i}",
            provenance=(record,),
        )
        io.write(volume, path, overwrite=overwrite)
        yield BlockDone(i + 1, config.number)
    if known is None:
        yield WarningIssued(message=_NOT_COMPARED)
        return GeneratedSamples(tuple(paths), porosities=tuple(porosities))
    return GeneratedSamples(
        tuple(paths),
        tuple(similarities),
        known.usual,
        known.limit,
        tuple(porosities),
    )


def _compared(known: TrainingPlanes | None, similarities: Sequence[float]) -> AnyDict:
    if known is None:
        return {}
    return {
        "similarity_to_training": round(similarities[-1], 4),
        "similarity_limit": round(known.limit, 4),
        "training_images": known.n_all,
        "training_images_searched": len(known.planes),
    }


def _refuse_copies(
    known: TrainingPlanes,
    similarities: Sequence[float],
    number: int,
    written: Sequence[Path],
) -> None:
    """Remove the files and raise an error if too many samples are copies.

    Raises
    ------
    ModelError
        If more samples than the permitted fraction are copies.
    """
    copies = [value for value in similarities if value > known.limit]
    if len(copies) <= _MAX_COPIES * number:
        return
    for path in written:
        path.unlink(missing_ok=True)
    n = len(similarities)
    first = "The first sample" if n == 1 else f"{len(copies)} of the first {n} samples"
    verb = "is a copy of a training image" if len(copies) == 1 else "are copies"
    raise ModelError(
        f"{first} {verb}: similarity {max(copies):.2f} to a training image, compared "
        f"with {known.usual:.2f} between different training images (limit: "
        f"{known.limit:.2f}). "
        "The samples are not anonymous, and no file was kept. Train the model on more "
        "images, or for fewer steps."
    )


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
            "generate images; train a model with --dimensions 2D or 3D."
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
    """Draw one sample, on the grey-value scale of the training data."""

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
            values = sample(
                network,
                noise,
                config.sampling_steps,
                stop_if_asked,
                porosity=config.porosity,
                guidance=config.guidance,
            )
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
