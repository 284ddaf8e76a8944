"""From trained weights to a bundle whose card says how good they are."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.models import bundle
from napari_geosr.models.card import FigureRow, ModelCard, Normalisation
from napari_geosr.models.training_data import describe
from napari_geosr.operations.own_figures import own_figures
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.energy import Meter
    from napari_geosr.learning.method import Method
    from napari_geosr.learning.patches import Patches, Scene
    from napari_geosr.learning.trainer import Trainer
    from napari_geosr.operations.train import TrainJob

#: Voxels of the validation block that figures are computed from, at most.
_MOST_VOXELS = 2**21
_SIMULATED_CHECKSUMS = 2
_SIGMAS = (0.5, 0.8, 1.0, 1.3, 1.6, 2.0, 2.6, 3.4)


def export(
    folder: Path,
    job: TrainJob,
    trainer: Trainer,
    patches: Patches,
    meter: Meter,
    opened: Mapping[str, Sequence[Volume]],
) -> Path:
    """Write the averaged network with its card into `folder` and return it.

    `opened` are the volumes as they were given, by role: what the card names.
    """
    config, method = job.training, trainer.method
    network = trainer.average.cpu().eval()
    spec: Any = network.spec
    normalisation = _normalisation(config.normalisation, patches, method.output_role)
    labels = int(method.network_kwargs().get("out_channels", 1))
    sources = [s.volumes["source"] for s in patches.scenes if "source" in s.volumes]
    card = ModelCard(
        name=config.name,
        title=config.name,
        task=_task(method),
        **({"labels": labels} if labels > 1 else {}),
        method=job.method,
        network=config.network,
        network_kwargs=method.network_kwargs(),
        axes=spec.axes,
        adjacent_slices=spec.adjacent_slices,
        upscale_factor=spec.upscale_factor[0],
        halo=max(spec.halo),
        **_inputs(method),
        normalisation=normalisation,
        training=describe(sources, _data_sentence(job, patches), config.seed),
        figures=_figures(trainer, patches, labels),
        description=(
            f"Trained by {job.method} in {trainer.step} steps on "
            f"{', '.join(v.title for v in opened['source'][:3])}"
            f"{', …' if len(opened['source']) > 3 else ''}."
        ),
        intended_use=method.intended_use(),
        not_for=(
            "Other objects, contrasts or voxel sizes than those of the training data. "
            "Compare with the original. No medical use."
        ),
        licence=config.licence,
        provenance=_record(job, trainer, opened, meter),
        weights_sha256="0" * 64,
        n_parameters=1,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    bundle.save(folder, card, network)
    bundle.verify(folder)
    return folder


def _task(method: Method) -> Any:
    if method.labels > 1:
        return "segment"
    return "super-resolution" if method.upscale_factor > 1 else method.task


def _inputs(method: Method) -> dict[str, Any]:
    """How many scans of one object are restored together, where it is not one."""
    if not method.one_object:
        return {}
    return {"inputs": len(method.config.source), "run_on": method.run_on}


def _normalisation(kind: str, patches: Patches, output_role: str) -> Normalisation:
    if kind == "volume":
        return Normalisation(kind="standardise")
    given, wanted = patches.grey["source"], patches.grey[output_role]
    return Normalisation(
        kind="stored",
        mean=given.mean,
        std=given.std,
        output_mean=wanted.mean,
        output_std=wanted.std,
    )


def _data_sentence(job: TrainJob, patches: Patches) -> str:
    shapes = {
        " × ".join(map(str, v.shape))
        for scene in patches.scenes
        for v in scene.volumes.values()
    }
    return (
        f"{len(patches.scenes)} volume(s) of {', '.join(sorted(shapes)[:4])} voxels "
        f"given by the person who trained it; {100 * job.training.validation:.0f} % of "
        "each kept apart as a block."
    )


def _record(
    job: TrainJob,
    trainer: Trainer,
    opened: Mapping[str, Sequence[Volume]],
    meter: Meter,
) -> dict[str, Any]:
    names = ("torch", "accelerate", "numpy")
    # Simulated volumes follow from their numbers: the checksums of a few are enough to
    # see that they come out the same elsewhere.
    inputs = {
        f"{role} {i + 1}": volume
        for role, volumes in opened.items()
        for i, volume in enumerate(volumes)
        if i < _SIMULATED_CHECKSUMS or not is_simulated(volume.name)
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
            "parts_per_batch": trainer.parts,
            "training_seconds": round(trainer.seconds, 1),
            **meter.figures(),
        },
        versions={"python": platform.python_version()}
        | {name: _version(name) for name in names},
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _figures(
    trainer: Trainer, patches: Patches, labels: int = 1
) -> tuple[FigureRow, ...]:
    """PSNR on validation blocks against the target, where there is one.

    Beside it what no training is needed for: the input's, and that of a Gaussian filter
    whose width is the best for this very target; or, where voxels become finer, that of
    the input enlarged by cubic splines. Labels are judged by their overlap instead.
    """
    scene = next((s for s in patches.scenes if "target" in s.volumes), None)
    if scene is None or "source" not in scene.volumes:
        return own_figures(trainer, patches, _SIGMAS)
    method = trainer.method
    source, target = (
        _validation_block(scene, patches, r) for r in ("source", "target")
    )
    restored = _restore(trainer, source, target.shape)
    if labels > 1:
        from napari_geosr.operations.label_figures import label_figures

        title = scene.volumes["target"].title
        return label_figures(source, target, restored, labels, title, _SIGMAS)
    span = float(np.ptp(np.percentile(target, (1, 99)))) or 1.0
    kind = "noisy target " if method.noisy_target else ""
    where = f"validation block against {kind}{scene.volumes['target'].title}"
    if method.upscale_factor > 1:
        where += " (input: cubic enlargement)"
        baselines = {"input": _psnr(_enlarged(source, target.shape), target, span)}
    else:
        baselines = {"input": _psnr(source, target, span)}
        baselines |= _best_gaussian(source, target, span)
    rows = baselines | {"model": _psnr(restored, target, span)}
    return tuple(
        FigureRow(test_set=where, method=name, psnr=round(value, 3))
        for name, value in rows.items()
    )


def _best_gaussian(source: Any, target: Any, span: float) -> dict[str, float]:
    from scipy.ndimage import gaussian_filter

    found = {s: _psnr(gaussian_filter(source, s), target, span) for s in _SIGMAS}
    best = max(found, key=lambda s: found[s])
    return {f"Gaussian {best:g}": found[best]}


def _enlarged(block: Any, shape: tuple[int, ...]) -> Any:
    from scipy.ndimage import zoom

    factors = [n // m for n, m in zip(shape, block.shape, strict=True)]
    return zoom(block, factors, order=3, grid_mode=True, mode="nearest")


def _validation_block(scene: Scene, patches: Patches, role: str) -> Any:
    """The block kept apart, in standard deviations of the target's grey scale."""
    volume, factor = scene.volumes[role], patches.factors[role]
    kept = len(volume.shape) - patches.config.ndim
    factors = [1 if axis < kept else factor for axis in range(len(volume.shape))]
    # In voxels of the source, as places are counted everywhere.
    key = []
    for axis, size in enumerate(volume.shape):
        n = size // factors[axis]
        low, high = scene.split.validation if axis == scene.split.axis else (0, n)
        key.append(slice(low, high))
    size = int(np.prod([k.stop - k.start for k in key]))
    size *= max(patches.factors.values()) ** patches.config.ndim
    if size > _MOST_VOXELS:  # a middle part of the plane is enough for a figure
        shrink = (_MOST_VOXELS / size) ** 0.5
        for axis in (-2, -1):
            n = key[axis].stop - key[axis].start
            keep = max(64, int(n * shrink))
            start = key[axis].start + max(0, (n - keep) // 2)
            key[axis] = slice(start, min(start + keep, key[axis].stop))
    key = [slice(k.start * f, k.stop * f) for k, f in zip(key, factors, strict=True)]
    return patches.grey[role].standardise(np.asarray(volume.data[tuple(key)]))


def _restore(trainer: Trainer, block: Any, shape: tuple[int, ...]) -> Any:
    """Restore a standardised block with tiled inference, as people will."""
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.inference.device import free_memory
    from napari_geosr.inference.intensity import IntensityStatistics
    from napari_geosr.inference.runner import restore_tiles

    target = np.empty(shape, np.float32)
    steps = restore_tiles(
        trainer.average,
        block,
        target,
        statistics=IntensityStatistics(0.0, 1.0, -10.0, 10.0, block.size),
        budget=int(free_memory("cpu") * 0.3),
    )
    run_to_end(steps)
    return target


def _psnr(image: Any, truth: Any, span: float) -> float:
    error = float(np.mean((image - truth) ** 2))
    return float(10 * np.log10(span**2 / max(error, 1e-12)))
