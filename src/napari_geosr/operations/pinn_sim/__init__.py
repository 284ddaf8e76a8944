"""Fit a network to raw frames of structured illumination; apply it to other frames.

The network is fitted to the middle slice of the first time point and channel. For all
other planes, including those of other stacks with the same optics, this network is
the starting point and is refined by a few steps. A job that was stopped or killed
resumes from its last checkpoint, with the same result as an uninterrupted run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
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
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import exact_settings
from napari_geosr.inference.device import pick_device
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.learning.energy import Meter
from napari_geosr.learning.training import checkpoint
from napari_geosr.operations.pinn_sim.config import (
    NEEDS,
    OPERATION,
    PURPOSE,
    PinnSimConfig,
    PinnSimJob,
    require_memory,
)
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.config import current_recipe
from napari_geosr.operations.sim.estimate import PatternEstimate, estimate_steps
from napari_geosr.operations.sim.frame_checks import check_plane, usable_plane
from napari_geosr.operations.sim.geometry import geometry, place_of
from napari_geosr.operations.sim.inputs import axis_facts
from napari_geosr.operations.sim.plane_run import PlaneRun
from napari_geosr.operations.sim.planes import (
    choose_iterations,
    choose_network_steps,
    fit_steps,
    frame_fit_of,
)
from napari_geosr.operations.train.object_fit import ObjectFit
from napari_geosr.operations.train.parts import require_one_process
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.noise import frame_noise

if TYPE_CHECKING:
    from napari_geosr.learning.frame_fit import FrameFit
    from napari_geosr.sim.joint_rl import JointRichardsonLucy

__all__ = [
    "NEEDS",
    "OPERATION",
    "PURPOSE",
    "PinnSimConfig",
    "PinnSimJob",
    "pinn_sim_steps",
]

FloatArray = npt.NDArray[np.float32]


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
        Folder of the job; receives ``checkpoints/`` and ``result/*.ome.tif``, one file
        for each stack.
    keep_unfinished : callable
        Called after `should_stop` has ended the fit; returns whether to apply the
        network in its current state.

    Returns
    -------
    Path or None
        Path of the reconstruction of the first stack; None if the run was stopped
        before all results were written.

    Raises
    ------
    GeoSRError
        If the run fails; the fit so far is in the last checkpoint.
    """
    require_one_process("A network is fitted to frames")
    opened = job.open()
    config = job.training
    for frames in opened:
        require_memory(frames, config, pick_device(config.device))
    meter = Meter(config.country)
    try:
        fit = _StackFit(config, opened[0], folder / "checkpoints", meter)
        yield from fit.prepare_steps(should_stop)
        meter.resume(folder / "energy.json", fit.done)
        with meter:
            yield from fit.train_steps(should_stop, keep_unfinished)
            yield JudgingStarted(message="Reconstructing all planes")
            paths = []
            for frames, name in zip(opened, config.file_names(), strict=True):
                path = folder / "result" / f"{name}.ome.tif"
                if not path.exists():  # otherwise, a killed run wrote the file
                    yield from _write_steps(fit, frames, path, should_stop)
                paths.append(path)
    except Cancelled:
        return None
    return paths[0]


