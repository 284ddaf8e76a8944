"""Train a model for shapes, with checkpoints, and write its bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.orientation import orientation_entry
from napari_geosr.core.steps import (
    JudgingStarted,
    ShouldStop,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.inference.device import pick_device
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.learning.shapes.data import FittedMethod, ShapeMethod, ShapeSet
from napari_geosr.learning.training import checkpoint
from napari_geosr.learning.training.trainer import Trainer
from napari_geosr.models import bundle
from napari_geosr.models.card import ModelCard, TrainingData
from napari_geosr.operations.inputs.unchanged import (
    check_inputs_unchanged,
    record_inputs,
)
from napari_geosr.operations.shapes.job import ShapeTrainJob
from napari_geosr.operations.shapes.models import SEGMENTING, find_shape_model
from napari_geosr.operations.shapes.voxels import trained_sizes

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.core.types import AnyDict, AnyMapping
    from napari_geosr.core.volume import Volume
    from napari_geosr.networks.spec import NetworkSpec

_CHECKPOINTS = "checkpoints"
_TEXTS = {
    "shape_sr": (
        "super-resolution",
        "Doubles the resolution of a binary shape; applied repeatedly for factors of "
        "4 and 8.",
        "Coarse segmentations of smooth shapes, such as bone, skulls or pores.",
        "Details thinner than a voxel of the input, which the input cannot show.",
    ),
    "shape_completion": (
        "complete",
        "Completes a binary shape with a missing part.",
        "Shapes of the kind that the model was trained on.",
        "Medical use. A completion is a guess that resembles the training shapes.",
    ),
}
_TEXTS["sparse_segmentation"] = (
    "segment",
    "Labels the voxels of a scan inside a mask.",
    "Scans recorded in the same way as the training data, with masks of the same kind.",
    "Voxels outside the mask, and materials other than those of the training data.",
)
_TEXTS["shell_completion"] = (
    "complete",
    "Completes a closed shell with a missing part.",
    "Shells of the kind and orientation that the model was trained on.",
    "Medical use. A completion is a guess that resembles the training shapes.",
)
#: Remarks for the cards of models that were not evaluated, by learning method.
_REMARKS = {
    "shape_completion": (
        "The accuracy of this model was not measured. Compare its results with "
        "complete shapes that it was not trained on.",
    )
}
_REMARKS["shell_completion"] = _REMARKS["shape_completion"]
_REMARKS["sparse_segmentation"] = (
    "The accuracy of this model was not measured. Compare its labels with a labelled "
    "scan that it was not trained on, and with those of a threshold.",
)


def train_shape_steps(
    job: ShapeTrainJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Train, or resume training, with checkpoints and the result in `folder`.

    Parameters
    ----------
    folder : Path
        Receives ``checkpoints/`` and, at the end, ``result/NAME`` with the bundle.
    keep_unfinished : callable
        Called after `should_stop` has ended training; returns whether to write the
        model nevertheless.

    Returns
    -------
    Path or None
        Path of the bundle; None if the run was stopped.

    Raises
    ------
    GeoSRError
        If the run fails, or an input has changed since the run to be resumed began.
    """
    shapes = job.shapes()
    if (folder / _CHECKPOINTS / checkpoint.FILE).exists():
        check_inputs_unchanged(folder, _by_role(shapes))
    try:
        yield from job.check_steps(should_stop, shapes)
    except Cancelled:
        return None
    method: ShapeMethod = SHAPE_METHODS.load(job.method).Method(job.training)
    for note in method.inspect({"source": shapes.volumes}):
        yield WarningIssued(message=note)
    stated = shapes.orientation if method.is_oriented else ""
    orientation = orientation_entry(stated)
    device = pick_device(job.training.device)
    if isinstance(method, FittedMethod):
        steps = _fit_steps(job, method, shapes, orientation, folder, should_stop)
        return (yield from steps)
    trainer = Trainer(method, shapes, folder / _CHECKPOINTS, device=device)
    start = job.training.from_model
    if not trainer.resume() and start is not None:
        model = find_shape_model(start, job.method, "start the training of")
        trainer.start_from(model.network().state_dict())
    record_inputs(folder, _by_role(shapes))
    watch = FileWatch((*shapes.volumes, *shapes.targets))
    finished = yield from watch.steps(trainer.run(should_stop))
    if not (finished or (trainer.step and keep_unfinished())):
        return None
    network = trainer.average.cpu().eval()
    facts = {
        "steps": trainer.step,
        "device": str(trainer.accelerator.device),
        "training_seconds": round(trainer.seconds, 3),
        **orientation,
    }
    record = yield from _record_steps(job, shapes, facts, watch)
    done = f" Trained for {trainer.step} steps."
    card = _card(job, method, network, done, record, shapes)
    return (yield from _write_steps(card, network, folder))


