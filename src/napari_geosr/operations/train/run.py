"""A training run: from opened volumes to a model bundle, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.errors import Cancelled, ConfigError, ModelError
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.steps import (
    JudgingStarted,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.inference.device import pick_device
from napari_geosr.learning.architecture import training_remark
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.diffusion.sampling import GeneratedPreview
from napari_geosr.learning.energy import Meter
from napari_geosr.learning.methods import METHODS
from napari_geosr.learning.sampling.pairs import check_pair, position_warning
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.learning.training import checkpoint
from napari_geosr.learning.training.preview import TrainingPreview
from napari_geosr.learning.training.trainer import Preview, Trainer
from napari_geosr.models import zoo
from napari_geosr.networks import all_settings
from napari_geosr.operations.inputs.unchanged import (
    check_inputs_unchanged,
    record_inputs,
)
from napari_geosr.operations.train.adapt.run import adapt_steps, better_model_steps
from napari_geosr.operations.train.checks import (
    check_slices,
    reading_warnings,
    smaller_patch_warnings,
)
from napari_geosr.operations.train.export import export_steps
from napari_geosr.operations.train.hot_voxels import filter_hot_voxels_steps
from napari_geosr.operations.train.job import TrainJob, open_roles
from napari_geosr.operations.train.noise import (
    correlated_noise_warning,
    measure_noise_steps,
)
from napari_geosr.operations.train.shared_region import SharedRegions, share_regions
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.method import Method
    from napari_geosr.operations.train.adapt.run import Adaptation


_CHECKPOINTS = "checkpoints"


def train_steps(
    job: TrainJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
    opened: Mapping[str, list[Volume]] | None = None,
) -> Generator[Step, None, Path | None]:
    """Train, or resume training, with checkpoints and the result in `folder`.

    Parameters
    ----------
    folder : Path
        Receives ``checkpoints/`` and, at the end, ``result/NAME`` with the bundle.
    keep_unfinished : callable
        Called after `should_stop` has ended training; returns whether to evaluate the
        model and write its bundle nevertheless.
    opened : mapping of str to list of Volume, optional
        Volumes already opened by `TrainJob.check`.

    Returns
    -------
    Path or None
        Path of the bundle, or of the original model if adapting it brought no gain;
        None if `should_stop` ended training or evaluation, which a further call
        resumes.

    Raises
    ------
    GeoSRError
        If the run fails; the last checkpoint is kept.
    """
    device = pick_device(job.training.device)
    yield StageStarted(message="Opening the data")
    method: Method = METHODS.load(job.method).Method(job.training)
    method.check(job.training)
    opened = opened or open_roles(job, method)
    shared = share_regions(method, opened)
    patches = yield from _load_patches_steps(job, method, folder, opened, shared)

    meter = Meter(job.training.country)
    trainer = Trainer(
        method,
        patches,
        folder / _CHECKPOINTS,
        _preview(patches, method, shared),
        device,
        meter.watts,
    )
    if not trainer.resume() and job.training.from_model:
        trainer.start_from(_starting_weights(job.training, method))
        if remark := training_remark(trainer.average):
            yield WarningIssued(message=f"{job.training.from_model}: {remark}")
    writes = trainer.accelerator.is_main_process
    if writes:
        record_inputs(folder, opened)
        meter.resume(folder / "energy.json", trainer.step)
    adaptation: Adaptation | None = None
    watch = FileWatch(volume for group in opened.values() for volume in group)
    with meter:
        if method.stops_by_risk:
            start = _starting_weights(job.training, method)
            adaptation = yield from watch.steps(
                adapt_steps(trainer, start, should_stop)
            )
            finished = adaptation.finished
        else:
            finished = yield from watch.steps(trainer.run(should_stop))
    if not writes or not (finished or (trainer.step and keep_unfinished())):
        return None
    if adaptation is not None and finished:
        original = adaptation.fallback_model(job.training)
        if original is not None:
            if not adaptation.hindrance:
                yield from _better_model_steps(original, shared.volumes, should_stop)
            yield WarningIssued(message=adaptation.fallback_message(job.training))
            return original
    yield JudgingStarted(message="Evaluating the model")
    result = folder / "result" / job.training.name
    steps = export_steps(
        result,
        job,
        trainer,
        patches,
        meter,
        opened,
        adaptation if finished else None,
        # After a request to finish early, the model is still evaluated.
        should_stop=lambda: should_stop() and not keep_unfinished(),
    )
    path: Path | None = None
    # If the evaluation is cancelled, it is repeated when training is resumed.
    with suppress(Cancelled):
        path = yield from steps
    if adaptation is not None and finished and path is not None:
        yield from _better_model_steps(path, shared.volumes, should_stop)
    return path


def _better_model_steps(
    path: Path, volumes: Mapping[str, Sequence[Volume]], should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Warn if another model is expected to restore the first scan better."""
    second = volumes.get("target")
    sentence = yield from better_model_steps(
        path, volumes["source"][0], second[0] if second else None, should_stop
    )
    if sentence:
        yield WarningIssued(message=sentence)