class _StackFit(ObjectFit):
    """Fit of a network to the middle slice of the first stack.

    If this slice is unusable, the nearest usable one is used.
    """

    def __init__(
        self, config: PinnSimConfig, frames: SimFrames, checkpoints: Path, meter: Meter
    ) -> None:
        super().__init__(meter, config.checkpoint_seconds)
        self.config, self.frames = config, frames
        self.settings = config.reconstruction()
        self.device = pick_device(config.device)
        self.checkpoints = checkpoints
        self.state = checkpoint.load(checkpoints)
        self.plane = frames.n_planes // 2
        self.network: FrameFit | None = None

    @property
    def done(self) -> int:
        """Number of steps done, including those of a checkpoint to be loaded."""
        if self.network is not None:
            return self.network.iteration
        return 0 if self.state is None else int(self.state["fit"]["iteration"])

    @property
    def total(self) -> int:
        """Total number of steps."""
        return self.steps

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return float(self.fitted.optimiser.param_groups[0]["lr"])

    @property
    def is_fitted(self) -> bool:
        """Whether all steps are done."""
        return self.fitted.iteration >= self.steps

    @property
    def fitted(self) -> FrameFit:
        """The fit to the middle slice."""
        assert self.network is not None
        return self.network

    def prepare_steps(self, should_stop: ShouldStop) -> Generator[Step, None, None]:
        """Find the patterns, run joint Richardson–Lucy and set the number of steps."""
        described = yield from provenance.describe_steps(
            self.frames.volume, should_stop
        )
        self.of = {
            "frames": str(described.get("checksum")),
            "pixel size": self.frames.pixel_size,
            **self.config.decisive(),
        }
        if self.state is not None:
            before = dict(self.state["of"])
            if "recipe" in before:
                before["recipe"] = current_recipe(before["recipe"])
            _require_same(before, self.of)
        self.plane = usable_plane(self.frames)
        self.estimate = yield from estimate_steps(
            self.frames, self.settings, plane=self.plane, should_stop=should_stop
        )
        self.estimate.require()
        # The networks of all other planes have the same number of harmonics.
        harmonics = self.settings.harmonics or self.estimate.patterns.harmonics or None
        self.settings = self.settings.model_copy(update={"harmonics": harmonics})
        block = self.estimate.block
        if self.state is None:
            self.iterations = self.config.iterations or (
                yield from choose_iterations(
                    *self._plane(block, self.estimate), self.device, should_stop
                )
            )
            self.steps = self.config.steps
            if self.config.recipe == "refine":
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
        self,
        block: FloatArray,
        estimate: PatternEstimate,
        iterations: int,
        should_stop: ShouldStop,
    ) -> Generator[Step, None, tuple[JointRichardsonLucy, FrameFit]]:
        """Run joint Richardson–Lucy on a plane, and initialise a network from it."""
        noise = frame_noise(block, estimate.otf)
        start = yield from fit_steps(
            *self._plane(block, estimate),
            iterations,
            shift=noise.shift,
            device=self.device,
            should_stop=should_stop,
        )
        network = frame_fit_of(
            start,
            block,
            estimate.patterns,
            noise,
            self.settings,
            learning_rate=self.config.learning_rate,
            seed=self.config.seed,
        )
        return start, network

    def train_steps(
        self, should_stop: ShouldStop, keep_unfinished: Callable[[], bool]
    ) -> Generator[Step, None, None]:
        """Fit the network; if stopped, save a checkpoint and raise `Cancelled`."""
        self.start, self.network = yield from self.fit_of(
            self.estimate.block, self.estimate, self.iterations, should_stop
        )
        if self.state is not None:
            self.fitted.restore(self.state["fit"])
        yield StageStarted(
            message=f"Fitting a network to {self.frames.n_frames} frames",
            total=self.steps,
        )
        yield from self.loop_steps(should_stop)
        yield self.save()
        if not self.is_fitted:
            if not keep_unfinished():
                raise Cancelled("Stopped before the network was fitted.")
            self.steps = self.done
            yield self.save()  # a resumed job must not continue the fit
        yield self.preview()

    def step(self) -> Mapping[str, float]:
        """Perform one step and return its loss."""
        with exact_settings(self.config.threads, gradients=True):
            return {"loss": self.fitted.step()}

    def preview(self) -> PreviewReady:
        """Return the current reconstruction of the middle slice."""
        space = geometry(self.frames, self.config.upscale_factor)
        volume = Volume(
            self.image(self.start, self.fitted),
            "YX",
            space["voxel_size"][-2:],
            space["unit"],
            space["origin"][-2:],
            name="preview",
        )
        return PreviewReady(self.done, self.total, volume)

    def save(self) -> CheckpointSaved:
        """Write a checkpoint."""
        state = {
            "of": self.of,
            "iterations": self.iterations,
            "steps": self.steps,
            "fit": self.fitted.state(),
        }
        path = checkpoint.save(self.checkpoints, state)
        return CheckpointSaved(self.done, self.total, path)

    def image(self, start: JointRichardsonLucy, fit: FrameFit) -> FloatArray:
        """Return the fitted object in the field of view; `start` if `steps` is 0."""
        if self.steps == 0:
            return start.result()
        with exact_settings(self.config.threads):
            fine = fit.result()
        rows, columns = fit.operator.grid.inside_fine
        values: FloatArray = fine[rows, columns].cpu().numpy()
        return values

    def apply_steps(
        self,
        block: FloatArray,
        estimate: PatternEstimate,
        iterations: int,
        should_stop: ShouldStop,
    ) -> Generator[Step, None, FloatArray]:
        """Reconstruct another plane, starting from the fitted network."""
        start, fit = yield from self.fit_of(block, estimate, iterations, should_stop)
        fit.start_from(self.fitted.state())
        for _ in range(self.config.refine_steps if self.steps else 0):
            if should_stop():
                raise Cancelled("Stopped before all planes were reconstructed.")
            with exact_settings(self.config.threads, gradients=True):
                fit.step()
            yield BlockDone()
        return self.image(start, fit)


