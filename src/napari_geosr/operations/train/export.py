"""Evaluate trained weights and write them as a bundle with a card."""

from __future__ import annotations

import platform
from collections.abc import Generator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_geosr.core import provenance
from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyDict
from napari_geosr.learning.architecture import merged_for_export
from napari_geosr.models import bundle
from napari_geosr.models.card import FigureRow, ModelCard, Normalisation
from napari_geosr.models.training_data import describe
from napari_geosr.networks.wrappers.bound import NoiseBound
from napari_geosr.operations.train.figures import evaluate_model_steps
from napari_geosr.operations.train.noise import noise_range
from napari_geosr.operations.train.similarity import try_similarity_steps
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.energy import Meter
    from napari_geosr.learning.method import Method
    from napari_geosr.learning.sampling.patches import Patches
    from napari_geosr.learning.training.trainer import Trainer
    from napari_geosr.networks.spec import NetworkSpec
    from napari_geosr.operations.train.adapt.run import Adaptation
    from napari_geosr.operations.train.job import TrainJob

#: Number of simulated volumes per role with a recorded checksum.
_MAX_SIMULATED_CHECKSUMS = 2
#: Value for cards: the mean and standard deviation of the training volumes were
#: computed without hot voxels.
_STATISTICS: Literal["without hot voxels"] = "without hot voxels"


def export_steps(
    folder: Path,
    job: TrainJob,
    trainer: Trainer,
    patches: Patches,
    meter: Meter,
    opened: Mapping[str, Sequence[Volume]],
    adaptation: Adaptation | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Path]:
    """Evaluate the averaged network and write it with its card.

    Reparameterised networks are written with their branches merged.

    Parameters
    ----------
    opened : mapping of str to sequence of Volume
        The volumes as given by the user, by role; the card names them.
    adaptation : Adaptation, optional
        Result of adapting a model; its metrics replace the evaluation.

    Raises
    ------
    Cancelled
        If `should_stop` ended the evaluation; nothing is written.
    """
    config, method = job.training, trainer.method
    network = trainer.average.eval()
    spec: Any = network.spec
    normalisation = _normalisation(method.normalisation, patches, method.output_role)
    labels = method.labels
    figures: tuple[FigureRow, ...]
    if adaptation is None:
        figures = yield from evaluate_model_steps(
            trainer, patches, labels, should_stop=should_stop
        )
    else:
        figures = adaptation.figures
    sources = [s.volumes["source"] for s in patches.scenes if "source" in s.volumes]
    network, kwargs = merged_for_export(network.cpu(), method.network_kwargs())
    if isinstance(network, NoiseBound):
        network = network.network
    card = ModelCard(
        name=config.name,
        title=config.name,
        task=_task(method),
        **({"labels": labels} if labels > 1 else {}),
        method=job.method,
        network=config.network,
        network_kwargs=kwargs,
        axes=spec.axes,
        adjacent_slices=spec.adjacent_slices,
        upscale_factor=spec.upscale_factor[0],
        halo=max(spec.halo),
        **({} if spec.local else {"local": False}),
        **_inputs(method),
        **method.card_fields(),
        normalisation=normalisation,
        training=describe(
            sources, _data_sentence(job, patches), config.seed
        ).model_copy(update={"noise": noise_range(patches)}),
        noise_bound=method.noise_bound(),
        figures=figures,
        description=(
            f"Trained with the method {job.method} for {trainer.step} steps on "
            f"{', '.join(v.title for v in opened['source'][:3])}"
            f"{', …' if len(opened['source']) > 3 else ''}.{_upscaling_sentence(spec)}"
        ),
        intended_use=method.intended_use(),
        not_for=(
            "Objects, contrasts or voxel sizes other than those of the training "
            "data. Compare the result with the original. No medical use."
        ),
        licence=config.licence,
        provenance=_record(job, trainer, opened, meter, adaptation),
        weights_sha256="0" * 64,
        n_parameters=1,
    )
    index = None
    if config.similarity_index:
        index = yield from try_similarity_steps(
            card, network, folder.parent.parent, patches, should_stop=should_stop
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    bundle.save(folder, card, network, similarity=index)
    bundle.verify(folder)
    return folder


def _task(method: Method) -> Any:
    if method.labels > 1:
        return "segment"
    return "super-resolution" if method.upscale_factor > 1 else method.task


def _upscaling_sentence(spec: NetworkSpec) -> str:
    """Return a sentence on the size of the result's voxels; "" for a factor of 1."""
    factor = max(spec.upscale_factor)
    if factor == 1:
        return ""
    if spec.axes == "ZYX":
        return f" The voxels of the result are {factor} times smaller along Z, Y and X."
    return (
        f" The voxels of the result are {factor} times smaller along Y and X; the "
        "slice spacing is "
        "unchanged."
    )


def _inputs(method: Method) -> AnyDict:
    """Return the card fields of models that restore and average several scans."""
    if not method.one_object:
        return {}
    return {"inputs": len(method.config.source), "run_on": method.run_on}


def _normalisation(kind: str, patches: Patches, output_role: str) -> Normalisation:
    if kind == "volume":
        return Normalisation(kind="standardise", statistics=_STATISTICS)
    source, output = patches.grey["source"], patches.grey[output_role]
    return Normalisation(
        kind="stored",
        mean=source.mean,
        std=source.std,
        output_mean=output.mean,
        output_std=output.std,
        statistics=_STATISTICS,
    )


def _data_sentence(job: TrainJob, patches: Patches) -> str:
    shapes = {
        " × ".join(map(str, v.shape))
        for scene in patches.scenes
        for v in scene.volumes.values()
    }
    return (
        f"{len(patches.scenes)} volume(s) of {', '.join(sorted(shapes)[:4])} voxels "
        f"provided by the user; {100 * job.training.validation:.0f} % of each is held "
        "out as a block."
    )


def _record(
    job: TrainJob,
    trainer: Trainer,
    opened: Mapping[str, Sequence[Volume]],
    meter: Meter,
    adaptation: Adaptation | None,
) -> AnyDict:
    names = ("torch", "accelerate", "numpy")
    # Simulated volumes are determined by their seeds, so a few checksums suffice to
    # detect a computer that produces different volumes from the same seeds.
    inputs = {
        f"{role} {i + 1}": volume
        for role, volumes in opened.items()
        for i, volume in enumerate(volumes)
        if i < _MAX_SIMULATED_CHECKSUMS or not is_simulated(volume.name)
    }
    return provenance.record(
        "train",
        inputs=inputs,
        settings=job.to_values(),
        training={
            "steps": trainer.step,
            "seed": job.training.seed,
            "device": str(trainer.accelerator.device),
            "processes": trainer.accelerator.num_processes,
            "parts_per_batch": trainer.parts.count,
            "training_seconds": round(trainer.seconds, 3),
            **meter.figures(),
            **({"adapted": adaptation.facts()} if adaptation else {}),
        },
        versions={"python": platform.python_version()}
        | {name: _version(name) for name in names},
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
