"""Study cells with learned algorithms: train on some rows, restore the others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, ConfigError, ModelError
from napari_geosr.core.steps import (
    CheckpointSaved,
    ShouldStop,
    Step,
    WarningIssued,
    recount,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.learning.methods import config_class
from napari_geosr.models import bundle
from napari_geosr.operations import restore, train
from napari_geosr.operations.reconstruct.fewer_views import splits
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.study.cell import (
    AlgorithmResult,
    Cell,
    Rows,
    StudyContext,
    Voxels,
)
from napari_geosr.operations.study.subset import training_pair
from napari_geosr.operations.train.job import TrainJob


def learned_steps(
    cell: Cell, method: str, settings: AnyMapping, should_stop: ShouldStop
) -> Generator[Step, None, AlgorithmResult]:
    """Train with a method of `learning.methods`, and restore the evaluated rows.

    Parameters
    ----------
    method : str
        ``noise2inverse`` learns from subsets of the few projections; other methods
        learn from pairs of reconstructions (`training_pair`).
    settings : mapping
        Settings of the method, in addition to those shared by all methods of the study.
    """
    context = cell.context
    if context.training_rows is None:
        raise ConfigError(
            f"{context.scan.title} has {context.scan.n_rows} rows, which is too few to "
            "train on one half and evaluate on the other. Choose algorithms that need "
            "no training."
        )
    if method == "noise2inverse":
        k = context.config.splits
        joined = context.reconstruction.full_turn == "join"
        parts = [(p.name, p.scan) for p in splits(cell.scan(), k, joined=joined)]
    else:
        parts = [("few", cell.scan())]
    seconds = 0.0
    judged: list[Path] = []
    for name, part in parts:
        path = cell.folder / f"{name}-judged.ome.tif"
        path, took = yield from context.cached_steps(
            part, context.evaluated_rows, path, should_stop
        )
        judged.append(path)
        seconds += took
    roles: AnyDict = {}
    learned: AnyDict = {"learned_from": "each other", "parts": len(parts)}
    if method == "noise2inverse":
        taught: list[Path] = []
        for name, part in parts:
            path = cell.folder / f"{name}-taught.ome.tif"
            path, _ = yield from context.cached_steps(
                part, context.training_rows, path, should_stop
            )
            taught.append(path)
        roles["source"] = tuple(taught)
    else:
        steps = _pair_steps(cell, context.training_rows, should_stop)
        source, target, target_description = yield from steps
        learned = {"learned_from": target_description}
        roles |= {"source": (source,), "target": (target,)}
    model, training = yield from _train(
        cell, method, {**settings, **cell.options, **roles}, should_stop
    )
    voxels, took = yield from _restore(context, model, judged, should_stop)
    return AlgorithmResult(
        voxels,
        seconds + took,
        float(training.get("training_seconds") or 0.0),
        {
            "method": method,
            **learned,
            **settings,
            **cell.options,
            "steps": training.get("steps"),
            "parameters": training.get("parameters"),
            "model": str(model.relative_to(context.models.parent)),
        },
    )


def _pair_steps(
    cell: Cell, rows: Rows, should_stop: ShouldStop
) -> Generator[Step, None, tuple[Path, Path, str]]:
    """Reconstruct the training rows of source and target.

    Returns
    -------
    source, target : Path
        Input and target of the network.
    target_description : str
        Description of the target, in a few words.
    """
    context = cell.context
    source_scan, target_scan, target_description = training_pair(
        context.scan, cell.subset, context.config
    )
    name = f"{rows[0]}-{rows[1]}.ome.tif"
    path = cell.folder / f"given-{name}"
    source, _ = yield from context.cached_steps(source_scan, rows, path, should_stop)
    if target_scan is context.scan:
        target, _ = yield from context.full_scan_steps(rows, should_stop)
    else:
        path = cell.folder / f"wanted-{name}"
        target, _ = yield from context.cached_steps(
            target_scan, rows, path, should_stop
        )
    return source, target, target_description


def _train(
    cell: Cell, method: str, settings: AnyMapping, should_stop: ShouldStop
) -> Generator[Step, None, tuple[Path, AnyDict]]:
    """Train, or resume training; return the bundle and the statistics."""
    config, name = cell.context.config, f"{cell.name}-{cell.subset.label}"
    kept = cell.context.models / name
    is_usable, damage = _is_usable(kept, settings["source"][0])
    if damage:
        yield WarningIssued(message=f"{damage} The model is trained again.")
    if not is_usable:
        source = io.read(settings["source"][0])
        shared = {
            "name": name,
            "steps": config.steps,
            "batch_size": config.batch_size,
            "patch": min(config.patch, *source.shape[-2:]),
            "seed": config.seed,
            "device": config.device,
            "threads": config.threads,
        }
        training = config_class(method).create(**{**shared, **settings})
        job = TrainJob(method=method, training=training).with_absolute_paths()
        # Different subsets or a different target require a separate training run.
        folder = f"{name}-{len(settings['source'])}"
        steps = train.train_steps(
            job,
            cell.folder / "training" / folder,
            should_stop=should_stop,
            opened=job.check(),
        )
        made = yield from recount(steps, saved=(CheckpointSaved,))
        if made is None:
            raise Cancelled("Stopped during training; the last checkpoint was kept.")
        with atomic.explained(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.move(made, kept)
    card = bundle.load(kept).card
    how = dict(card.provenance.get("training") or {})
    return kept, {**how, "parameters": card.n_parameters}


def _is_usable(model: Path, source: Path) -> tuple[bool, str]:
    """Return whether a usable model, trained on a file of this name, is stored.

    If the model is damaged, a description of the damage is also returned. Models of
    earlier releases, which used other training data, are not usable.
    """
    if not model.exists():
        return False, ""
    try:
        loaded = bundle.load(model)
        bundle.check_weights(loaded)
    except ModelError as error:
        return False, str(error)
    inputs = loaded.card.provenance.get("inputs") or {}
    source_path = str((inputs.get("source 1") or {}).get("path", ""))
    return Path(source_path).name == source.name, ""


def _restore(
    context: StudyContext, model: Path, paths: Sequence[Path], should_stop: ShouldStop
) -> Generator[Step, None, tuple[Voxels, float]]:
    """Restore the evaluated rows; return the voxels and the duration in seconds."""
    config = RestoreConfig(
        model=str(model),
        device=context.config.device,
        threads=context.config.threads,
        memory=context.config.memory,
    )
    volumes = [io.read(path) for path in paths]
    begun = time.monotonic()
    if len(volumes) > 1:
        steps = restore.restore_average_steps(volumes, config, should_stop=should_stop)
    else:
        steps = restore.restore_steps(volumes[0], config, should_stop=should_stop)
    done = yield from recount(steps)
    if not done.complete:
        raise Cancelled("Stopped during the restoration of slices by a model.")
    return np.asarray(done.volume.data), time.monotonic() - begun
