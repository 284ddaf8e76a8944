"""A cell of a study whose algorithm learns: train on some rows, restore the others."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import ShouldStop, Step, recount
from napari_geosr.io import atomic
from napari_geosr.operations.reconstruct.fewer_views import splits
from napari_geosr.operations.study.cell import Bench, Cell, Outcome, Voxels


def learned_steps(
    cell: Cell, method: str, settings: Mapping[str, Any], should_stop: ShouldStop
) -> Generator[Step, None, Outcome]:
    """Train by a method of `learning.methods`, and restore the judged rows.

    Parameters
    ----------
    method : str
        ``noise2inverse`` learns from parts of the few projections, others from
        pairs: what few projections give, and what all do.
    settings : mapping
        Of the method, beside those that all methods of the study share.
    """
    bench = cell.bench
    if bench.taught is None:
        raise ConfigError(
            f"{bench.scan.title} has {bench.scan.n_rows} rows: too few to train "
            "on one half and judge the other. Choose algorithms that do not learn."
        )
    if method == "noise2inverse":
        k = bench.config.splits
        joined = bench.reconstruction.full_turn == "join"
        parts = [(p.name, p.scan) for p in splits(cell.scan(), k, joined=joined)]
    else:
        parts = [("few", cell.scan())]
    seconds = 0.0
    judged: list[Path] = []
    for name, part in parts:
        path = cell.folder / f"{name}-judged.ome.tif"
        path, took = yield from bench.kept_steps(part, bench.judged, path, should_stop)
        judged.append(path)
        seconds += took
    roles: dict[str, Any] = {}
    learned: dict[str, Any] = {"learned_from": "each other", "parts": len(parts)}
    if method == "noise2inverse":
        taught: list[Path] = []
        for name, part in parts:
            path = cell.folder / f"{name}-taught.ome.tif"
            path, _ = yield from bench.kept_steps(part, bench.taught, path, should_stop)
            taught.append(path)
        roles["source"] = tuple(taught)
    else:
        steps = cell.lesson_steps(bench.taught, should_stop)
        source, target, made_of = yield from steps
        learned = {"learned_from": made_of}
        roles |= {"source": (source,), "target": (target,)}
    model, training = yield from _train(
        cell, method, {**settings, **cell.options, **roles}, should_stop
    )
    voxels, took = yield from _restore(bench, model, judged, should_stop)
    return Outcome(
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
            "model": str(model.relative_to(bench.models.parent)),
        },
    )


def _train(
    cell: Cell, method: str, settings: Mapping[str, Any], should_stop: ShouldStop
) -> Generator[Step, None, tuple[Path, dict[str, Any]]]:
    """Train, or go on where it was stopped: the bundle, and how it went."""
    from napari_geosr.models import bundle
    from napari_geosr.operations.train import TrainJob, config_class, train_steps

    config, name = cell.bench.config, f"{cell.name}-{cell.taken.label}"
    kept = cell.bench.models / name
    if not (kept.exists() and _learned_from(kept, settings["source"][0])):
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
        # Other parts, or another target, are another training.
        folder = f"{name}-{len(settings['source'])}"
        steps = train_steps(
            job,
            cell.folder / "training" / folder,
            should_stop=should_stop,
            opened=job.check(),
        )
        made = yield from recount(steps)
        if made is None:
            raise Cancelled("Stopped in a training; its last checkpoint is kept.")
        with atomic.explained(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.move(made, kept)
    card = bundle.load(kept).card
    how = dict(card.provenance.get("training") or {})
    return kept, {**how, "parameters": card.n_parameters}


def _learned_from(model: Path, source: Path) -> bool:
    """Whether a kept model knows this kind of lesson; earlier releases gave others."""
    from napari_geosr.models import bundle

    inputs = bundle.load(model).card.provenance.get("inputs") or {}
    given = str((inputs.get("source 1") or {}).get("path", ""))
    return Path(given).name == source.name


def _restore(
    bench: Bench, model: Path, paths: Sequence[Path], should_stop: ShouldStop
) -> Generator[Step, None, tuple[Voxels, float]]:
    """Restore the judged rows: voxels and seconds."""
    import time

    from napari_geosr.operations.restore import (
        RestoreConfig,
        restore_average_steps,
        restore_steps,
    )

    config = RestoreConfig(
        model=str(model),
        device=bench.config.device,
        threads=bench.config.threads,
        memory=bench.config.memory,
    )
    volumes = [io.read(path) for path in paths]
    begun = time.monotonic()
    if len(volumes) > 1:
        steps = restore_average_steps(volumes, config, should_stop=should_stop)
    else:
        steps = restore_steps(volumes[0], config, should_stop=should_stop)
    done = yield from recount(steps)
    if not done.complete:
        raise Cancelled("Stopped while a model restored slices.")
    return np.asarray(done.volume.data), time.monotonic() - begun
