"""Restore a volume with a model: prepare once, preview at will, run tile by tile."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import Field, field_validator

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.config import Config, parse_bytes
from napari_geosr.core.errors import Cancelled, FileError, ModelError, VolumeError
from napari_geosr.core.steps import (
    ResultReady,
    ShouldStop,
    StageStarted,
    Step,
    TargetReady,
    TileDone,
    Warned,
    never_stop,
    relay,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.operations.storage import array_for

if TYPE_CHECKING:
    from napari_geosr.inference.intensity import IntensityStatistics
    from napari_geosr.inference.run import RunSummary
    from napari_geosr.inference.runner import Estimate
    from napari_geosr.io.output import Output
    from napari_geosr.models.bundle import Model
    from napari_geosr.models.distribution import Verdict

#: Share of the free memory that a run may take when nobody sets a budget.
_FREE_SHARE = 0.6


class RestoreConfig(Config):
    """Settings of a restoration."""

    model: str = Field(
        "foam-denoise",
        title="Model",
        description="Name of a model in the zoo, or the path of a model bundle.",
    )
    device: str = Field(
        "auto", title="Device", description="auto, cpu, cuda, cuda:1 or mps."
    )
    memory: str | None = Field(
        None,
        title="Memory",
        description="Memory the run may take, e.g. 4GB; by default from what is free.",
    )
    output_dtype: Literal["float32", "input"] = Field(
        "float32",
        title="Output type",
        description="float32, or the input's own integer type, rounded and clipped.",
    )
    nonfinite: Literal["mean", "zero", "refuse"] = Field(
        "mean",
        title="NaN and Inf",
        description="Replace such voxels by the mean or by zero, or refuse to run.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        title="Threads",
        description="CPU threads, at most as many as cores; by default cores - 1.",
    )

    @field_validator("memory")
    @classmethod
    def _check_memory(cls, value: str | None) -> str | None:
        if value is not None:
            parse_bytes(value)
        return value


@dataclass(frozen=True)
class Prepared:
    """A volume and a model that fit each other, with all that a run needs.

    Attributes
    ----------
    volume : Volume
        One spatial volume, (Z, Y, X) or (Y, X).
    statistics : IntensityStatistics
        Of the whole volume; normalisation never looks at single tiles.
    verdict : Verdict
        How like the training data the volume is.
    """

    volume: Volume
    config: RestoreConfig
    model: Model
    network: Any
    statistics: IntensityStatistics
    device: str
    verdict: Verdict

    @property
    def budget(self) -> int:
        """Bytes that a run may take if it starts now."""
        from napari_geosr.inference.device import free_memory

        if self.config.memory is not None:
            return parse_bytes(self.config.memory)
        return int(free_memory(self.device) * _FREE_SHARE)


@dataclass(frozen=True)
class Restored:
    """What a run gives: the volume, how it went and whether it can be trusted."""

    volume: Volume
    verdict: Verdict
    summary: RunSummary | None
    path: Path | None = None
    complete: bool = True


def prepare_steps(
    volume: Volume, config: RestoreConfig, *, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, None]:
    """Load the model, read the volume's statistics and judge whether they match.

    The last step is ``ResultReady(Prepared)``.

    Raises
    ------
    ModelError
        If the model is unknown, damaged or made for another kind of volume.
    VolumeError
        If the volume has more than its spatial axes, or no finite or varying values.
    """
    yield StageStarted(message=f"Loading model {config.model}")
    from napari_geosr.inference.device import pick_device
    from napari_geosr.inference.intensity import scan_steps
    from napari_geosr.models import zoo
    from napari_geosr.models.distribution import draw_sample, judge

    volume = volume.select()
    model = zoo.find(config.model)
    _check_fit(volume, model)
    device = pick_device(config.device)
    yield StageStarted(message="Reading intensities")
    statistics: IntensityStatistics
    try:
        statistics = yield from relay(scan_steps(volume.data, should_stop=should_stop))
    except VolumeError as error:
        raise VolumeError(f"{volume.title}: {error}") from error
    if statistics.n_nan or statistics.n_inf:
        yield Warned(message=_nonfinite_sentence(volume, statistics, config.nonfinite))
    verdict = judge(model.card, draw_sample(volume), volume)
    if verdict.level != "ok":
        yield Warned(message=" ".join(verdict.reasons))
    network = model.network()
    yield ResultReady(
        result=Prepared(volume, config, model, network, statistics, device, verdict)
    )


def _check_fit(volume: Volume, model: Model) -> None:
    card = model.card
    if card.axes == "ZYX" and volume.axes == "YX":
        raise ModelError(
            f"{volume.title} is a single Y, X image but the model {card.name!r} "
            "restores Z, Y, X volumes. Open the whole stack or choose a 2D model."
        )


def _nonfinite_sentence(
    volume: Volume, statistics: IntensityStatistics, policy: str
) -> str:
    found = f"{statistics.n_nan} NaN and {statistics.n_inf} infinite voxels"
    if statistics.sampled:
        found = f"at least {found} (not every plane was looked at)"
    if policy == "refuse":
        raise VolumeError(
            f"{volume.title} has {found}, and the setting 'NaN and Inf' is to refuse "
            "such volumes. Choose mean or zero, or repair the volume."
        )
    does = "the mean of the others" if policy == "mean" else "zero"
    return f"{volume.title} has {found}; they are replaced by {does}."


def preview_steps(
    prepared: Prepared,
    region: tuple[slice, ...],
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Restore one region, to the same numbers as a run over the whole volume.

    Parameters
    ----------
    region : tuple of slice
        In voxels of the input, one slice per spatial axis.

    Yields
    ------
    Step
        The last is ``ResultReady(Volume)``, the region in its place in space.
    """
    from napari_geosr.inference.runner import restore_region

    yield StageStarted(message="Preview")
    volume = prepared.volume
    if should_stop():
        raise Cancelled("The preview was cancelled.")
    data = restore_region(
        prepared.network,
        volume.data,
        region,
        statistics=prepared.statistics,
        device=prepared.device,
        budget=prepared.budget,
        nonfinite=prepared.config.nonfinite,
        threads=prepared.config.threads,
        should_stop=should_stop,
    )
    voxel_size, origin = volume.upscaled_geometry(_factors(prepared))
    steps = (part.indices(n)[0] for part, n in zip(region, volume.shape, strict=True))
    corner = tuple(
        o + start * v
        for o, start, v in zip(origin, steps, volume.voxel_size, strict=True)
    )
    yield ResultReady(
        result=Volume(
            data,
            volume.axes,
            voxel_size,
            volume.unit,
            corner,
            name=_result_name(prepared),
        )
    )