def _fit_steps(
    job: ShapeTrainJob,
    method: FittedMethod,
    shapes: ShapeSet,
    orientation: AnyMapping,
    folder: Path,
    should_stop: ShouldStop,
) -> Generator[Step, None, Path | None]:
    """Compute a model without optimisation; None if the run was stopped."""
    began = time.monotonic()
    fitted = yield from method.fit_steps(shapes, should_stop)
    if fitted is None:
        return None
    seconds = round(time.monotonic() - began, 3)
    facts = {"training_seconds": seconds, **orientation}
    record = yield from _record_steps(job, shapes, facts)
    card = _card(job, method, fitted, "", record, shapes)
    return (yield from _write_steps(card, fitted, folder))


def _by_role(shapes: ShapeSet) -> dict[str, Sequence[Volume]]:
    return {"source": shapes.volumes, "target": shapes.targets}


def _record_steps(
    job: ShapeTrainJob,
    shapes: ShapeSet,
    facts: AnyMapping,
    watch: FileWatch | None = None,
) -> Generator[Step, None, AnyDict]:
    """Create the record of a training run, with the checksums of its volumes.

    Changes that `watch` has already reported are not reported again.
    """
    reported = {} if watch is None else watch.to_record()
    inputs = {
        f"{role} {i}": volume
        for role, volumes in _by_role(shapes).items()
        for i, volume in enumerate(volumes, 1)
    }
    steps = provenance.record_steps(
        "train",
        inputs=inputs,
        settings=job.to_values(),
        training={"seed": job.training.seed, "numpy": np.__version__, **facts},
        **reported,
    )
    with StepIterator(steps) as iterator:
        for step in iterator:
            if not (reported and isinstance(step, WarningIssued)):
                yield step
    return iterator.result


def _write_steps(
    card: ModelCard, network: nn.Module, folder: Path
) -> Generator[Step, None, Path]:
    yield JudgingStarted(message="Writing the model")
    result = folder / "result" / card.name
    result.parent.mkdir(parents=True, exist_ok=True)
    bundle.save(result, card, network, half=True)
    bundle.verify(result)
    return result


def _card(
    job: ShapeTrainJob,
    method: ShapeMethod,
    network: nn.Module,
    done: str,
    record: AnyDict,
    shapes: ShapeSet,
) -> ModelCard:
    config, spec = job.training, cast("NetworkSpec", network.spec)
    task, description, use, limits = _TEXTS[job.method]
    noun = "scans with labels" if config.target else "volumes of shapes"
    trained_on = (
        f"{len(config.source)} {noun}, provided by the user."
        if config.source
        else f"Simulated shapes ({config.simulated})."
    )
    # Grey values depend on the voxel size; binary shapes have no scale.
    sizes = trained_sizes(shapes.volumes) if job.method == SEGMENTING else {}
    return ModelCard.create(
        name=config.name,
        title=config.name,
        task=task,
        labels=method.labels,
        method=job.method,
        network=config.network,
        network_kwargs={
            key: list(value) if isinstance(value, tuple) else value
            for key, value in method.network_kwargs().items()
        },
        axes=spec.axes,
        upscale_factor=spec.upscale_factor[0],
        halo=max(spec.halo),
        local=spec.local,
        training=TrainingData(
            description=trained_on,
            grey_values=tuple(v for _, v in sorted(shapes.grey_values.items())),
            **sizes,
        ),
        description=f"{description}{method.output_note}{done}",
        intended_use=use,
        not_for=limits,
        remarks=_REMARKS.get(job.method, ()),
        licence=config.licence,
        provenance=record,
        weights_sha256="0" * 64,
        n_parameters=1,
    )
