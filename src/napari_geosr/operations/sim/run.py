"""Reconstruct structured-illumination frames plane by plane, into memory or a file."""

from __future__ import annotations

import time as clock
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    TargetReady,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.output import Output
from napari_geosr.operations.inputs import open_series
from napari_geosr.operations.sim.config import METHOD_TITLES, SimConfig
from napari_geosr.operations.sim.estimate import PatternEstimate
from napari_geosr.operations.sim.frame_checks import check_plane
from napari_geosr.operations.sim.geometry import geometry
from napari_geosr.operations.sim.inputs import axis_facts, frames_of
from napari_geosr.operations.sim.plane_run import (
    PlaneRun,
    trust_summary,
    trust_warnings,
)
from napari_geosr.operations.sim.planes import plane_steps
from napari_geosr.operations.sim.trust import SimTrust, residual_volume
from napari_geosr.operations.sim.trust.support import FourierSupport
from napari_geosr.operations.storage import array_for


@dataclass(frozen=True, eq=False)
class SimResult:
    """A reconstruction, with its patterns, statistics and checks.

    Attributes
    ----------
    volume : Volume
        float32, with the axes of the raw file except those of angles and phases.
    method : str
    estimates : dict of (int, int) to PatternEstimate
        Patterns by time point and channel.
    summary : mapping
        Duration in seconds, number of iterations and other statistics;
        JSON-serialisable.
    checks : SimTrust or None
        Checks of the middle slice at the first time point, in the first channel; None
        if they are switched off, or for widefield without patterns.
    path : Path or None
        The file, if there is one.
    residual : Volume or None
        Map of the residual, in units of the noise; None without checks.
    support : FourierSupport or None
        Spectrum of the middle slice; None without checks.
    other_checks : dict of (int, int) to SimTrust
        Checks of the other channels and of the last time point, without resolution.
    """

    volume: Volume
    method: str
    estimates: dict[tuple[int, int], PatternEstimate] = field(repr=False)
    summary: AnyMapping = field(repr=False)
    checks: SimTrust | None = None
    path: Path | None = None
    residual: Volume | None = None
    support: FourierSupport | None = field(default=None, repr=False)
    other_checks: dict[tuple[int, int], SimTrust] = field(
        default_factory=dict, repr=False
    )

    @property
    def patterns(self) -> PatternSet:
        """Patterns of the first time point and channel; empty if they are unknown."""
        for estimate in self.estimates.values():
            return estimate.patterns
        rows, columns = self.volume.shape[-2:]
        return PatternSet((), (rows, columns))


def sim_steps(
    source: Volume | str | Path,
    config: SimConfig,
    *,
    psf: Volume | None = None,
    patterns: PatternSet | AnyMapping | Volume | None = None,
) -> Generator[Step, None, SimResult]:
    """Open raw frames and reconstruct all planes in memory.

    Parameters
    ----------
    source : Volume or path
    config : SimConfig
    psf : Volume, optional
        Measured point-spread function, instead of a file.
    patterns : PatternSet, mapping or Volume, optional
        Known patterns, instead of a file.

    Returns
    -------
    SimResult

    Raises
    ------
    GeoSRError
        If the run fails.
    """
    volume = source if isinstance(source, Volume) else open_series(source)
    frames = frames_of(volume, config, psf=psf, patterns=patterns)
    result = yield from run_steps(frames, config)
    return result


