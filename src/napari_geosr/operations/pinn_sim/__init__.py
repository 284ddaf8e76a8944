"""Fit a network to raw frames of structured illumination, and apply it to others.

The network is fitted to the middle slice of the first time point and channel. All other
planes, and those of further stacks of the same optics, start from the fitted network
and are refined by a few steps. A job that was stopped or killed resumes from its last
checkpoint, and its result is that of an uninterrupted run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import psutil

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import (
    BlockDone,
    CheckpointSaved,
    JudgingStarted,
    PreviewReady,
    ShouldStop,
    StageStarted,
    Step,
    TrainingProgress,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import exact_settings
from napari_geosr.inference.device import pick_device
from napari_geosr.io import atomic
from napari_geosr.learning import checkpoint
from napari_geosr.learning.energy import Meter
from napari_geosr.operations.pinn_sim.config import (
    NEEDS,
    OPERATION,
    PinnSimConfig,
    PinnSimJob,
)
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.estimate import PatternEstimate, estimate_steps
from napari_geosr.operations.sim.inputs import axis_facts, check_plane
from napari_geosr.operations.sim.planes import (
    choose_iterations,
    choose_network_steps,
    fit_steps,
    frame_fit_of,
)
from napari_geosr.operations.sim.run import geometry, place_of
from napari_geosr.operations.train.parts import require_one_process
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.noise import frame_noise

if TYPE_CHECKING:
    from napari_geosr.learning.frame_fit import FrameFit
    from napari_geosr.sim.joint_rl import JointRichardsonLucy

__all__ = ["NEEDS", "OPERATION", "PinnSimConfig", "PinnSimJob", "pinn_sim_steps"]

FloatArray = npt.NDArray[np.float32]

#: Minimum seconds between two progress reports.
_REPORT_SECONDS = 0.5
#: Minimum seconds between two previews.
_PREVIEW_SECONDS = 3.0


def pinn_sim_steps(
    job: PinnSimJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Fit a network in `folder` and write all results, or resume an earlier run.

    Parameters
    ----------
    folder : Path
        Receives ``checkpoints/`` and ``result/*.ome.tif``, one file for each stack.
    keep_unfinished : callable
        Called after `should_stop` has ended the fit; returns whether to apply the
        network as it is then.

    Returns
    -------
    Path or None
        Path of the reconstruction of the first stack; None if the run was stopped.

    Raises
    ------
    GeoSRError
        With a one-sentence message; the fit so far is in the last checkpoint.
    """
    require_one_process("A network is fitted to frames")
    opened = job.open()
    config = job.training
    meter = Meter(config.country)
    try:
        fit = _StackFit(config, opened[0], folder / "checkpoints", meter)
        yield from fit.prepare_steps(should_stop)
        meter.resume(folder / "energy.json", fit.iteration)
        with meter:
            yield from fit.train_steps(should_stop, keep_unfinished)
            yield JudgingStarted(message="Reconstructing all planes")
            paths = []
            for frames, name in zip(opened, config.file_names(), strict=True):
                path = folder / "result" / f"{name}.ome.tif"
                if not path.exists():  # otherwise written before the job was killed
                    yield from _write_steps(fit, frames, path, should_stop)
                paths.append(path)
    except Cancelled:
        return None
    return paths[0]


