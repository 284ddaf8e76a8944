"""Calibrate the porosity interval of a model with scans of known porosity."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled, ConfigError, ModelError
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.inference.members import is_generative
from napari_geosr.io.unfinished_files.atomic import write_text
from napari_geosr.learning.config import Files
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.interval import (
    conformal_factor,
    conformal_quantile,
    needed_factor,
    needed_shift,
)
from napari_geosr.measure.porosity import porosity_steps
from napari_geosr.models import zoo
from napari_geosr.models.bundle import Model
from napari_geosr.models.bundle_files import CARD_FILE
from napari_geosr.models.card import DeviationCalibration
from napari_geosr.operations.inputs import InputConfig, open_volume
from napari_geosr.operations.measure.deviation import uncertainty_record
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.steps import restore_steps
from napari_geosr.physics.simulated import is_simulated, open_simulated


class CalibrationConfig(Config):
    """Scans of known objects, and how the uncertainty is computed."""

    source: Files = Field(
        (),
        title="Source",
        description="Scans that the model restores: files, folders of slices, OME-Zarr "
        "or simulated volumes. They must not be training data. Separate multiple "
        "entries with commas.",
    )
    target: Files = Field(
        (),
        title="Target",
        description="High-quality scan of the object in each source, on the voxel grid "
        "of the restored source, in the same order.",
    )
    uncertainty: Literal["tta", "diffusion"] = Field(
        "tta",
        title="Uncertainty",
        description="How the standard deviations are computed: tta (mirrored and "
        "rotated copies) or diffusion (samples of a diffusion model).",
    )
    uncertainty_members: int | None = Field(
        None,
        ge=2,
        le=64,
        title="Members",
        description="Number of copies or samples. Use the same number for scans that "
        "you measure. By default 8, or fewer if the model or the voxel size does not "
        "allow 8.",
    )
    sampling_steps: int = Field(
        20,
        ge=2,
        le=1000,
        title="Sampling steps",
        description="Number of passes through the network per sample. Use the same "
        "number for scans that you measure.",
    )
    nominal: float = Field(
        0.9,
        ge=0.5,
        le=0.99,
        title="Nominal coverage",
        description="Fraction of scans with the true porosity in the interval. 0.9 "
        "needs at least 9 scans, 0.95 at least 19.",
    )
    seed: int = Field(
        0, ge=0, title="Seed", description="Random seed of the first scan's samples."
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        title="Threads",
        description="CPU threads; by default the number of cores minus one.",
    )


@dataclass(frozen=True)
class _NeededWidth:
    """Width of the interval that is needed for one scan.

    Attributes
    ----------
    needed : float
        Number of standard deviations at which the interval reaches the known porosity,
        with the sign of the error.
    members : int
        Number of copies or samples from which the deviations were computed.
    shift : float or None
        Porosity by which the quantiles of the samples' porosities must be moved
        outwards; None without samples.
    """

    needed: float
    members: int
    shift: float | None = None


def calibrate_steps(
    name: str | Path,
    config: CalibrationConfig,
    reading: InputConfig | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, DeviationCalibration]:
    """Restore scans of known objects and record the width of the interval on the card.

    The porosities of each target and of the restored source are measured with Otsu's
    threshold. The factor is the conformal quantile of the numbers of standard
    deviations at which the intervals reach the porosities of the targets. With samples
    of a diffusion model, the shift of the quantiles of their porosities is found in the
    same way.

    Parameters
    ----------
    name : str or Path
        One of the user's own models, or the path of its bundle.
    config : CalibrationConfig
    reading : InputConfig, optional
        Corrections of the metadata of the files.

    Raises
    ------
    ConfigError
        If the volumes do not match, or there are too few.
    ModelError
        If the model is bundled with the package, or cannot be calibrated.
    """
    model = zoo.find(name)
    _check_model(model)
    pairs = _pairs(config, reading)
    yield StageStarted(message=f"Calibrating {model.card.name}", total=len(pairs))
    found: list[_NeededWidth] = []
    known: set[str] = set()
    for number, (source, target) in enumerate(pairs):
        steps = _outcome_steps(model, source, target, config, number, should_stop)
        with StepIterator(steps) as iterator:
            for step in iterator:
                if isinstance(step, WarningIssued) and step.message not in known:
                    known.add(step.message)
                    yield step
        found.append(iterator.result)
        yield BlockDone(number + 1, len(pairs))
    members = min(one.members for one in found)
    factor = conformal_factor([one.needed for one in found], config.nominal)
    if not math.isfinite(factor) or factor <= 0:
        raise ModelError(
            f"{model.card.name!r} cannot be calibrated: in too many scans, the "
            "porosity of the target is not reached, however many standard deviations "
            "the grey values are shifted by. Check that sources and targets show the "
            "same objects."
        )
    calibration = DeviationCalibration(
        kind=config.uncertainty,
        members=members,
        factor=float(f"{factor:.4g}"),
        nominal=config.nominal,
        scans=len(found),
        weights_sha256=model.card.weights_sha256,
        description=", ".join(path.name for path in config.source),
        sampling_steps=config.sampling_steps
        if is_generative(config.uncertainty)
        else None,
        quantile_shift=_quantile_shift(found, config.nominal),
    )
    card = model.card.model_copy(update={"uncertainty": calibration})
    write_text(model.path / CARD_FILE, card.to_yaml(), overwrite=True)
    return calibration


def _quantile_shift(found: list[_NeededWidth], nominal: float) -> float | None:
    """Return the shift of the quantiles; None unless all scans have samples."""
    shifts = [one.shift for one in found if one.shift is not None]
    if len(shifts) < len(found):
        return None
    return float(f"{conformal_quantile(shifts, nominal):.4g}")


def _check_model(model: Model) -> None:
    card = model.card
    if model.path.resolve().is_relative_to(zoo.bundled_folder().resolve()):
        raise ModelError(
            f"The model {card.name!r} is part of napari-geosr and cannot be changed. "
            "Calibrate one of your own models."
        )
    if not model.path.is_dir():
        raise ModelError(
            f"{model.path} is a zip file, and its card cannot be changed: unpack it, "
            "and give the folder."
        )
    if card.labels > 1:
        raise ModelError(
            f"The model {card.name!r} outputs labels, which have no standard "
            "deviation. Calibrate a model that outputs grey values."
        )


def _pairs(
    config: CalibrationConfig, reading: InputConfig | None
) -> list[tuple[Volume, Volume]]:
    sources, targets = (
        [volume for path in paths for volume in _opened(path, reading)]
        for paths in (config.source, config.target)
    )
    if len(sources) != len(targets):
        raise ConfigError(
            f"There are {len(sources)} sources and {len(targets)} targets: each source "
            "needs its target, in the same order."
        )
    # The rank of the quantile, ⌈(n + 1) · nominal⌉, must not exceed n.
    least = math.ceil(round(config.nominal / (1 - config.nominal), 9))
    if len(sources) < least:
        raise ConfigError(
            f"A nominal coverage of {config.nominal:g} needs at least {least} scans, "
            f"but there are {len(sources)}: give more scans (--source, --target), or "
            "choose a smaller --nominal."
        )
    return list(zip(sources, targets, strict=True))


def _opened(path: Path, reading: InputConfig | None) -> list[Volume]:
    if is_simulated(path):
        return open_simulated(path)
    return [open_volume(path, reading)]


def _outcome_steps(
    model: Model,
    source: Volume,
    target: Volume,
    config: CalibrationConfig,
    number: int,
    should_stop: ShouldStop,
) -> Generator[Step, None, _NeededWidth]:
    """Restore a scan, and compare its porosity with that of the target."""
    settings = RestoreConfig.create(
        model=str(model.path),
        uncertainty=config.uncertainty,
        uncertainty_members=config.uncertainty_members,
        sampling_steps=config.sampling_steps,
        seed=config.seed + number,
        device=config.device,
        threads=config.threads,
    )
    made = yield from restore_steps(source, settings, should_stop=should_stop)
    if not made.complete or should_stop():
        raise Cancelled("The calibration was cancelled; the card was not changed.")
    assert made.deviation is not None
    if made.volume.shape != target.shape:
        raise ConfigError(
            f"{target.title} has the shape {target.shape}, but the restored "
            f"{source.title} has {made.volume.shape}: give a target on the voxel grid "
            "of the result."
        )
    reports = []
    for volume in (made.volume, target):
        steps = porosity_steps(
            volume, PorosityConfig(), keep_labels=False, should_stop=should_stop
        )
        with StepIterator(steps) as iterator:
            for _ in iterator:
                pass
        reports.append(iterator.result)
    restored, true = reports
    needed = needed_factor(
        np.asarray(made.volume.data),
        np.asarray(made.deviation.data),
        restored.threshold,
        "dark",
        true.porosity,
    )
    record = uncertainty_record(made.volume.provenance)
    samples = made.volume.provenance[-1].get("porosity_samples") or {}
    shift = None
    if each := samples.get("porosity"):
        shift = needed_shift(each, config.nominal, true.porosity)
    return _NeededWidth(needed, len(record["members"]), shift)
