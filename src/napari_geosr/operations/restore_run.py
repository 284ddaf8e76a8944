"""A restoration of a whole volume: tile by tile into memory or a file, on record."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, GeoSRError
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
)
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore_continued import (
    KeptPart,
    boxes_for_the_record,
    kept_part,
    remove_unfinished,
)
from napari_geosr.operations.restore_preparation import Prepared, doubts
from napari_geosr.operations.storage import array_for

if TYPE_CHECKING:
    from napari_geosr.inference.run import RunSummary
    from napari_geosr.io.output import Output
    from napari_geosr.models.distribution import Verdict


@dataclass(frozen=True)
class Restored:
    """What a run gives: the volume, how it went and whether it can be trusted."""

    volume: Volume
    verdict: Verdict
    summary: RunSummary | None
    path: Path | None = None
    complete: bool = True


def run_steps(
    prepared: Prepared,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    first: tuple[slice, ...] | None = None,
    unfinished: Volume | None = None,
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
    unfinished : Volume
        What an earlier run with the same input, model and settings left when it was
        stopped: its finished tiles are taken over. Without `out` its own array is
        filled further; with `out`, the file that it is in is removed at the end.

    Yields
    ------
    Step
        `TargetReady` with the volume being filled, a `TileDone` per tile, and
        ``ResultReady(Restored)``. When `should_stop` says so, the result is what was
        finished so far, with ``complete=False``.

    Raises
    ------
    Cancelled
        If `should_stop` says so before the first tile is begun.
    ConfigError
        If `unfinished` comes from another input, model or settings, or is no
        unfinished restoration.
    GeoSRError
        If reading, computing or writing fails. The finished part of a file is kept
        then, as when the run is stopped, and the sentence says where.
    """
    from napari_geosr.inference.compute import frugal_if_tight

    volume = prepared.volume
    dtype = prepared.output_dtype
    voxel_size, origin = volume.upscaled_geometry(prepared.factors)
    shape = tuple(n * s for n, s in zip(volume.shape, prepared.factors, strict=True))
    record: dict[str, Any] = yield from relay(
        _record_steps(prepared, dtype, should_stop)
    )
    done_before = (
        None if unfinished is None else kept_part(unfinished, record, shape, dtype)
    )
    history = (*volume.provenance, record)
    yield StageStarted(message=f"Restoring with {prepared.model.card.name}")
    place = {
        "axes": volume.axes,
        "voxel_size": voxel_size,
        "unit": volume.unit,
        "origin": origin,
        "provenance": history,
        "kind": "labels" if prepared.labels else "image",
    }
    # To the end: what comes after the tiles (coarser levels) counts as well.
    with (
        frugal_if_tight(prepared.device, prepared.budget),
        _open_target(prepared, out, shape, dtype, place, overwrite, done_before) as (
            array,
            output,
        ),
    ):
        result = Volume(
            array,
            volume.axes,
            voxel_size,
            volume.unit,
            origin,
            name=prepared.result_name,
            provenance=history,
            metadata=prepared.metadata,
        )
        yield TargetReady(volume=result)
        for sentence in doubts(prepared):
            yield Warned(message=sentence)
        if done_before is not None and output is not None:
            done_before.copy_into(array)
        filled = yield from _fill(prepared, array, first, done_before, should_stop)
        if filled.error is not None and (output is None or not filled.places):
            raise filled.error
        done = {**history[-1], **filled.for_the_record()}
        result = result.replace(provenance=(*volume.provenance, done))
        path = None if output is None else Path(str(out))
        if output is not None:
            output.provenance = result.provenance
            if not filled.complete:
                output.blank(filled.places)
                path = output.keep_incomplete()
    if filled.error is not None:
        assert path is not None
        kept = f"{filled.error} The finished part is kept as {path.name}."
        raise type(filled.error)(kept) from filled.error
    if path is not None:
        result = io.read(path).replace(name=result.name)
        if unfinished is not None and filled.complete:
            remove_unfinished(unfinished, path)
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
    error: GeoSRError | None = None

    def for_the_record(self) -> dict[str, Any]:
        """What the provenance says of how the run went."""
        run = None if self.summary is None else asdict(self.summary)
        record: dict[str, Any] = {"run": run, "complete": self.complete}
        if not self.complete:
            record["finished"] = boxes_for_the_record(self.places)
        return record if self.error is None else {**record, "error": str(self.error)}


def _fill(
    prepared: Prepared,
    array: Any,
    first: tuple[slice, ...] | None,
    kept: KeptPart | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, _Filled]:
    """Run the tiles into `array`; a wish to stop, or an error, ends it early."""
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
        finished=() if kept is None else kept.places,
        rather=None if kept is None else kept.tile,
    )
    places = [] if kept is None else list(kept.places)
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
    except GeoSRError as error:
        return _Filled(None, False, places, error)
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
        kept = "labelled as all others" if prepared.labels else "NaN"
        yield Warned(
            message=f"{summary.n_nonfinite} voxels of {prepared.volume.title} are NaN "
            f"or infinite, and {kept} in the result."
        )
    if summary.n_clipped:
        yield Warned(
            message=f"{summary.n_clipped} voxels lay outside the range of {dtype} and "
            "were clipped. Choose float32 output to keep them."
        )


def _record_steps(
    prepared: Prepared, dtype: np.dtype[Any], should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Make the record of the run; the input is read once more for its checksum."""
    import torch

    card = prepared.model.card
    yield from provenance.record_steps(
        "restore",
        should_stop=should_stop,
        inputs={"input": prepared.volume},
        settings=prepared.config.model_dump(mode="json"),
        model={"name": card.name, "weights_sha256": card.weights_sha256},
        device=prepared.device,
        torch=torch.__version__,
        output_dtype=str(dtype),
        intensities={
            "mean": prepared.statistics.mean,
            "std": prepared.statistics.std,
            "input_scale": prepared.statistics.input,
            "output_scale": prepared.statistics.output,
            "sampled": prepared.statistics.sampled,
            "n_nan": prepared.statistics.n_nan,
            "n_inf": prepared.statistics.n_inf,
        },
        likeness={
            "level": prepared.verdict.level,
            "reasons": list(prepared.verdict.reasons),
        },
        # Only the end of the run says otherwise: whatever stops it, this stays true.
        complete=False,
    )


@contextmanager
def _open_target(
    prepared: Prepared,
    out: str | Path | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    place: dict[str, Any],
    overwrite: bool,
    kept: KeptPart | None,
) -> Iterator[tuple[Any, Output | None]]:
    """Give the array to fill and, for a file, the output that it belongs to."""
    if out is None and kept is not None:
        yield kept.writable(), None
        return
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
