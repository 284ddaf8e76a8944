"""The planes of a run: their patterns, reconstructions and checks."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
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
    TileDone,
    WarningIssued,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import pick_device
from napari_geosr.operations.sim.config import SimConfig
from napari_geosr.operations.sim.estimate import PatternEstimate
from napari_geosr.operations.sim.frame_checks import check_plane
from napari_geosr.operations.sim.geometry import geometry, place_of
from napari_geosr.operations.sim.inputs import step_remark
from napari_geosr.operations.sim.pattern_search import PatternSearch
from napari_geosr.operations.sim.planes import choose_iterations, plane_steps, widefield
from napari_geosr.operations.sim.trust import SimTrust, trust_steps
from napari_geosr.operations.sim.trust.support import (
    FourierSupport,
    fourier_support,
    resolution_remark,
)

FloatArray = npt.NDArray[np.float32]
#: Checks by time point and channel.
Checks = Mapping[tuple[int, int], SimTrust]

#: Maximum ratio of the brightness of two planes for which the same number of iterations
#: is used.
_SAME_BRIGHTNESS = 1.5


class PlaneRun:
    """The planes of a run, with their patterns and warnings."""

    def __init__(
        self,
        frames: SimFrames,
        config: SimConfig,
        given: PatternEstimate | None,
        should_stop: ShouldStop,
        near: PatternSet | None = None,
    ) -> None:
        self.frames, self.config, self.should_stop = frames, config, should_stop
        self.search = PatternSearch(frames, config, should_stop, given, near)
        #: Time point, channel and slice of frames that cannot be used.
        self.empty: list[tuple[int, int, int]] = []
        self.iterations: dict[tuple[int, int, int], int] = {}
        self.chosen: dict[int, list[tuple[float, int]]] = {}
        self.device = pick_device(config.device)

    @property
    def estimates(self) -> dict[tuple[int, int], PatternEstimate]:
        """Patterns of the checked slice, by time point and channel."""
        return self.search.estimates

    def prepare_steps(self) -> Generator[Step, None, None]:
        """Find the patterns of each channel, before any output.

        Raises
        ------
        GeoSRError
            If no patterns are found at any of the first time points.
        """
        if message := step_remark(self.frames):
            yield WarningIssued(message=message)
        if self.config.method == "widefield":
            yield from self._prepare_widefield()
            return
        for channel in range(self.frames.n_channels):
            found = yield from self.search.first_steps(channel)
            message = resolution_remark(
                found.patterns, found.otf, self.config.upscale_factor
            )
            if message:
                several = self.frames.n_channels > 1
                where = f"Channel {channel + 1}: " if several else ""
                yield WarningIssued(message=f"{where}{message}")

    def _prepare_widefield(self) -> Generator[Step, None, None]:
        """Find the patterns for the checks, which are skipped if there are none."""
        if not self.config.checks:
            return
        try:
            yield from self.search.first_steps(0)
        except (ConfigError, VolumeError) as error:
            yield WarningIssued(message=f"The result is not checked. {error}")

    def fill_steps(self, array: AnyArray) -> Generator[Step, None, None]:
        """Reconstruct every plane into `array`.

        Planes with unusable frames are filled with NaN, with a warning.

        Raises
        ------
        VolumeError
            If no plane is usable.
        """
        frames = self.frames
        shape = frames.n_times, frames.n_channels, frames.n_planes
        total = int(np.prod(shape))
        for done, (time, channel, plane) in enumerate(np.ndindex(shape)):
            if self.should_stop():
                raise Cancelled("Stopped before the result was complete.")
            try:
                image = yield from self._plane_steps(time, channel, plane, done, total)
            except VolumeError as error:
                image = self.empty_image(time, channel, plane)
                if len(self.empty) == total:
                    raise
                yield WarningIssued(message=f"{error} This plane is left empty (NaN).")
            place = place_of(frames, self.config.upscale_factor, time, channel, plane)
            array[place] = image.reshape((1,) * (len(place) - 2) + image.shape)
            yield TileDone(1000 * (done + 1), 1000 * total, place, image)
        if message := self.search.reused_warning():
            yield WarningIssued(message=message)

    def empty_image(self, time: int, channel: int, plane: int) -> FloatArray:
        """Return the result for a plane that cannot be used, and record the plane."""
        self.empty.append((time, channel, plane))
        size = tuple(self.config.upscale_factor * n for n in self.frames.plane_shape)
        return np.full(size, np.nan, np.float32)

    def _plane_steps(
        self, time: int, channel: int, plane: int, done: int, total: int
    ) -> Generator[Step, None, FloatArray]:
        """Reconstruct one plane, number `done` of `total`."""
        block = self.frames.frames(plane, time, channel)
        check_plane(block, self.frames, plane, time, channel)
        if self.config.method == "widefield":
            return widefield(block, self.config.upscale_factor)
        estimate = yield from self.search.plane_steps(time, channel, plane)
        brightness = _brightness(block)
        steps = plane_steps(
            block,
            estimate.patterns,
            estimate.otf,
            self.config,
            device=self.device,
            iterations=self._chosen_iterations(channel, brightness),
            should_stop=self.should_stop,
        )
        with StepIterator(steps) as iterator:
            for step in iterator:
                if isinstance(step, WarningIssued | StageStarted | BlockDone):
                    yield step
                    continue
                part = int(1000 * (done + step.done / max(step.total, 1)))
                if isinstance(step, PreviewReady):
                    yield PreviewReady(part, 1000 * total, self._placed(step.volume))
                elif isinstance(step, IterationDone):
                    yield IterationDone(
                        part,
                        1000 * total,
                        iteration=step.iteration,
                        iterations=step.iterations,
                    )
        image, used = iterator.result
        self._keep_iterations(block, (time, channel, plane), used)
        return image

    def _chosen_iterations(self, channel: int, brightness: float) -> int | None:
        """Return the number of iterations chosen for a plane of similar brightness."""
        found = [
            (max(brightness, other) / max(min(brightness, other), 1e-20), n)
            for other, n in self.chosen.get(channel, [])
        ]
        ratio, n = min(found, default=(math.inf, 0))
        return n if ratio <= _SAME_BRIGHTNESS else None

    def adopt(self, estimate: PatternEstimate, plane: int, iterations: int) -> None:
        """Use known patterns and iterations for a plane of the first volume.

        Parameters
        ----------
        estimate : PatternEstimate
        plane : int
        iterations : int
        """
        self.search.adopt(estimate, plane)
        self._keep_iterations(estimate.block, (0, 0, plane), iterations)

    def start_steps(
        self, block: FloatArray, time: int, channel: int, plane: int
    ) -> Generator[Step, None, tuple[PatternEstimate, int]]:
        """Return the patterns and the number of iterations for a plane.

        Parameters
        ----------
        block : ndarray of shape (angles, phases, Y, X)
            Frames of the plane.
        time, channel, plane : int
        """
        found = yield from self.search.plane_steps(time, channel, plane)
        brightness = _brightness(block)
        n = self.config.iterations or self._chosen_iterations(channel, brightness)
        if n is None:
            n = yield from choose_iterations(
                block,
                found.patterns,
                found.otf,
                self.config,
                self.device,
                self.should_stop,
            )
        self._keep_iterations(block, (time, channel, plane), n)
        return found, n

    def _keep_iterations(
        self, block: FloatArray, where: tuple[int, int, int], used: int
    ) -> None:
        """Store the number of iterations for planes of similar brightness."""
        self.iterations[where] = used
        channel, brightness = where[1], _brightness(block)
        if used and self._chosen_iterations(channel, brightness) is None:
            self.chosen.setdefault(channel, []).append((brightness, used))

    @property
    def used_iterations(self) -> list[int]:
        """Different numbers of iterations that were used."""
        return list(dict.fromkeys(n for n in self.iterations.values() if n))

    def _placed(self, volume: Volume) -> Volume:
        """Return a preview at its position in the sample."""
        space = geometry(self.frames, self.config.upscale_factor)
        size, origin = space["voxel_size"][-2:], space["origin"][-2:]
        return volume.replace(voxel_size=size, unit=space["unit"], origin=origin)

    def trust_steps(
        self, array: AnyArray
    ) -> Generator[Step, None, dict[tuple[int, int], SimTrust]]:
        """Check the middle slice of each channel, at the first and last time point.

        The resolution is measured only for the first of these slices. Given patterns
        are also compared with those found in the first and last slice.

        Parameters
        ----------
        array : array
            The result.

        Returns
        -------
        dict of (int, int) to SimTrust
            Checks by time point and channel; empty if they are switched off.
        """
        found: dict[tuple[int, int], SimTrust] = {}
        if not self.config.checks:
            return found
        for time, channel in self._checked_places():
            plane = self.checked_plane(time, channel)
            trust = yield from trust_steps(
                self._result(array, time, channel, plane),
                self.frames.frames(plane, time, channel),
                self.estimates[time, channel],
                self.config,
                iterations=self.iterations.get((time, channel, plane), 0),
                device=self.device,
                has_resolution=not found,
                should_stop=self.should_stop,
            )
            usable = [
                p
                for p in range(self.frames.n_planes)
                if (time, channel, p) not in self.empty
            ]
            misfits = yield from self.search.misfit_steps(time, channel, usable)
            found[time, channel] = replace(trust, warnings=(*trust.warnings, *misfits))
        return found

    def checked_plane(self, time: int, channel: int) -> int:
        """Return the slice that is checked: the middle one, unless it is empty."""
        return self.search.planes.get((time, channel), self.frames.n_planes // 2)

    def _checked_places(self) -> list[tuple[int, int]]:
        """Return the first and the last time point of each channel with a result."""
        found: list[tuple[int, int]] = []
        for channel in range(self.frames.n_channels):
            times = sorted(
                t
                for t, c in self.estimates
                if c == channel and (t, c, self.checked_plane(t, c)) not in self.empty
            )
            found += [(t, channel) for t in dict.fromkeys(times[:1] + times[-1:])]
        return sorted(found)

    def support(self, array: AnyArray, time: int, channel: int) -> FourierSupport:
        """Return the spectrum of the checked slice of the result."""
        estimate = self.estimates[time, channel]
        plane = self.checked_plane(time, channel)
        return fourier_support(
            self._result(array, time, channel, plane),
            estimate.patterns,
            estimate.otf,
            self.config.upscale_factor,
            is_widefield=self.config.method == "widefield",
        )

    def _result(
        self, array: AnyArray, time: int, channel: int, plane: int
    ) -> FloatArray:
        """Return a plane of the result."""
        scale = self.config.upscale_factor
        place = place_of(self.frames, scale, time, channel, plane)
        image = np.asarray(array[place], np.float32)
        return image.reshape(image.shape[-2:])

    def empty_facts(self) -> AnyDict:
        """Return the planes that are left empty, for the record of the run."""
        places = [
            {"time_point": t + 1, "channel": c + 1, "slice": z + 1}
            for t, c, z in self.empty
        ]
        return {"empty_planes": places} if places else {}

    def facts(self) -> AnyDict:
        """Return the statistics of the run for its record."""
        facts: AnyDict = {"device": self.device}
        first = next(iter(self.estimates.values()), None)
        facts |= self.empty_facts()
        if first is not None:
            facts |= {
                "noise_variance": float(first.noise.variance),
                "snr": float(first.noise.snr),
                "cut_off_cycles_per_pixel": float(first.otf.cut_off),
            }
            if first.patterns.images is None:
                facts["harmonics"] = first.patterns.harmonics
                facts["patterns"] = first.patterns.to_dict()
        used = self.used_iterations
        return {**facts, **({"iterations": used} if used else {})}


def _brightness(block: FloatArray) -> float:
    return float(np.percentile(block.mean(axis=(0, 1)), 99))


def trust_summary(checks: Checks) -> AnyDict:
    """Return all checks in JSON-serialisable form.

    Parameters
    ----------
    checks : mapping of (int, int) to SimTrust
        The first entry is that of the first time point and channel with a result.
    """
    (_, first), *more = checks.items()
    found: AnyDict = {"checks": first.to_json_dict()}
    others = [
        {"time_point": time + 1, "channel": channel + 1, **each.to_json_dict()}
        for (time, channel), each in more
    ]
    if others:
        found["other_checks"] = others
    return found


def trust_warnings(frames: SimFrames, checks: Checks) -> list[str]:
    """Return all warnings, with their time point and channel if there are several."""
    return [
        located(frames, message, time, channel)
        for (time, channel), each in checks.items()
        for message in each.warnings
    ]


def located(frames: SimFrames, message: str, time: int, channel: int) -> str:
    """Start a message with the time point and channel if there are several."""
    where = frames.where(time=time, channel=channel).strip(" ()")
    return f"{where[0].upper()}{where[1:]}: {message}" if where else message
