"""Build training pairs from one scan by simulating a low-resolution system.

The steps are blurring, averaging over low-resolution voxels (or keeping a single voxel
in each), and adding noise, as set or as measured on a real scan. Volumes are processed
a few slices at a time; the noise is generated per slice, so that the result does not
depend on the block size.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.operations.inputs.scan import reader_warnings
from napari_geosr.operations.pairs import Pairs
from napari_geosr.operations.pairs.config import DegradeConfig
from napari_geosr.operations.pairs.files import (
    plan,
    untrained_factor_notes,
    write_report,
)
from napari_geosr.operations.pairs.inputs import (
    fitting_factor,
    memory_for_voxels,
    real_volume,
    with_matching_axes,
)
from napari_geosr.operations.pairs.measured import contrast_levels, measure_steps
from napari_geosr.operations.pairs.picture import side_by_side_png
from napari_geosr.operations.pairs.simulated_system import DegradedScan, cropped
from napari_geosr.physics.degradations import (
    DEGRADATIONS,
    ContrastLevels,
    ImagingEstimate,
)

__all__ = ["DegradeConfig", "degrade", "degrade_steps"]

#: Maximum misfit of a good estimate: root-mean-square error of the logarithmic
#: spectrum.
_MISFIT = 0.35
#: If the noise correlation of neighbouring voxels of the high-resolution scan is at
#: least this high, a warning states that both scans of a pair share noise.
_MAX_CORRELATION = 0.1
#: Maximum relative difference between voxel sizes without a warning.
_SAME_SIZE = 0.05


def degrade_steps(
    high: Volume,
    out: str | Path,
    config: DegradeConfig | None = None,
    *,
    like: Volume | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Pairs]:
    """Simulate a low-resolution scan of `high` and write both as a pair.

    Parameters
    ----------
    high : Volume
        A volume (Z, Y, X) or an image (Y, X).
    out : path
        Folder for the files; created if missing.
    like : Volume, optional
        A real low-resolution scan of the same material, at any position: blur, noise
        and grey scale are measured on it unless they are set.

    Yields
    ------
    Step
        `StageStarted`, `BlockDone` and `WarningIssued`.

    Returns
    -------
    Pairs

    Raises
    ------
    ConfigError
        If there is no upscale factor, or a setting does not fit.
    VolumeError
        If the scan is too small, has no contrast, or contains NaN or infinite voxels.
    FileError
        If a file cannot be written, or exists and `overwrite` is False.
    Cancelled
        If `should_stop` returns True; no files are kept.
    """
    config = config or DegradeConfig()
    _refuse_like(like, config.degrade)
    files = plan(out, [high] if like is None else [high, like], overwrite=overwrite)
    whole = real_volume(high)
    factor = _factor(whole, like, config)
    factors = config.factors(len(whole.axes), factor)
    high = cropped(whole, factors)
    yield StageStarted(message="Analysing the grey values")
    levels: ContrastLevels = contrast_levels(high)
    warnings = [*reader_warnings(whole), *untrained_factor_notes(factor)]
    measured: ImagingEstimate | None = None
    adopted: AnyDict = {}
    if like is not None:
        measured = yield from measure_steps(
            high, with_matching_axes(like, high)[0], factors, config, should_stop
        )
        adopted = DEGRADATIONS.load(config.degrade).adopted(measured, levels)
        warnings += _match_warnings(measured, high, like, factors)
    imaging = config.imaging(**adopted)
    made = DegradedScan(high, factors, config, imaging, levels)
    if made.separates:
        warnings += _shared_noise_warnings(high, any(made.sigma))
    for text in warnings:
        yield WarningIssued(message=text)
    report: AnyDict = {
        "upscale_factor": factor,
        "dimensions": config.dimensions,
        "unit": high.unit,
        "degrade": config.degrade,
        "settings": imaging.model_dump(mode="json"),
        "sampling": "kept" if made.keeps else "mean",
        "interpolated": bool(made.between),
        "separated_noise": made.separates,
        "measured": None if measured is None else _shown(measured),
        "grey_levels": {
            "dark": levels.dark,
            "bright": levels.bright,
            "contrast": levels.contrast,
        },
        "low": made.describe_grid("low"),
        "high": made.describe_grid("high"),
        "warnings": warnings,
    }
    inputs = {"high": whole} | ({} if like is None else {"like": like})
    record = yield from provenance.record_steps(
        "degrade",
        inputs=inputs,
        settings=config.model_dump(mode="json"),
        should_stop=should_stop,
        imaging=report["settings"],
    )
    with atomic.created_folder(files["low"].parent):
        yield from made.write(
            files, record, memory_for_voxels(config), overwrite, should_stop
        )
        layers = {key: io.read(files[key]) for key in ("low", "high")}
        panels = {"low resolution": layers["low"], "high resolution": layers["high"]}
        if like is not None:
            panels["real scan"] = with_matching_axes(whole, like)[1]
        picture = side_by_side_png(panels)
        write_report(
            files,
            report,
            picture,
            record=record,
            flat=high.axes == "YX",
            overwrite=overwrite,
        )
    return Pairs(files, report, layers)


def degrade(
    high: Volume, out: str | Path, like: Volume | None = None, **settings: Any
) -> Pairs:
    """Build a pair from one scan; see `degrade_steps`.

    Parameters
    ----------
    **settings
        Fields of `DegradeConfig`.
    """
    steps = degrade_steps(high, out, DegradeConfig.create(**settings), like=like)
    return run_to_end(steps)


def _refuse_like(like: Volume | None, kind: str) -> None:
    if like is not None and not hasattr(DEGRADATIONS.load(kind), "adopted"):
        raise ConfigError(
            f"The degradation {kind} cannot be matched to a real scan, because its "
            "blur and noise are those of the high-resolution scan. Omit the real "
            "scan (--like) and give the upscale factor (--upscale-factor), or choose "
            "fluo."
        )


def _factor(high: Volume, like: Volume | None, config: DegradeConfig) -> int:
    if like is None and config.upscale_factor is None:
        raise ConfigError(
            "Give the factor between the two voxel sizes (--upscale-factor), or a "
            "real low-resolution scan (--like)."
        )
    one, other = (None, high) if like is None else with_matching_axes(like, high)
    if one is None or not (one.has_physical_size or config.upscale_factor is None):
        assert config.upscale_factor is not None
        return config.upscale_factor  # there are no voxel sizes to compare it with
    factor = fitting_factor(one, other, config)
    expected = config.factors(len(one.axes), factor)
    ratio = np.divide(one.voxel_size, other.voxel_size) / expected
    if (ratio > 1.25).any():
        shown = ", ".join(
            f"{r * f:.3g} along {letter}"
            for r, f, letter in zip(ratio, expected, one.spatial_axes, strict=True)
        )
        raise VolumeError(
            f"The voxels of {one.title} are not {factor} times as large as those of "
            f"{high.title}; the ratios are {shown}. Choose another upscale factor "
            "(--upscale-factor), or omit it."
        )
    return factor


def _match_warnings(
    measured: ImagingEstimate, high: Volume, like: Volume, factors: tuple[int, ...]
) -> list[str]:
    warnings = []
    one, other = with_matching_axes(like, high)
    ratio = float(one.voxel_size[-1] / (other.voxel_size[-1] * factors[-1]))
    if one.has_physical_size and abs(ratio - 1) > _SAME_SIZE:
        warnings.append(
            f"The voxels of {like.title} are {ratio:.3g} times as large as those of "
            "the pair: blur and noise are matched in voxels, not in physical lengths."
        )
    if measured.shape == "smooth":
        warnings.append(
            f"The noise of {like.title} has a coarse grain and is hard to distinguish "
            "from fine structures, so the measured blur and noise are less certain. "
            "Compare the picture with the real scan."
        )
    if measured.misfit <= _MISFIT:
        return warnings
    return [
        *warnings,
        f"The measured blur and noise describe {like.title} only in part (its power "
        f"spectrum differs by a factor of {math.exp(measured.misfit):.2g}): do both "
        "scans show the same material, at these voxel sizes? Compare the picture with "
        "the real scan.",
    ]


def _shared_noise_warnings(high: Volume, blurred: bool) -> list[str]:
    """Warn if both volumes of a pair share noise, although they share no voxels."""
    if blurred:
        return [
            "With an additional blur, the low-resolution voxels contain the noise of "
            "their neighbours, which the high-resolution scan contains as well, so a "
            "network learns to reproduce part of it. Omit the blur (--blur)."
        ]
    try:
        noise = estimate_noise(high)
    except VolumeError:
        return []
    along = {a: r for a, r in noise.correlation.items() if a in "xy"}
    if noise.level == 0 or max(along.values(), default=0.0) < _MAX_CORRELATION:
        return []
    shown = ", ".join(f"{axis.upper()} {along[axis]:.2f}" for axis in sorted(along))
    return [
        f"The noise of {high.title} is correlated between neighbouring voxels "
        f"({shown}; 0: independent), so the two scans of the pair share part of it and "
        "a network learns to reproduce that part. Use the stack as recorded, before "
        "deconvolution, smoothing or resampling."
    ]


def _shown(measured: ImagingEstimate) -> AnyDict:
    return {
        "blur": measured.blur,
        "noise": measured.noise,
        "noise_shape": measured.shape,
        "noise_along_z": measured.along_z,
        "noise_spectrum": list(measured.spectrum),
        "gain": measured.gain,
        "offset": measured.offset,
        "misfit": measured.misfit,
    }