def run_steps(
    frames: SimFrames,
    config: SimConfig,
    *,
    patterns: PatternEstimate | None = None,
    near: PatternSet | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SimResult]:
    """Reconstruct all planes.

    Parameters
    ----------
    frames : SimFrames
    config : SimConfig
    patterns : PatternEstimate, optional
        Patterns to use for all planes, such as those shown to the user; by default they
        are found for each time point and channel.
    near : PatternSet, optional
        Patterns of the first time point and channel, corrected by the user; for the
        search for all other patterns, see `search_starts`.
    out : path, optional
        File to fill; by default the result is kept in memory, or in the cache folder
        if it does not fit.
    overwrite : bool

    Yields
    ------
    Step
        `TargetReady` with the volume being filled; `IterationDone`; `PreviewReady`
        while a network is fitted; `TileDone` for each plane.

    Returns
    -------
    SimResult

    Raises
    ------
    GeoSRError
        If the run fails; no file is left.
    Cancelled
        If `should_stop` returns True.
    """
    inputs = {"frames": frames.volume, "psf": frames.psf, "patterns": frames.patterns}
    record = yield from provenance.record_steps(
        "sim",
        inputs={k: v for k, v in inputs.items() if isinstance(v, Volume)},
        settings=config.model_dump(mode="json", exclude={"memory"}),
        should_stop=should_stop,
    )
    space = geometry(frames, config.upscale_factor)
    begun = clock.monotonic()
    run = PlaneRun(frames, config, patterns, should_stop, near)
    yield from run.prepare_steps()
    history = frames.volume.provenance
    with _target(space, out, (*history, record), overwrite) as (array, output):
        volume = Volume(
            array,
            space["axes"],
            space["voxel_size"],
            space["unit"],
            space["origin"],
            name=f"{frames.volume.name} · {METHOD_TITLES[config.method]}",
        )
        yield TargetReady(volume=volume)
        yield StageStarted(message=METHOD_TITLES[config.method])
        yield from run.fill_steps(array)
        summary = {"seconds": round(clock.monotonic() - begun, 3), **run.facts()}
        residual = support = None
        checks = yield from run.trust_steps(array)
        at, first = next(iter(checks.items()), (None, None))
        if at is not None and first is not None:
            residual, support = residual_volume(frames, first), run.support(array, *at)
            summary |= trust_summary(checks)
        done = {**record, "frames": axis_facts(frames), "run": summary}
        volume = volume.replace(provenance=(*history, done))
        if output is not None:
            output.provenance = volume.provenance
    path = None if out is None else Path(out)
    if path is not None:
        volume = io.read_back(path).replace(name=volume.name)
        if output is not None and output.note:
            yield WarningIssued(message=output.note)
    for message in trust_warnings(frames, checks):
        yield WarningIssued(message=message)
    return SimResult(
        volume,
        config.method,
        run.estimates,
        summary,
        first,
        path,
        residual,
        support,
        {place: each for place, each in checks.items() if place != at},
    )


@contextmanager
def _target(
    space: AnyDict,
    out: str | Path | None,
    history: tuple[AnyMapping, ...],
    overwrite: bool,
) -> Iterator[tuple[AnyArray, Output | None]]:
    """Provide the array to fill and, for a file, the output that contains it."""
    if out is None:
        yield array_for(space["shape"], np.dtype(np.float32), np.nan), None
        return
    spec = io.OutputSpec(dtype=np.float32, provenance=history, **space)
    with io.create(Path(out), spec, overwrite=overwrite) as file:
        yield file.array, file


def preview(
    frames: SimFrames,
    config: SimConfig,
    estimate: PatternEstimate,
    place: tuple[slice, slice],
    *,
    plane: int = 0,
    time: int = 0,
    channel: int = 0,
) -> Volume:
    """Reconstruct a part of one plane, for display.

    Parameters
    ----------
    frames : SimFrames
    config : SimConfig
    estimate : PatternEstimate
        Patterns of the whole field of view.
    place : (slice, slice)
        Rows and columns in camera pixels, as slices with start and stop.
    plane, time, channel : int

    Returns
    -------
    Volume
        (Y, X), at the position of the part.
    """
    block = frames.frames(plane, time, channel)[(..., *place)]
    check_plane(block, frames, plane, time, channel)
    patterns = estimate.patterns.cropped(place)
    image, _ = run_to_end(plane_steps(block, patterns, estimate.otf, config))
    space = geometry(frames, config.upscale_factor)
    size, origin = space["voxel_size"][-2:], space["origin"][-2:]
    moved = tuple(
        o + part.start * frames.volume.voxel_size[axis - 2]
        for axis, (o, part) in enumerate(zip(origin, place, strict=True))
    )
    return Volume(image, "YX", size, space["unit"], moved, name="preview")