class _StackFit:
    """The network of the middle slice of the first stack."""

    def __init__(
        self, config: PinnSimConfig, frames: SimFrames, checkpoints: Path, meter: Meter
    ) -> None:
        self.config, self.frames, self.meter = config, frames, meter
        self.settings = config.reconstruction()
        self.device = pick_device(config.device)
        self.checkpoints = checkpoints
        self.state = checkpoint.load(checkpoints)
        self.plane = frames.n_planes // 2

    @property
    def iteration(self) -> int:
        """Number of steps done."""
        return 0 if self.state is None else int(self.state["fit"]["iteration"])

    def prepare_steps(self, should_stop: ShouldStop) -> Generator[Step, None, None]:
        """Find the patterns, run joint Richardson–Lucy, and choose the steps."""
        described = yield from provenance.describe_steps(
            self.frames.volume, should_stop
        )
        self.of = {
            "input": str(described.get("checksum")),
            **{n: getattr(self.config, n) for n in ("seed", "recipe", "features")},
            "upscale_factor": self.config.upscale_factor,
        }
        if self.state is not None and self.state["of"] != self.of:
            raise ConfigError(
                "This fit was started with other frames or settings (seed, recipe, "
                "features or upscale factor). Restore them to resume, or start again "
                "in another folder."
            )
        self.estimate = yield from estimate_steps(
            self.frames, self.settings, should_stop=should_stop
        )
        self.estimate.require()
        block = self.estimate.block
        if self.state is None:
            self.iterations = self.config.iterations or (
                yield from choose_iterations(
                    *self._plane(block, self.estimate), self.device, should_stop
                )
            )
            self.steps = self.config.steps
            if self.config.recipe == "ours":
                self.steps = yield from choose_network_steps(
                    *self._plane(block, self.estimate),
                    self.iterations,
                    self.device,
                    should_stop,
                )
        else:
            self.iterations, self.steps = (
                int(self.state[name]) for name in ("iterations", "steps")
            )
        if self.steps == 0:
            yield WarningIssued(
                message="Held-out photons are predicted best without the network: the "
                "results are those of joint Richardson–Lucy."
            )

    def _plane(
        self, block: FloatArray, estimate: PatternEstimate
    ) -> tuple[FloatArray, PatternSet, Otf, SimConfig]:
        return block, estimate.patterns, estimate.otf, self.settings

    def fit_of(
        self, block: FloatArray, estimate: PatternEstimate, should_stop: ShouldStop
    ) -> Generator[Step, None, tuple[JointRichardsonLucy, FrameFit]]:
        """Joint Richardson–Lucy of a plane, and a network that starts from it."""
        start = yield from fit_steps(
            *self._plane(block, estimate),
            self.iterations,
            device=self.device,
            should_stop=should_stop,
        )
        network = frame_fit_of(
            start,
            block,
            estimate.patterns,
            frame_noise(block, estimate.otf),
            self.settings,
            learning_rate=self.config.learning_rate,
            seed=self.config.seed,
        )
        return start, network

    def train_steps(
        self, should_stop: ShouldStop, keep_unfinished: Callable[[], bool]
    ) -> Generator[Step, None, None]:
        """Fit the network; raises `Cancelled` if stopped, after saving a checkpoint."""
        self.start, self.network = yield from self.fit_of(
            self.estimate.block, self.estimate, should_stop
        )
        fit = self.network
        if self.state is not None:
            fit.restore(self.state["fit"])
        yield StageStarted(
            message=f"Fitting a network to {self.frames.n_frames} frames",
            total=self.steps,
        )
        begun, first = time.monotonic(), fit.iteration
        reported = previewed = saved = begun
        losses: list[float] = []
        while fit.iteration < self.steps and not should_stop():
            with exact_settings(self.config.threads, gradients=True):
                losses.append(fit.step())
            now = time.monotonic()
            if now - reported > _REPORT_SECONDS or fit.iteration == self.steps:
                yield self._progress(fit, losses, now - begun, fit.iteration - first)
                reported, losses = now, []
            if now - previewed > _PREVIEW_SECONDS:
                previewed = now
                yield self._preview(fit)
            if now - saved > self.config.checkpoint_seconds:
                saved = now
                yield self._save(fit)
        yield self._save(fit)
        if fit.iteration < self.steps:
            if not keep_unfinished():
                raise Cancelled("Stopped before the network was fitted.")
            self.steps = fit.iteration
        yield self._preview(fit)

    def _progress(
        self, fit: FrameFit, losses: list[float], seconds: float, n: int
    ) -> TrainingProgress:
        speed = max(n, 1) / max(seconds, 1e-6)
        fall = fit.optimiser.param_groups[0]["lr"]
        return TrainingProgress(
            fit.iteration,
            self.steps,
            losses={"loss": float(np.mean(losses))},
            learning_rate=float(fall),
            images_per_second=speed,
            seconds_left=(self.steps - fit.iteration) / speed,
            memory=int(psutil.Process().memory_info().rss),
            watts=self.meter.watts(),
        )

    def _preview(self, fit: FrameFit) -> PreviewReady:
        space = geometry(self.frames, self.config.upscale_factor)
        image = self.image(self.start, fit)
        volume = Volume(
            image,
            "YX",
            space["voxel_size"][-2:],
            space["unit"],
            space["origin"][-2:],
            name="preview",
        )
        return PreviewReady(fit.iteration, self.steps, volume)

    def _save(self, fit: FrameFit) -> CheckpointSaved:
        state = {
            "of": self.of,
            "iterations": self.iterations,
            "steps": self.steps,
            "fit": fit.state(),
        }
        path = checkpoint.save(self.checkpoints, state)
        return CheckpointSaved(fit.iteration, self.steps, path)

    def image(self, start: JointRichardsonLucy, fit: FrameFit) -> FloatArray:
        """The object in the field of view; that of `start` without any steps."""
        if self.steps == 0:
            return start.result()
        with exact_settings(self.config.threads):
            fine = fit.result()
        rows, columns = fit.operator.grid.inside_fine
        values: FloatArray = fine[rows, columns].cpu().numpy()
        return values

    def apply_steps(
        self, block: FloatArray, estimate: PatternEstimate, should_stop: ShouldStop
    ) -> Generator[Step, None, FloatArray]:
        """Reconstruct another plane, starting from the fitted network."""
        start, fit = yield from self.fit_of(block, estimate, should_stop)
        fit.start_from(self.network.state())
        for _ in range(self.config.refine_steps if self.steps else 0):
            if should_stop():
                raise Cancelled("Stopped before all planes were reconstructed.")
            with exact_settings(self.config.threads, gradients=True):
                fit.step()
            yield BlockDone()
        return self.image(start, fit)


