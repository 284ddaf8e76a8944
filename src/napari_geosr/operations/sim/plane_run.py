"""The planes of a run: their patterns, reconstructions and checks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, ConfigError
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
    search_steps,
)
from napari_geosr.operations.sim.frame_checks import check_plane
from napari_geosr.operations.sim.geometry import geometry, place_of
from napari_geosr.operations.sim.planes import choose_iterations, plane_steps, widefield
from napari_geosr.operations.sim.support import (
    FourierSupport,
    fourier_support,
    resolution_remark,
)
from napari_geosr.operations.sim.trust import SimTrust, trust_steps

FloatArray = npt.NDArray[np.float32]
#: Checks by time point and channel.
Checks = Mapping[tuple[int, int], SimTrust]

#: Ratio of the brightness of two planes up to which the number of iterations that was
#: chosen for one is used for the other.
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
        self.frames, self.config, self.given = frames, config, given
        self.should_stop, self.near = should_stop, near
        self.estimates: dict[tuple[int, int], PatternEstimate] = {}
        self.iterations: dict[tuple[int, int, int], int] = {}
        self.chosen: dict[int, list[tuple[float, int]]] = {}
        self.device = pick_device(config.device)
        self.has_drifted = False

    def prepare_steps(self) -> Generator[Step, None, None]:
        """Find the patterns at each channel's first time point, before any output."""
        if self.config.method == "widefield":
            yield from self._prepare_widefield()
            return
        for channel in range(self.frames.n_channels):
            found = yield from self._estimate_steps(0, channel)
            message = resolution_remark(
                found.patterns, found.otf, self.config.upscale_factor
            )
            if message and channel == 0:
                yield WarningIssued(message=message)

    def _prepare_widefield(self) -> Generator[Step, None, None]:
        """Find the patterns for the checks, which are skipped if there are none."""
        if not self.config.checks:
            return
        try:
            yield from self._estimate_steps(0, 0)
        except ConfigError as error:
            yield WarningIssued(message=f"The result is not checked. {error}")

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
        # Only the frames of the first time point are needed later.
        kept = found if time == 0 else replace(found, block=found.block[..., :0, :0])
        self.estimates[key] = kept
        return kept

    def _search_steps(
        self, time: int, channel: int, before: PatternEstimate | None
    ) -> Generator[Step, None, PatternEstimate]:
        """Find patterns near those of the previous time point, or else anywhere."""
        earlier = None if before is None or not before.fits else before.patterns
        found = yield from search_steps(
            self.frames,
            self.config,
            time=time,
            channel=channel,
            before=earlier,
            corrected=self.near,
            should_stop=self.should_stop,
        )
        return found

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
        """Reconstruct every plane into `array`."""
        frames = self.frames
        shape = frames.n_times, frames.n_channels, frames.n_planes
        total = int(np.prod(shape))
        for done, (time, channel, plane) in enumerate(np.ndindex(shape)):
            if self.should_stop():
                raise Cancelled("Stopped before the result was complete.")
            image = yield from self._plane_steps(time, channel, plane, done, total)
            place = place_of(frames, self.config.upscale_factor, time, channel, plane)
            array[place] = image.reshape((1,) * (len(place) - 2) + image.shape)
            yield TileDone(1000 * (done + 1), 1000 * total, place, image)

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
        frames, plane = self.frames, self.frames.n_planes // 2
        times = sorted({0, frames.n_times - 1})
        for time, channel in itertools.product(times, range(frames.n_channels)):
            estimate = self.estimates.get((time, channel))
            if estimate is None:  # widefield
                continue
            found[time, channel] = yield from trust_steps(
                self._result(array, time, channel, plane),
                frames.frames(plane, time, channel),
                estimate,
                self.config,
                iterations=self.iterations.get((time, channel, plane), 0),
                device=self.device,
                has_resolution=not found,
                should_stop=self.should_stop,
            )
        return found

    def support(self, array: AnyArray) -> FourierSupport:
        """Return the spectrum of the checked slice of the result."""
        estimate = self.estimates[0, 0]
        return fourier_support(
            self._result(array, 0, 0, self.frames.n_planes // 2),
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

    def facts(self) -> AnyDict:
        """Return the statistics of the run for its record."""
        facts: AnyDict = {"device": self.device}
        first = self.estimates.get((0, 0))
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
        With an entry for the first time point and channel.
    """
    found: AnyDict = {"checks": checks[0, 0].to_json_dict()}
    others = [
        {"time_point": time + 1, "channel": channel + 1, **each.to_json_dict()}
        for (time, channel), each in checks.items()
        if (time, channel) != (0, 0)
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
