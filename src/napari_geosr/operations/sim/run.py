"""Reconstruct frames of structured illumination plane by plane, in memory or a file."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import (
    BlockDone,
    IterationDone,
    PreviewReady,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    TargetReady,
    TileDone,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import pick_device
from napari_geosr.io.output import Output
from napari_geosr.operations.sim.config import METHOD_TITLES, SimConfig
from napari_geosr.operations.sim.estimate import (
    MAX_DRIFT,
    PatternEstimate,
    drift,
    estimate_steps,
)
from napari_geosr.operations.sim.inputs import (
    axis_facts,
    check_plane,
    frames_of,
    open_frames,
)
from napari_geosr.operations.sim.planes import plane_steps
from napari_geosr.operations.sim.starts import search_starts
from napari_geosr.operations.sim.support import FourierSupport, fourier_support
from napari_geosr.operations.sim.trust import SimTrust, residual_volume, trust_steps
from napari_geosr.operations.storage import array_for

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SimResult:
    """A reconstruction, with its patterns, statistics and checks.

    Attributes
    ----------
    volume : Volume
        Axes of the raw file without those of angles and phases; float32.
    method : str
    estimates : dict of (int, int) to PatternEstimate
        Patterns by time point and channel.
    summary : mapping
        Seconds, iterations and other figures, JSON-serialisable.
    checks : SimTrust or None
        Checks of the middle slice; None if they are switched off.
    path : Path or None
        The file, if there is one.
    residual : Volume or None
        Map of the held-out residual, in units of the noise; None without checks.
    support : FourierSupport or None
        Spectrum of the middle slice; None without checks.
    """

    volume: Volume
    method: str
    estimates: dict[tuple[int, int], PatternEstimate] = field(repr=False)
    summary: AnyMapping = field(repr=False)
    checks: SimTrust | None = None
    path: Path | None = None
    residual: Volume | None = None
    support: FourierSupport | None = field(default=None, repr=False)

    @property
    def patterns(self) -> PatternSet:
        """Patterns of the first time point and channel."""
        return next(iter(self.estimates.values())).patterns


def geometry(frames: SimFrames, upscale_factor: int) -> AnyDict:
    """Return the shape, axes, voxel size, unit and origin of a result."""
    volume = frames.volume
    axes = "".join(a for a in frames.kept_axes if a not in "ZYX")
    axes += "Z" * (frames.n_planes > 1) + "YX"
    lengths = {
        "T": frames.n_times,
        "C": frames.n_channels,
        "Z": frames.n_planes,
        "Y": upscale_factor * frames.plane_shape[0],
        "X": upscale_factor * frames.plane_shape[1],
    }
    sizes = dict(zip(volume.spatial_axes, volume.voxel_size, strict=True))
    places = dict(zip(volume.spatial_axes, volume.origin, strict=True))
    size, origin = [], []
    for axis in axes:
        if axis not in "ZYX":
            continue
        s = 1 if axis == "Z" else upscale_factor
        edge = sizes.get(axis, 1.0)
        size.append(edge / s)
        origin.append(places.get(axis, 0.0) - (s - 1) / (2 * s) * edge)
    return {
        "shape": tuple(lengths[a] for a in axes),
        "axes": axes,
        "voxel_size": tuple(size),
        "unit": volume.unit,
        "origin": tuple(origin),
    }


def place_of(
    frames: SimFrames, upscale_factor: int, time: int, channel: int, plane: int
) -> Slices:
    """Return the index of a plane in the array of a result."""
    kept = frames.kept_axes
    at = [time] * ("T" in kept) + [channel] * ("C" in kept)
    at += [plane] * (frames.n_planes > 1)
    rows, columns = (slice(0, n * upscale_factor) for n in frames.plane_shape)
    return (*(slice(i, i + 1) for i in at), rows, columns)


def sim_steps(
    source: Volume | str | Path, config: SimConfig
) -> Generator[Step, None, SimResult]:
    """Open raw frames and reconstruct all planes in memory.

    Parameters
    ----------
    source : Volume or path
    config : SimConfig

    Returns
    -------
    SimResult

    Raises
    ------
    GeoSRError
        If the run fails.
    """
    if isinstance(source, Volume):
        frames = frames_of(source, config)
    else:
        frames = open_frames(source, config)
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
        Patterns of the first time point and channel, corrected by the user; the others
        are searched for accordingly, see `search_starts`.
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
    record = yield from provenance.record_steps(
        "sim",
        inputs={"frames": frames.volume},
        settings=config.model_dump(mode="json", exclude={"memory"}),
        should_stop=should_stop,
    )
    space = geometry(frames, config.upscale_factor)
    begun = clock.monotonic()
    run = _PlaneRun(frames, config, patterns, should_stop, near)
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
        checks = residual = support = None
        if config.checks:
            checks = yield from run.trust_steps()
            residual, support = residual_volume(frames, checks), run.support(array)
            summary["checks"] = checks.to_json_dict()
        done = {**record, "frames": axis_facts(frames), "run": summary}
        volume = volume.replace(provenance=(*history, done))
        if output is not None:
            output.provenance = volume.provenance
    path = None if out is None else Path(out)
    if path is not None:
        volume = io.read_back(path).replace(name=volume.name)
        if output is not None and output.note:
            yield WarningIssued(message=output.note)
    for message in () if checks is None else checks.warnings:
        yield WarningIssued(message=message)
    return SimResult(
        volume,
        config.method,
        run.estimates,
        summary,
        checks,
        path,
        residual,
        support,
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


class _PlaneRun:
    """The planes of a run, with their patterns and warnings."""

    def __init__(
        self,
        frames: SimFrames,
        config: SimConfig,
        given: PatternEstimate | None,
        should_stop: ShouldStop,
        near: PatternSet | None = None,
    ) -> None:
        self.frames, self.config, self.given = frames, config, given
        self.should_stop, self.near = should_stop, near
        self.estimates: dict[tuple[int, int], PatternEstimate] = {}
        self.iterations: dict[tuple[int, int], int] = {}
        self.device = pick_device(config.device)
        self.has_drifted = False

    def prepare_steps(self) -> Generator[Step, None, None]:
        """Find the patterns at each channel's first time point, before any output."""
        for channel in range(self.frames.n_channels):
            yield from self._estimate_steps(0, channel)

    def _estimate_steps(
        self, time: int, channel: int
    ) -> Generator[Step, None, PatternEstimate]:
        key = (time, channel)
        if key in self.estimates:
            return self.estimates[key]
        if self.given is not None:
            found = self.given
        else:
            before = self.estimates.get((time - 1, channel))
            found = yield from self._search_steps(time, channel, before)
            found.require()
            if before is not None and before.fits:
                yield from self._drift_steps(before, found, time)
        self.estimates[key] = found
        return found

    def _search_steps(
        self, time: int, channel: int, before: PatternEstimate | None
    ) -> Generator[Step, None, PatternEstimate]:
        """Find patterns near those of the previous time point, or else anywhere."""
        earlier = None if before is None or not before.fits else before.patterns
        for near in search_starts(
            self.frames, channel, before=earlier, corrected=self.near
        ):
            found = yield from estimate_steps(
                self.frames,
                self.config,
                time=time,
                channel=channel,
                near=near,
                should_stop=self.should_stop,
            )
            if not found.problems:
                break
        return found

    def _drift_steps(
        self, before: PatternEstimate, found: PatternEstimate, time: int
    ) -> Generator[Step, None, None]:
        """Warn once if patterns drift from one time point to the next."""
        moved = drift(before.patterns, found.patterns)
        if moved > MAX_DRIFT and not self.has_drifted:
            self.has_drifted = True
            yield WarningIssued(
                message=f"The patterns drift: at time point {time}, one phase differs "
                f"by {math.degrees(moved):.0f}° from that at the previous time point. "
                "The patterns are therefore determined for every time point."
            )

    def fill_steps(self, array: AnyArray) -> Generator[Step, None, None]:
        """Reconstruct every plane into `array`."""
        frames = self.frames
        shape = frames.n_times, frames.n_channels, frames.n_planes
        total = int(np.prod(shape))
        for done, (time, channel, plane) in enumerate(np.ndindex(shape)):
            if self.should_stop():
                raise Cancelled("Stopped before the result was complete.")
            estimate = yield from self._estimate_steps(time, channel)
            block = frames.frames(plane, time, channel)
            check_plane(block, frames)
            with StepIterator(
                plane_steps(
                    block,
                    estimate.patterns,
                    estimate.otf,
                    self.config,
                    device=self.device,
                    iterations=self.iterations.get((time, channel)),
                    should_stop=self.should_stop,
                )
            ) as steps:
                for step in steps:
                    if isinstance(step, WarningIssued | StageStarted | BlockDone):
                        yield step
                    elif isinstance(step, PreviewReady):
                        part = step.done / max(step.total, 1)
                        yield PreviewReady(
                            int(1000 * (done + part)),
                            1000 * total,
                            self._placed(step.volume),
                        )
                    elif isinstance(step, IterationDone):
                        part = step.done / max(step.total, 1)
                        yield IterationDone(
                            int(1000 * (done + part)),
                            1000 * total,
                            iteration=step.iteration,
                            iterations=step.iterations,
                        )
            image, used = steps.result
            self.iterations[(time, channel)] = used
            scale = self.config.upscale_factor
            place = place_of(frames, scale, time, channel, plane)
            array[place] = image.reshape((1,) * (len(place) - 2) + image.shape)
            yield TileDone(1000 * (done + 1), 1000 * total, place, image)

    def _placed(self, volume: Volume) -> Volume:
        """Return a preview at its position in the sample."""
        space = geometry(self.frames, self.config.upscale_factor)
        size, origin = space["voxel_size"][-2:], space["origin"][-2:]
        return volume.replace(voxel_size=size, unit=space["unit"], origin=origin)

    def trust_steps(self) -> Generator[Step, None, SimTrust]:
        """Check the middle slice of the first time point and channel."""
        estimate = self.estimates[0, 0]
        block = self.frames.frames(self.frames.n_planes // 2)
        found = yield from trust_steps(
            block,
            estimate,
            self.config,
            iterations=self.iterations.get((0, 0), 0),
            device=self.device,
            should_stop=self.should_stop,
        )
        return found

    def support(self, array: AnyArray) -> FourierSupport:
        """Return the spectrum of the checked slice of the result."""
        scale, estimate = self.config.upscale_factor, self.estimates[0, 0]
        place = place_of(self.frames, scale, 0, 0, self.frames.n_planes // 2)
        image = np.asarray(array[place], np.float32)
        return fourier_support(
            image.reshape(image.shape[-2:]),
            estimate.patterns,
            estimate.otf,
            scale,
            is_widefield=self.config.method == "widefield",
        )

    def facts(self) -> AnyDict:
        """Return the statistics of the run for its record."""
        first = next(iter(self.estimates.values()))
        facts: AnyDict = {
            "device": self.device,
            "noise_variance": float(first.noise.variance),
            "snr": float(first.noise.snr),
            "cut_off_cycles_per_pixel": float(first.otf.cut_off),
        }
        if first.patterns.images is None:
            facts["patterns"] = first.patterns.to_dict()
        used = [n for n in self.iterations.values() if n]
        return {**facts, **({"iterations": used} if used else {})}


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
        Rows and columns in camera pixels, with start and stop.
    plane, time, channel : int

    Returns
    -------
    Volume
        (Y, X), at the position of the part.
    """
    block = frames.frames(plane, time, channel)[(..., *place)]
    check_plane(block, frames)
    patterns = estimate.patterns.cropped(place)
    image, _ = run_to_end(plane_steps(block, patterns, estimate.otf, config))
    space = geometry(frames, config.upscale_factor)
    size, origin = space["voxel_size"][-2:], space["origin"][-2:]
    moved = tuple(
        o + part.start * frames.volume.voxel_size[axis - 2]
        for axis, (o, part) in enumerate(zip(origin, place, strict=True))
    )
    return Volume(image, "YX", size, space["unit"], moved, name="preview")