def _require_same(before: AnyMapping, now: AnyMapping) -> None:
    """Refuse to resume a fit with other frames or settings.

    Raises
    ------
    ConfigError
        If any value differs; the message names all values that differ.
    """
    names = [n for n in (*now, *before) if now.get(n) != before.get(n)]
    if names:
        shown = ", ".join(dict.fromkeys(name.replace("_", " ") for name in names))
        raise ConfigError(
            "This fit was started with different frames or settings, so it cannot be "
            f"resumed. These differ: {shown}. Use the original frames and settings, or "
            "start a new fit in another folder."
        )


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
    space = geometry(frames, config.upscale_factor)
    history = frames.volume.provenance
    with atomic.explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    spec = io.OutputSpec(dtype=np.float32, provenance=(*history, record), **space)
    run = PlaneRun(frames, fit.settings, None, should_stop)
    if is_first:
        run.adopt(fit.estimate, fit.plane, fit.iterations)
    with io.create(path, spec, overwrite=True) as output:
        unusable = yield from _unusable_steps(run)
        shape = frames.n_times, frames.n_channels, frames.n_planes
        for moment, channel, plane in np.ndindex(shape):
            place = place_of(frames, config.upscale_factor, moment, channel, plane)
            if is_first and (moment, channel, plane) == (0, 0, fit.plane):
                image = fit.image(fit.start, fit.fitted)
            elif channel in unusable:
                image = run.empty_image(moment, channel, plane)
            else:
                try:
                    image = yield from _plane_steps(
                        fit, run, (moment, channel, plane), should_stop
                    )
                except VolumeError as error:
                    image = run.empty_image(moment, channel, plane)
                    message = f"{error} This plane is left empty (NaN)."
                    yield WarningIssued(message=message)
            output.array[place] = image.reshape((1,) * (len(place) - 2) + image.shape)
        if message := run.search.reused_warning():
            yield WarningIssued(message=message)
        facts = {**_facts(fit, is_first), "iterations": run.used_iterations}
        facts |= run.empty_facts()
        done = {**record, "frames": axis_facts(frames), "run": facts}
        output.provenance = (*history, done)


def _unusable_steps(run: PlaneRun) -> Generator[Step, None, set[int]]:
    """Find the patterns of each channel; return the channels without patterns.

    A channel without patterns only causes a warning, and all other results are written.
    """
    found: set[int] = set()
    frames = run.frames
    for channel in range(frames.n_channels):
        try:
            yield from run.search.first_steps(channel)
        except (ConfigError, VolumeError) as error:
            found.add(channel)
            where = frames.where(channel=channel)
            yield WarningIssued(
                message=f"{frames.volume.title}{where} is left empty (NaN). {error}"
            )
    return found


def _plane_steps(
    fit: _StackFit,
    run: PlaneRun,
    place: tuple[int, int, int],
    should_stop: ShouldStop,
) -> Generator[Step, None, FloatArray]:
    """Reconstruct a plane, given by time point, channel and slice.

    Raises
    ------
    VolumeError
        If its frames cannot be used.
    """
    time, channel, plane = place
    block = run.frames.frames(plane, time, channel)
    check_plane(block, run.frames, plane, time, channel)
    estimate, iterations = yield from run.start_steps(block, time, channel, plane)
    image = yield from fit.apply_steps(block, estimate, iterations, should_stop)
    return image


def _facts(fit: _StackFit, is_first: bool) -> AnyMapping:
    """Return the entries for the record of a result."""
    facts: AnyDict = {
        "device": fit.device,
        "steps": fit.steps,
        "loss": fit.fitted.loss,
        **fit.meter.figures(),
    }
    fringes = fit.fitted.fringes
    patterns = fit.estimate.patterns
    if is_first and fringes is not None and patterns.images is None:
        facts["patterns"] = fringes.corrected(patterns).to_dict()
    if not is_first:
        facts["refine_steps"] = fit.config.refine_steps
    return facts