def _load_patches_steps(
    job: TrainJob,
    method: Method,
    folder: Path,
    opened: Mapping[str, list[Volume]],
    shared: SharedRegions,
) -> Generator[Step, None, Patches]:
    """Check and prepare the data, and yield warnings about them."""
    if (folder / _CHECKPOINTS / checkpoint.FILE).exists():
        check_inputs_unchanged(folder, opened)
    for sentence in reading_warnings(opened):
        yield WarningIssued(message=sentence)
    for sentence in check_slices(job.training, opened["source"]):
        yield WarningIssued(message=sentence)
    for sentence in shared.notes:
        yield WarningIssued(message=sentence)
    for sentence in smaller_patch_warnings(job.training, shared.volumes["source"]):
        yield WarningIssued(message=sentence)
    volumes = yield from filter_hot_voxels_steps(
        method.scenes(shared.volumes), method.label_roles
    )
    yield from _check_pairs(method, volumes)
    for sentence in method.inspect(volumes):
        yield WarningIssued(message=sentence)
    if along := method.independent_noise_along():
        for volume in volumes["source"]:
            if sentence := correlated_noise_warning(volume, job.method, along):
                yield WarningIssued(message=sentence)
    patches = Patches(
        volumes,
        job.training,
        paired=method.paired,
        factors={"target": method.upscale_factor},
        one_object=method.one_object,
        labels=method.label_roles,
    )
    scale = method.grey_scale()
    if scale is not None:
        for doubt in method.check_grey_scale(patches.grey["source"], opened["source"]):
            yield WarningIssued(message=doubt)
        own = {r: patches.grey[r] for r in method.label_roles}
        patches.grey = dict.fromkeys(patches.grey, scale) | own
    _check_grey_scales(job.training, patches, method)
    for sentence in method.remarks(patches):
        yield WarningIssued(message=sentence)
    if method.needs_noise:
        noises = yield from measure_noise_steps(method, volumes, patches)
        patches.set_noise(noises)
    return patches


def _preview(patches: Patches, method: Method, shared: SharedRegions) -> Preview | None:
    if method.task == "generate":
        return GeneratedPreview(patches) if method.config.planes == 1 else None
    return TrainingPreview(
        patches,
        "source",
        patches.grey[method.output_role],
        method.upscale_factor,
        shared.used_slice(method.config.preview_slice),
        labels=method.labels > 1,
    )


def _check_pairs(
    method: Method, volumes: Mapping[str, Sequence[Volume]]
) -> Generator[Step, None, None]:
    if not (method.paired and "target" in volumes):
        return
    for source, target in zip(volumes["source"], volumes["target"], strict=True):
        if is_simulated(source.name):
            # Simulated pairs are aligned, and their noise could be mistaken for a
            # shift.
            continue
        ndim, factor = method.config.ndim, method.upscale_factor
        if method.unpainted is not None:
            if warning := position_warning(source, target, factor, ndim):
                yield WarningIssued(message=warning)
            continue
        # With two labels, the numbers correlate with grey values; with more, their
        # order is arbitrary.
        result = check_pair(
            source, target, factor, ndim, is_correlated=method.labels <= 2
        )
        for warning in result.warnings:
            yield WarningIssued(message=warning)


def _check_grey_scales(
    config: TrainingConfig, patches: Patches, method: Method
) -> None:
    if config.normalisation == "stored" or method.labels > 1:
        return
    if patches.grey["source"] != patches.grey[method.output_role]:
        raise ConfigError(
            "Sources and targets have different grey scales, so the model must keep "
            "both: set normalisation to stored."
        )


def _starting_weights(config: TrainingConfig, method: Method) -> AnyDict:
    """Return the weights of the initial model, after checking that its network matches.

    Raises
    ------
    ModelError
        If the model does not exist, or its network differs.
    """
    assert config.from_model is not None
    try:
        model = zoo.find(config.from_model)
        weights: AnyDict = method.starting_weights(model)
    except ModelError as error:
        raise ModelError(f"The model to start from: {error}") from error
    card = model.card
    model_network = {
        "network": card.network,
        **all_settings(card.network, card.network_kwargs),
    }
    network = {"network": config.network, **method.network_kwargs()}
    differ = sorted(
        k
        for k in model_network.keys() | network.keys()
        if model_network.get(k) != network.get(k) and k not in method.replaced_settings
    )
    if differ:
        listed = ", ".join(
            f"{k} {model_network.get(k)} (here {network.get(k)})" for k in differ
        )
        raise ModelError(
            f"The model to start from, {model.card.name}, has a different network: "
            f"{listed}. Omit the network's settings to use those of the model."
        )
    return weights