def _write_steps(
    fit: _StackFit, frames: SimFrames, path: Path, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Reconstruct all planes of a stack into a file."""
    config, is_first = fit.config, frames is fit.frames
    record = yield from provenance.record_steps(
        OPERATION,
        inputs={"frames": frames.volume},
        settings=config.model_dump(mode="json", exclude={"memory"}),
        should_stop=should_stop,
    )
    done = {**record, "frames": axis_facts(frames), "run": _facts(fit, is_first)}
    space = geometry(frames, config.upscale_factor)
    history = (*frames.volume.provenance, done)
    with atomic.explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    spec = io.OutputSpec(dtype=np.float32, provenance=history, **space)
    estimates: dict[tuple[int, int], PatternEstimate] = {}
    if is_first:
        estimates[0, 0] = fit.estimate
    with io.create(path, spec, overwrite=True) as output:
        shape = frames.n_times, frames.n_channels, frames.n_planes
        for moment, channel, plane in np.ndindex(shape):
            place = place_of(frames, config.upscale_factor, moment, channel, plane)
            if is_first and (moment, channel, plane) == (0, 0, fit.plane):
                image = fit.image(fit.start, fit.network)
            else:
                key = moment, channel
                if key not in estimates:
                    estimates[key] = yield from estimate_steps(
                        frames,
                        fit.settings,
                        time=moment,
                        channel=channel,
                        should_stop=should_stop,
                    )
                    estimates[key].require()
                block = frames.frames(plane, moment, channel)
                check_plane(block, frames)
                image = yield from fit.apply_steps(block, estimates[key], should_stop)
            output.array[place] = image.reshape((1,) * (len(place) - 2) + image.shape)


def _facts(fit: _StackFit, is_first: bool) -> AnyMapping:
    """Figures for the record of a result."""
    facts: AnyDict = {
        "device": fit.device,
        "iterations": fit.iterations,
        "steps": fit.steps,
        "loss": fit.network.loss,
        **fit.meter.figures(),
    }
    fringes = fit.network.fringes
    patterns = fit.estimate.patterns
    if is_first and fringes is not None and patterns.images is None:
        facts["patterns"] = fringes.corrected(patterns).to_dict()
    if not is_first:
        facts["refine_steps"] = fit.config.refine_steps
    return facts
