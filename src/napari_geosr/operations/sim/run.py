"""Reconstruct structured illumination plane by plane, into memory or a file."""

from __future__ import annotations

import time as clock
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.fringes import PatternSet
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.steps import (
    BlockDone,
    IterationDone,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    TargetReady,
    TileDone,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import exact_settings
from napari_geosr.inference.device import pick_device
from napari_geosr.operations.sim.config import METHOD_TITLES, SimConfig
from napari_geosr.operations.sim.estimate import (
    PatternEstimate,
    brightest_part,
    estimate_steps,
)
from napari_geosr.operations.sim.inputs import axis_facts, check_plane
from napari_geosr.operations.storage import array_for
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.otf import Otf
from napari_geosr.sim.joint_rl import JointRichardsonLucy, best_iterations
from napari_geosr.sim.noise import FrameNoise, frame_noise
from napari_geosr.sim.wiener import wiener_reconstruction

FloatArray = npt.NDArray[np.float32]

#: Maximum number of iterations of joint Richardson–Lucy if it is chosen.
MOST_ITERATIONS = 80
#: Edge in camera pixels of the part on which the number of iterations is chosen.
_TRIAL_EDGE = 192


@dataclass(frozen=True, eq=False)
class SimResult:
    """A reconstruction, with the patterns and figures that it is based on.

    Attributes
    ----------
    volume : Volume
        Axes of the raw file without those of angles and phases; float32.
    method : str
    estimates : dict of (int, int) to PatternEstimate
        Patterns by time point and channel.
    summary : mapping
        Seconds, iterations and other figures, JSON-serialisable.
    path : Path or None
        The file, if there is one.
    """

    volume: Volume
    method: str
    estimates: dict[tuple[int, int], PatternEstimate] = field(repr=False)
    summary: AnyMapping = field(repr=False)
    path: Path | None = None

    @property
    def patterns(self) -> PatternSet:
        """Patterns of the first time point and channel."""
        return next(iter(self.estimates.values())).patterns


def geometry(frames: SimFrames, upscale_factor: int) -> AnyDict:
    """Shape, axes, voxel size, unit and origin of a result."""
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


def run_steps(
    frames: SimFrames,
    config: SimConfig,
    *,
    patterns: PatternEstimate | None = None,
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
    out : path, optional
        File to fill; by default the result is kept in memory, or in the cache folder
        if it does not fit.
    overwrite : bool

    Yields
    ------
    Step
        `TargetReady` with the volume being filled; `IterationDone`; `TileDone` for each
        plane.

    Returns
    -------
    SimResult

    Raises
    ------
    GeoSRError
        With a one-sentence message; no file is left.
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
    run = _Run(frames, config, patterns, should_stop)
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
        done = {**record, "frames": axis_facts(frames), "run": summary}
        volume = volume.replace(provenance=(*history, done))
        if output is not None:
            output.provenance = volume.provenance
    path = None if out is None else Path(out)
    if path is not None:
        volume = io.read_back(path).replace(name=volume.name)
        if output is not None and output.note:
            yield WarningIssued(message=output.note)
    return SimResult(volume, config.method, run.estimates, summary, path)


@contextmanager
def _target(
    space: AnyDict, out: str | Path | None, history: tuple[Any, ...], overwrite: bool
) -> Iterator[tuple[Any, Any]]:
    """The array to fill and, for a file, the output that contains it."""
    if out is None:
        yield array_for(space["shape"], np.dtype(np.float32), np.nan), None
        return
    spec = io.OutputSpec(dtype=np.float32, provenance=history, **space)
    with io.create(Path(out), spec, overwrite=overwrite) as file:
        yield file.array, file


class _Run:
    """The planes of a run, and what is found about them."""

    def __init__(
        self,
        frames: SimFrames,
        config: SimConfig,
        given: PatternEstimate | None,
        should_stop: ShouldStop,
    ) -> None:
        self.frames, self.config, self.given = frames, config, given
        self.should_stop = should_stop
        self.estimates: dict[tuple[int, int], PatternEstimate] = {}
        self.iterations: dict[tuple[int, int], int] = {}
        self.device = pick_device(config.device)

    def prepare_steps(self) -> Generator[Step, None, None]:
        """Patterns of the first time point of every channel, before any output."""
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
            near = self.estimates.get((time - 1, channel))
            found = yield from estimate_steps(
                self.frames,
                self.config,
                time=time,
                channel=channel,
                near=None if near is None or not near.fits else near.patterns,
                should_stop=self.should_stop,
            )
            found.require()
        self.estimates[key] = found
        return found

    def fill_steps(self, array: Any) -> Generator[Step, None, None]:
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
                    if isinstance(step, IterationDone):
                        part = step.done / max(step.total, 1)
                        yield IterationDone(
                            int(1000 * (done + part)),
                            1000 * total,
                            iteration=step.iteration,
                            iterations=step.iterations,
                        )
            image, used = steps.result
            self.iterations[(time, channel)] = used
            place = self._place(time, channel, plane)
            array[place] = image
            yield TileDone(1000 * (done + 1), 1000 * total, place, image)

    def _place(self, time: int, channel: int, plane: int) -> tuple[Any, ...]:
        kept = self.frames.kept_axes
        places = [time] * ("T" in kept) + [channel] * ("C" in kept)
        places += [plane] * (self.frames.n_planes > 1)
        return (*places, slice(None), slice(None))

    def facts(self) -> AnyDict:
        """Figures of the run for its record."""
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


def plane_steps(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    *,
    device: str = "cpu",
    iterations: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, tuple[FloatArray, int]]:
    """Reconstruct one plane.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        With the offset subtracted.
    patterns : PatternSet
    otf : Otf
    config : SimConfig
    device : str
    iterations : int, optional
        Iterations of joint Richardson–Lucy, if they were chosen for another plane.

    Returns
    -------
    image : ndarray of shape (upscale_factor · Y, upscale_factor · X), float32
    iterations : int
        0 if the method does not iterate.
    """
    if config.method == "widefield":
        return widefield(block, config.upscale_factor), 0
    if config.method == "wiener":
        image = wiener_reconstruction(
            block,
            patterns,
            otf,
            config.upscale_factor,
            noise=frame_noise(block, otf).variance,
            regularisation=config.regularisation,
            apodisation=config.apodisation,
            notch=config.notch,
        )
        return image, 0
    n = config.iterations or iterations
    if n is None:
        n = yield from _choose_iterations(
            block, patterns, otf, config, device, should_stop
        )
    fit = yield from fit_steps(
        block, patterns, otf, config, n, device=device, should_stop=should_stop
    )
    return fit.result(), n


def fit_steps(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    iterations: int,
    *,
    device: str = "cpu",
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, JointRichardsonLucy]:
    """Run joint Richardson–Lucy on one plane; the arguments are as in `plane_steps`."""
    import torch

    operator = IlluminationOperator.create(patterns, otf, config.upscale_factor, device)
    values = torch.from_numpy(np.maximum(block, 0).reshape(-1, *block.shape[-2:]))
    with exact_settings(config.threads):
        fit = JointRichardsonLucy(operator, values.to(device), config.tv)
    for i in range(iterations):
        if should_stop():
            raise Cancelled("Stopped before the result was complete.")
        with exact_settings(config.threads):
            fit.step()
        yield IterationDone(i + 1, iterations, iteration=i + 1, iterations=iterations)
    return fit


def _choose_iterations(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, int]:
    """Number of iterations for a plane, from its brightest part."""
    place = brightest_part(block.mean(axis=(0, 1)), _TRIAL_EDGE)
    part = block[(..., *place)]
    noise: FrameNoise = frame_noise(block, otf)
    operator = IlluminationOperator.create(
        patterns.cropped(place), otf, config.upscale_factor, device
    )
    steps = best_iterations(
        operator,
        part.reshape(-1, *part.shape[-2:]),
        noise.weights(part.mean(axis=(0, 1))),
        most=MOST_ITERATIONS,
        tv=config.tv,
        should_stop=should_stop,
    )
    yield BlockDone()
    with StepIterator(steps) as iterator:
        for _ in iterator:
            yield BlockDone()
    return iterator.result.best


def widefield(block: FloatArray, upscale_factor: int) -> FloatArray:
    """Mean of all frames, interpolated to the grid of the other methods."""
    from scipy import ndimage

    mean = block.mean(axis=(0, 1))
    if upscale_factor == 1:
        return np.asarray(mean, np.float32)
    found = ndimage.zoom(mean, upscale_factor, order=3, mode="nearest", grid_mode=True)
    return np.asarray(found, np.float32)