def estimate_steps(prepared: Prepared) -> Generator[Step, None, None]:
    """Say how long a run will take and how much memory: ``ResultReady(Estimate)``."""
    from napari_geosr.inference.runner import estimate

    yield StageStarted(message="Estimating time and memory")
    result: Estimate = estimate(
        prepared.network,
        prepared.volume.shape,
        device=prepared.device,
        budget=prepared.budget,
        threads=prepared.config.threads,
    )
    yield ResultReady(result=result)


def run_steps(
    prepared: Prepared,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    first: tuple[slice, ...] | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Restore the whole volume tile by tile.

    Parameters
    ----------
    out : path, optional
        File to fill. Without it the result is kept in memory, or in a zarr in the
        cache folder when it would not fit.
    first : tuple of slice, optional
        Region (input voxels) whose tiles come first: what is on screen.

    Yields
    ------
    Step
        `TargetReady` with the volume being filled, a `TileDone` per tile, and
        ``ResultReady(Restored)``. When `should_stop` says so, the result is what was
        finished so far, with ``complete=False``.
    """
    from napari_geosr.inference.compute import frugal_if_tight

    volume = prepared.volume
    integer = prepared.config.output_dtype == "input" and volume.dtype.kind in "iu"
    dtype = volume.dtype if integer else np.dtype(np.float32)
    voxel_size, origin = volume.upscaled_geometry(_factors(prepared))
    shape = tuple(n * s for n, s in zip(volume.shape, _factors(prepared), strict=True))
    history = (*volume.provenance, _record(prepared, dtype))
    place = {
        "axes": volume.axes,
        "voxel_size": voxel_size,
        "unit": volume.unit,
        "origin": origin,
    }
    # To the end: what comes after the tiles (coarser levels) counts as well.
    with (
        frugal_if_tight(prepared.device, prepared.budget),
        _open_target(prepared, out, shape, dtype, place, overwrite) as (array, output),
    ):
        result = Volume(
            array,
            volume.axes,
            voxel_size,
            volume.unit,
            origin,
            name=_result_name(prepared),
            provenance=history,
        )
        yield TargetReady(volume=result)
        filled = yield from _fill(prepared, array, first, should_stop)
        done = {**history[-1], **filled.for_the_record()}
        result = result.replace(provenance=(*volume.provenance, done))
        path = None if output is None else Path(str(out))
        if output is not None:
            output.provenance = result.provenance
            if not filled.complete:
                output.blank(filled.places)
                path = output.keep_incomplete()
    if path is not None:
        result = io.read(path).replace(name=result.name)
    if output is not None and output.note:
        yield Warned(message=output.note)
    yield from _remarks(prepared, filled.summary, dtype)
    yield ResultReady(
        result=Restored(result, prepared.verdict, filled.summary, path, filled.complete)
    )


@dataclass(frozen=True)
class _Filled:
    """How far the tiles came: `places` are those of finished tiles in the output."""

    summary: RunSummary | None
    complete: bool
    places: list[tuple[slice, ...]]

    def for_the_record(self) -> dict[str, Any]:
        run = None if self.summary is None else asdict(self.summary)
        return {"run": run, "complete": self.complete}


def _fill(
    prepared: Prepared,
    array: Any,
    first: tuple[slice, ...] | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, _Filled]:
    """Run the tiles into `array`; a wish to stop ends it early, as no error."""
    from napari_geosr.inference.runner import restore_tiles

    tiles = restore_tiles(
        prepared.network,
        prepared.volume.data,
        array,
        statistics=prepared.statistics,
        device=prepared.device,
        budget=prepared.budget,
        nonfinite=prepared.config.nonfinite,
        first=first,
        threads=prepared.config.threads,
        should_stop=should_stop,
    )
    places: list[tuple[slice, ...]] = []
    summary: RunSummary | None = None
    try:
        for step in tiles:
            if isinstance(step, ResultReady):
                summary = step.result
                continue
            if isinstance(step, TileDone):
                places.append(step.slices)
            yield step
    except Cancelled as stopped:
        summary = cast("RunSummary | None", stopped.summary)
        return _Filled(summary, False, [*places, *stopped.places])
    finally:
        tiles.close()
    return _Filled(summary, True, places)


def _remarks(
    prepared: Prepared, summary: RunSummary | None, dtype: np.dtype[Any]
) -> Iterator[Step]:
    """What a person should know of how the run went."""
    if summary is None:
        return
    if summary.n_nonfinite and prepared.statistics.sampled:
        yield Warned(
            message=f"{summary.n_nonfinite} NaN or infinite voxels were replaced "
            "(the halos of tiles count them more than once)."
        )
    if summary.n_clipped:
        yield Warned(
            message=f"{summary.n_clipped} voxels lay outside the range of {dtype} and "
            "were clipped. Choose float32 output to keep them."
        )


def _factors(prepared: Prepared) -> tuple[int, ...]:
    """Upscale factor per axis of the volume (1 along Z for networks on planes)."""
    factors = tuple(prepared.network.spec.upscale_factor)
    return (1,) * (len(prepared.volume.axes) - len(factors)) + factors


def _result_name(prepared: Prepared) -> str:
    factor = max(_factors(prepared))
    suffix = f" ×{factor}" if factor > 1 else ""
    return f"{prepared.volume.name} · {prepared.model.card.name}{suffix}"


def _record(prepared: Prepared, dtype: np.dtype[Any]) -> dict[str, Any]:
    import torch

    card = prepared.model.card
    return provenance.record(
        "restore",
        inputs={"input": prepared.volume},
        settings=prepared.config.model_dump(mode="json"),
        model={"name": card.name, "weights_sha256": card.weights_sha256},
        device=prepared.device,
        torch=torch.__version__,
        output_dtype=str(dtype),
        intensities={
            "mean": prepared.statistics.mean,
            "std": prepared.statistics.std,
            "sampled": prepared.statistics.sampled,
            "n_nan": prepared.statistics.n_nan,
            "n_inf": prepared.statistics.n_inf,
        },
        likeness={
            "level": prepared.verdict.level,
            "reasons": list(prepared.verdict.reasons),
        },
    )


@contextmanager
def _open_target(
    prepared: Prepared,
    out: str | Path | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    place: dict[str, Any],
    overwrite: bool,
) -> Iterator[tuple[Any, Output | None]]:
    """Give the array to fill and, for a file, the output that it belongs to."""
    if out is None:
        # NaN is seen through in napari and left out by statistics: what is not
        # restored yet, or never was, is not taken for pores.
        yield array_for(shape, dtype, np.nan if dtype.kind == "f" else 0), None
        return
    from napari_geosr.inference.runner import choose_output

    tile, memory = choose_output(
        prepared.network,
        prepared.volume.data,
        dtype,
        statistics=prepared.statistics,
        device=prepared.device,
        budget=prepared.budget,
        threads=prepared.config.threads,
    )
    with io.create(
        out,
        shape=shape,
        dtype=dtype,
        overwrite=overwrite,
        tile=tile,
        memory=memory,
        **place,
    ) as file:
        yield file.array, file


def restore_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    first: tuple[slice, ...] | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Prepare and run; see :func:`prepare_steps` and :func:`run_steps`."""
    if out is not None:
        io.check_output(out, overwrite=overwrite)
        _refuse_own_source(volume, Path(out))
    prepared: Prepared = yield from relay(
        prepare_steps(volume, config, should_stop=should_stop)
    )
    yield StageStarted(message=f"Restoring with {prepared.model.card.name}")
    yield from run_steps(
        prepared, out=out, overwrite=overwrite, first=first, should_stop=should_stop
    )


def _refuse_own_source(volume: Volume, out: Path) -> None:
    """Results never replace the scan that they come from, nor join its slices."""
    if volume.source is None:
        return
    source, target = volume.source.resolve(), out.resolve()
    if target == source or source in target.parents:
        raise FileError(
            f"{out} is the input, or lies in it, and the input stays as it is. Choose "
            "another name or folder for the result."
        )


def restore(volume: Volume, model: str = "foam-denoise", **settings: Any) -> Volume:
    """Restore a volume (denoise or super-resolve) and return the result.

    Parameters
    ----------
    volume : Volume
        Axes (Z, Y, X) or (Y, X), any real dtype.
    model : str
        Name in the zoo or path of a bundle.
    **settings
        Fields of `RestoreConfig`.

    Returns
    -------
    Volume
        float32 (or the input's dtype), in the input's place in space; voxel size and
        origin follow the model's upscale factor.

    Raises
    ------
    ConfigError, ModelError, VolumeError, DeviceMemoryError
        With one sentence saying what is wrong and what to do.
    """
    config = RestoreConfig.create(model=model, **settings)
    restored: Restored = run_to_end(restore_steps(volume, config))
    return restored.volume
