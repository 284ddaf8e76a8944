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
from napari_geosr.operations.sim.estimate import (
    MAX_DRIFT,
    PatternEstimate,
    drift,
    reused_remark,
    search_steps,
)
from napari_geosr.operations.sim.frame_checks import check_plane
from napari_geosr.operations.sim.geometry import geometry, place_of
from napari_geosr.operations.sim.inputs import step_remark
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

#: Ratio of the brightness of two planes up to which the number of iterations that was
#: chosen for one is used for the other.
_SAME_BRIGHTNESS = 1.5
#: Maximum number of time points at which patterns are searched for before a run is
#: refused.
_MOST_TRIALS = 8


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
        self.frames, self.config, self.given = frames, config, given
        self.should_stop, self.near = should_stop, near
        self.estimates: dict[tuple[int, int], PatternEstimate] = {}
        #: Slice in which patterns were found, by time point and channel.
        self.planes: dict[tuple[int, int], int] = {}
        #: Time point, channel and slice of frames that cannot be used.
        self.empty: list[tuple[int, int, int]] = []
        self.iterations: dict[tuple[int, int, int], int] = {}
        self.chosen: dict[int, list[tuple[float, int]]] = {}
        self.device = pick_device(config.device)
        self.has_drifted = False
        #: Warnings issued while patterns were searched for.
        self.said: set[str] = set()

    def prepare_steps(self) -> Generator[Step, None, None]:
        """Find the patterns of each channel, before any output.

        Raises
        ------
        GeoSRError
            If there are none at the first time points.
        """
        if message := step_remark(self.frames):
            yield WarningIssued(message=message)
        if self.config.method == "widefield":
            yield from self._prepare_widefield()
            return
        for channel in range(self.frames.n_channels):
            found = yield from self.first_steps(channel)
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
            yield from self.first_steps(0)
        except (ConfigError, VolumeError) as error:
            yield WarningIssued(message=f"The result is not checked. {error}")

    def first_steps(self, channel: int) -> Generator[Step, None, PatternEstimate]:
        """Find the patterns at the first time point of a channel that has any.

        Raises
        ------
        GeoSRError
            If there are none at the first time points.
        """
        first: ConfigError | VolumeError | None = None
        for time in range(min(self.frames.n_times, _MOST_TRIALS)):
            try:
                found = yield from self._estimate_steps(time, channel)
            except (ConfigError, VolumeError) as error:
                first = first or error
            else:
                return found
        assert first is not None
        raise first

    def _estimate_steps(
        self, time: int, channel: int
    ) -> Generator[Step, None, PatternEstimate]:
        """Find the patterns of a time point, or use those of an earlier one.

        Those of a later time point are used if there are no earlier ones.
        """
        key = (time, channel)
        if key in self.estimates:
            return self.estimates[key]
        if self.given is not None:
            self.estimates[key] = self.given
            return self.given
        before = self._nearest(time, channel)
        plane = self._pattern_plane(time, channel)
        found = yield from self._search_steps(time, channel, plane, before)
        if before is None:
            found.require()
        elif found.problems:
            yield WarningIssued(message=reused_remark(found, before))
            found = replace(found, patterns=before.patterns, fits=before.fits)
            found = replace(found, where=before.where)
        elif before.fits:
            yield from self._drift_steps(before, found, time)
        # Only the frames of the first time point are needed later.
        kept = found if time == 0 else replace(found, block=found.block[..., :0, :0])
        self.estimates[key], self.planes[key] = kept, plane
        return kept

    def _nearest(self, time: int, channel: int) -> PatternEstimate | None:
        """Return the patterns of the last earlier time point, or of the next one."""
        known = sorted(t for t, c in self.estimates if c == channel)
        earlier = [t for t in known if t < time] or known[:1]
        return self.estimates[earlier[-1], channel] if earlier else None

    def _pattern_plane(self, time: int, channel: int) -> int:
        """Return the usable slice that is nearest to the middle.

        Raises
        ------
        VolumeError
            If no slice is usable.
        """
        frames, middle = self.frames, self.frames.n_planes // 2
        first: VolumeError | None = None
        for plane in sorted(range(frames.n_planes), key=lambda p: abs(p - middle)):
            block = frames.frames(plane, time, channel)
            try:
                check_plane(block, frames, plane, time, channel)
            except VolumeError as error:
                first = first or error
            else:
                return plane
        assert first is not None
        raise first

    def _search_steps(
        self, time: int, channel: int, plane: int, before: PatternEstimate | None
    ) -> Generator[Step, None, PatternEstimate]:
        """Find patterns near those of the previous time point, or else anywhere."""
        earlier = None if before is None or not before.fits else before.patterns
        steps = search_steps(
            self.frames,
            self.config,
            time=time,
            channel=channel,
            plane=plane,
            before=earlier,
            corrected=self.near,
            is_first=before is None,
            should_stop=self.should_stop,
        )
        with StepIterator(steps) as iterator:
            for step in iterator:
                # A second first search follows one that found no patterns.
                if isinstance(step, WarningIssued):
                    if step.message in self.said:
                        continue
                    self.said.add(step.message)
                yield step
        return iterator.result

    def _drift_steps(
        self, before: PatternEstimate, found: PatternEstimate, time: int
    ) -> Generator[Step, None, None]:
        """Warn once if patterns drift from one time point to the next."""
        moved = drift(before.patterns, found.patterns)
        if moved > MAX_DRIFT and not self.has_drifted:
            self.has_drifted = True
            yield WarningIssued(
                message=f"The patterns drift: at time point {time + 1}, one phase "
                f"differs by {math.degrees(moved):.0f}° from that at the previous one. "
                "The patterns are therefore determined for every time point."
            )

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

    def empty_image(self, time: int, channel: int, plane: int) -> FloatArray:
        """Return the result of a plane that cannot be used, and remember the plane."""
        self.empty.append((time, channel, plane))
        size = tuple(self.config.upscale_factor * n for n in self.frames.plane_shape)
        return np.full(size, np.nan, np.float32)

    def _plane_steps(
        self, time: int, channel: int, plane: int, done: int, total: int
    ) -> Generator[Step, None, FloatArray]:
        """Reconstruct one plane, the number `done` of `total`."""
        block = self.frames.frames(plane, time, channel)
        check_plane(block, self.frames, plane, time, channel)
        if self.config.method == "widefield":
            return widefield(block, self.config.upscale_factor)
        estimate = yield from self._estimate_steps(time, channel)
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
        """Return the number of iterations chosen for a plane that is as bright."""
        found = [
            (max(brightness, other) / max(min(brightness, other), 1e-20), n)
            for other, n in self.chosen.get(channel, [])
        ]
        ratio, n = min(found, default=(math.inf, 0))
        return n if ratio <= _SAME_BRIGHTNESS else None

    def adopt(self, estimate: PatternEstimate, plane: int, iterations: int) -> None:
        """Use patterns and iterations found before for a plane of the first volume.

        Parameters
        ----------
        estimate : PatternEstimate
        plane : int
        iterations : int
        """
        self.estimates[0, 0] = estimate
        self._keep_iterations(estimate.block, (0, 0, plane), iterations)

    def start_steps(
        self, block: FloatArray, time: int, channel: int, plane: int
    ) -> Generator[Step, None, tuple[PatternEstimate, int]]:
        """Return the patterns of a plane, and its iterations of joint Richardson–Lucy.

        Parameters
        ----------
        block : ndarray of shape (angles, phases, Y, X)
            Frames of the plane.
        time, channel, plane : int
        """
        found = yield from self._estimate_steps(time, channel)
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
        """Remember the iterations of a plane, for it and for others as bright."""
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

        The resolution is measured only for the first one.

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
            found[time, channel] = yield from trust_steps(
                self._result(array, time, channel, plane),
                self.frames.frames(plane, time, channel),
                self.estimates[time, channel],
                self.config,
                iterations=self.iterations.get((time, channel, plane), 0),
                device=self.device,
                has_resolution=not found,
                should_stop=self.should_stop,
            )
        return found

    def checked_plane(self, time: int, channel: int) -> int:
        """Return the slice that is checked: the middle one, unless it is empty."""
        return self.planes.get((time, channel), self.frames.n_planes // 2)

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
                facts["patterns"] = first.patterns.to_dict()
        used = self.used_iterations
        return {**facts, **({"iterations": used} if used else {})}


def _brightness(block: FloatArray) -> float:
    return float(np.percentile(block.mean(axis=(0, 1)), 99))


def trust_summary(checks: Checks) -> AnyDict:
    """Return all values in JSON-serialisable form.

    Parameters
    ----------
    checks : mapping of (int, int) to SimTrust
        The first one is that of the first time point and channel with a result.
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
    """Return all warnings; each names the time point and channel if there are more."""
    return [
        located(frames, message, time, channel)
        for (time, channel), each in checks.items()
        for message in each.warnings
    ]


def located(frames: SimFrames, message: str, time: int, channel: int) -> str:
    """Start a message with the time point and channel if there are several."""
    where = frames.where(time=time, channel=channel).strip(" ()")
    return f"{where[0].upper()}{where[1:]}: {message}" if where else message
