"""Train any method on any device, reproducibly even if a run is resumed.

`accelerate` handles devices, precision and processes. Samples and torch's random
numbers depend only on (seed, step), because torch is seeded at every step. Checkpoints
therefore need no states of random generators.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from napari_geosr.core.errors import TrainingError
from napari_geosr.core.machine.allocation import within_allocation
from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.core.steps import (
    CheckpointSaved,
    PreviewReady,
    ShouldStop,
    StageStarted,
    Step,
    TrainingProgress,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.learning.method import Batch, Losses, Method
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.learning.training import checkpoint, linear_start
from napari_geosr.learning.training.accelerator import (
    MEMORY_ERRORS,
    BatchParts,
    Processes,
    accelerate_precision,
    batch_length,
    empty_cache,
    in_parts,
    make_accelerator,
    reduce_hidden_maps,
)
from napari_geosr.learning.training.batches import Batches
from napari_geosr.learning.training.checkpoint import (
    check_settings_unchanged,
    divergence_error,
    find_non_finite,
    fixed_settings,
)
from napari_geosr.learning.training.clock import Clock, MeanLosses
from napari_geosr.networks import set_network_noise

#: Number of batches per validation, each of a single patch.
_VALIDATION_BATCHES = 4
#: Part of the seed for validation; no other random numbers of a run use it.
_VALIDATION_KEY = 3
#: Part of torch's seed for each step; no other random numbers of a run use it.
_TORCH_KEY = 4

Preview = Callable[[nn.Module], Any]


def _no_power() -> None:
    """Return None, in place of a measured power consumption."""


class Trainer:
    """Trains the modules of a method.

    Parameters
    ----------
    method : Method
    patches : Patches
        Training and validation data.
    folder : Path or None
        Folder for checkpoints; None for no checkpoints.
    preview : callable, optional
        Called every few seconds with the averaged network; returns a `Volume`.
    device : str, optional
        Name of an available torch device; by default that of ``config``. With several
        processes, each has a separate GPU.
    watts : callable
        Returns the power consumption of the machine for reports, or None.
    """

    def __init__(
        self,
        method: Method,
        patches: Patches,
        folder: Path | None = None,
        preview: Preview | None = None,
        device: str | None = None,
        watts: Callable[[], float | None] = _no_power,
    ) -> None:
        config = method.config
        self.method, self.patches, self.config = method, patches, config
        self.folder, self.watts = folder, watts
        self.steps, self.step = config.steps, 0
        default_threads = within_allocation(torch.get_num_threads())
        torch.set_num_threads(config.threads or default_threads)
        if (device := device or config.device) == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        precision = accelerate_precision(config, device)
        self.accelerator = make_accelerator(device, precision)
        self.processes = Processes(self.accelerator, config.batch_size)
        self.preview = preview if self.accelerator.is_main_process else None
        method.prepare(patches)
        torch.manual_seed(config.seed)
        method.modules = method.build()
        reduce_hidden_maps(config, method.modules.values())
        self._set_noise()
        self.average = copy.deepcopy(method.modules[method.result]).eval()
        self.average.requires_grad_(False)
        self.optimisers: AnyDict = {}
        #: Learning rates of the parameter groups, relative to the learning rate in the
        #: settings, which may differ in a resumed run.
        self._rates: dict[str, list[float]] = {}
        self._prepare()
        self.parts = BatchParts(self.processes)
        #: Whether every validation so far has fitted into memory.
        self._can_validate = True
        self.seconds = 0.0
        #: Step at which this process started; greater than 0 if the run was resumed.
        self.first_step = 0
        self.batches = Batches(
            method,
            patches,
            self.accelerator.device,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        self._fit_last_layer()

    def _fit_last_layer(self) -> None:
        """Fit a linear last layer, as in `learning.training.linear_start`."""
        network = self.accelerator.unwrap_model(self.method.modules[self.method.result])
        if linear_start.fit_last_layer(network, self.batches, self.config.ndim):
            self.average.load_state_dict(network.state_dict())

    def _set_noise(self) -> None:
        """Set the noise of the first source for previews; samples contain their own."""
        noise = next(
            (s.noises["source"] for s in self.patches.scenes if s.noises), None
        )
        if noise is not None:
            set_network_noise(self.method.modules[self.method.result], noise)

    def _prepare(self) -> None:
        modules = self.method.modules
        for name in modules:
            # `evaluation_mode` avoids synchronisation within a pass: all processes
            # start from the same weights and average their gradients later.
            modules[name] = self.accelerator.prepare_model(
                modules[name], evaluation_mode=True
            )
        for group, names in self.method.groups().items():
            parameters = [p for n in names for p in modules[n].parameters()]
            optimiser = self.method.optimiser(group, parameters)
            base = self.config.learning_rate
            self._rates[group] = [each["lr"] / base for each in optimiser.param_groups]
            self.optimisers[group] = self.accelerator.prepare_optimizer(optimiser)
        self.average.to(self.accelerator.device)

    # State

    def resume(self) -> bool:
        """Resume from the checkpoint in `folder`, if there is one."""
        state = None if self.folder is None else checkpoint.load(self.folder)
        if state is None:
            return False
        self.load_state_dict(state)
        return True

    def state_dict(self) -> AnyDict:
        """Return the complete state for the next step, as stored in checkpoints."""
        modules = self._unwrapped()
        return {
            "modules": {name: m.state_dict() for name, m in modules.items()},
            "average": self.average.state_dict(),
            "optimisers": {n: o.state_dict() for n, o in self.optimisers.items()},
            "step": self.step,
            "seconds": self.seconds,
            "parts": self.parts.count,
            "method": self.method.state(),
            "settings": fixed_settings(self.config, self.patches.scenes),
        }

    def load_state_dict(self, state: AnyMapping) -> None:
        """Load a state returned by `state_dict`.

        Raises
        ------
        TrainingError
            If the state belongs to other settings.
        """
        now = fixed_settings(self.config, self.patches.scenes)
        check_settings_unchanged(self.config, now, state.get("settings", {}))
        try:
            for name, module in self._unwrapped().items():
                module.load_state_dict(state["modules"][name])
            self.average.load_state_dict(state["average"])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(
                "The checkpoint does not match these settings: the network or the "
                "method was changed. Start again in another folder."
            ) from error
        self.method.restore_state(state["method"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.first_step = self.step
        self.parts.count = state["parts"]

    def _unwrapped(self) -> dict[str, nn.Module]:
        """Return the method's modules without the wrappers for several processes."""
        unwrap = self.accelerator.unwrap_model
        return {name: unwrap(m) for name, m in self.method.modules.items()}

    def start_from(self, weights: dict[str, torch.Tensor]) -> None:
        """Start from the weights of a trained model.

        Raises
        ------
        TrainingError
            If the weights belong to another network.
        """
        network = self._unwrapped()[self.method.result]
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise TrainingError(
                "The initial model has a different network. Set network, dimensions "
                "and adjacent slices to those of the model."
            ) from error
        self.average.load_state_dict(network.state_dict())

    def save(self) -> Path | None:
        """Write a checkpoint, in the main process only.

        Raises
        ------
        TrainingError
            If weights are NaN or infinite; the previous checkpoint is kept.
        """
        damaged = find_non_finite({**self.method.modules, "average": self.average})
        if damaged is not None:
            raise divergence_error(f"A weight of {damaged}", self.step, self.config)
        if self.folder is None or not self.accelerator.is_main_process:
            return None
        return checkpoint.save(self.folder, self.state_dict())

    # The loop

    def run(self, should_stop: ShouldStop = never_stop) -> Generator[Step, None, bool]:
        """Train until the end or a requested stop; save a checkpoint in either case.

        Yields
        ------
        Step
            `StageStarted`, `TrainingProgress`, `PreviewReady`, `CheckpointSaved`,
            `WarningIssued`.

        Returns
        -------
        bool
            Whether all steps were done.

        Raises
        ------
        TrainingError
            If losses, gradients or weights are not finite; the last checkpoint is kept.
        DeviceMemoryError
            If not even one patch fits into memory.
        FileError
            If data cannot be read or checkpoints cannot be written.
        """
        yield StageStarted(self.step, self.steps, f"Training {self.config.name}")
        with self.batches:
            return (yield from self._train(should_stop))

    def _train(self, should_stop: ShouldStop) -> Generator[Step, None, bool]:
        clock = Clock(self.step, self.steps, self.config.batch_size)
        if self.step < self.steps:
            yield from self._preview(clock)  # before timing starts
            clock.start()
        last_save = time.monotonic()
        while self.step < self.steps and not self.processes.any(should_stop()):
            began = time.monotonic()
            losses, warning = self._step_with_retries()
            self.seconds += time.monotonic() - began
            if warning:
                yield WarningIssued(message=warning)
            clock.add_losses(losses)
            every = self.config.steps_between_validations
            if self.step % every == 0 or self.step == self.steps:
                clock.validation = self._try_validate()
                if clock.validation is None and self._can_validate:
                    self._can_validate = False
                    message = (
                        "Not enough memory to evaluate the model on the validation "
                        "block: training continues, but the validation curve has "
                        "gaps."
                    )
                    yield WarningIssued(message=message)
            now = time.monotonic()
            if clock.is_report_due(now):
                yield self._report(clock, now)
            if clock.is_preview_due(now):
                yield from self._preview(clock)
            if now - last_save >= self.config.checkpoint_seconds:
                yield CheckpointSaved(self.step, self.steps, self.save())
                last_save = time.monotonic()
        if clock.n_counted:
            yield self._report(clock, time.monotonic())
        yield CheckpointSaved(self.step, self.steps, self.save())
        yield from self._preview(clock)
        return self.step >= self.steps

    def _report(self, clock: Clock, now: float) -> TrainingProgress:
        if self.accelerator.device.type == "cuda":
            memory = int(torch.cuda.memory_reserved())
        else:
            memory = int(psutil.Process().memory_info().rss)
        rate = self.config.rate_at(self.step)
        return clock.report(now, self.step, rate, memory, self.watts())

    def _preview(self, clock: Clock) -> Iterator[Step]:
        """Compute a preview; if memory runs out, previews are disabled."""
        if self.preview is None:
            return
        began = time.monotonic()
        try:
            volume = self.preview(self.average)
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            self.preview = None
            empty_cache(self.accelerator.device)
            message = (
                "Not enough memory for a preview: previews are disabled from now on."
            )
            yield WarningIssued(message=message)
            return
        yield PreviewReady(self.step, self.steps, volume)
        # Includes the time the caller needs for the preview, such as writing a file.
        clock.add_preview_time(time.monotonic() - began)

    def _step_with_retries(self) -> tuple[dict[str, float], str]:
        """Take a step that fits into memory; return losses and a warning, if any."""
        before = self.parts.count
        while True:
            self.parts.begin(self.step)
            try:
                losses = self._one_step()
                break
            except MEMORY_ERRORS as error:
                self.parts.repeat(error)
            self.batches.discard_prefetched()
        if self.parts.count == before:
            return losses, ""
        return losses, (
            f"Out of memory at step {self.step}: from now on, the batch of "
            f"{self.config.batch_size} patches is processed in {self.parts.count} "
            "parts, which is slower. Results can differ slightly because of rounding, "
            "the critic's random numbers and smaller groups for batch normalisation."
        )

    def _one_step(self) -> dict[str, float]:
        seed = np.random.SeedSequence([self.config.seed, self.step, _TORCH_KEY])
        torch.manual_seed(int(seed.generate_state(1)[0]))
        for module in self.method.modules.values():
            module.train()
        self._set_rate()
        samples = self.batches.take(self.step)
        parts = self.parts.fit(lambda: self.batches.in_parts(samples, self.parts.count))
        losses = self.method.train_step(self, parts)
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise divergence_error(f"The {bad[0]}", self.step, self.config)
        self.step += 1
        self._average()
        return losses

    def update(
        self,
        group: str,
        batches: Sequence[Batch],
        loss: Callable[[Batch], tuple[torch.Tensor, Losses]],
    ) -> dict[str, float]:
        """Update the weights of `group`; see `napari_geosr.learning.method.Updater`."""
        optimiser = self.optimisers[group]
        totals = self._gradients(group, batches, loss)
        modules = [self.method.modules[m] for m in self.method.groups()[group]]
        parameters = [p for module in modules for p in module.parameters()]
        patches = sum(batch_length(batch) for batch in batches)
        self.processes.share_gradients(parameters, patches)
        length = self.accelerator.clip_grad_norm_(parameters, self.config.gradient_clip)
        if all(math.isfinite(value) for value in totals.values()):
            # Clipping by a norm that is not finite makes all gradients NaN.
            if length is not None and not math.isfinite(float(length)):
                gradient = f"The gradient of {group}"
                raise divergence_error(gradient, self.step, self.config)
            self.parts.is_updated = True
            optimiser.step()
        return totals

    def _gradients(
        self,
        group: str,
        batches: Sequence[Batch],
        loss: Callable[[Batch], tuple[torch.Tensor, Losses]],
    ) -> dict[str, float]:
        """Accumulate the gradients of `batches`, in smaller parts if memory runs out.

        Weights change only afterwards. If memory runs out, only this computation is
        repeated, because other optimisers may have updated their weights in this step.
        """
        was_updated, self.parts.is_updated = self.parts.is_updated, False

        def gradients() -> dict[str, float]:
            self.optimisers[group].zero_grad(set_to_none=True)
            return self._accumulate(in_parts(batches, self.parts.count), loss)

        totals = self.parts.fit(gradients)
        self.parts.is_updated = was_updated
        return totals

    def _accumulate(
        self,
        batches: Sequence[Batch],
        loss: Callable[[Batch], tuple[torch.Tensor, Losses]],
    ) -> dict[str, float]:
        n = sum(batch_length(batch) for batch in batches)
        means = MeanLosses()
        for batch in batches:
            share = batch_length(batch) / n
            with self.accelerator.autocast():
                value, named = loss(batch)
            self.accelerator.backward(value * share)
            means.add({k: float(part.detach()) for k, part in named.items()}, share)
        return means.values()

    def _set_rate(self) -> None:
        rate = self.config.rate_at(self.step)
        for group, optimiser in self.optimisers.items():
            found = zip(optimiser.param_groups, self._rates[group], strict=True)
            for parameters, multiple in found:
                parameters["lr"] = multiple * rate

    def _average(self) -> None:
        keep = min(self.config.averaging, (1 + self.step) / (10 + self.step))
        network = self.accelerator.unwrap_model(self.method.modules[self.method.result])
        with torch.no_grad():
            for mean, new in zip(
                self.average.parameters(), network.parameters(), strict=True
            ):
                mean.lerp_(new, 1 - keep)
            for kept, latest in zip(
                self.average.buffers(), network.buffers(), strict=True
            ):
                kept.copy_(latest)

    def _try_validate(self) -> float | None:
        """Return the validation loss; None if memory runs out twice."""
        for _ in range(2):
            try:
                return self._validate()
            except MEMORY_ERRORS as error:
                if not is_out_of_memory(error):
                    raise
            empty_cache(self.accelerator.device)
        return None

    def _validate(self) -> float:
        """Return the averaged network's loss on fixed patches; NaN if there is none."""
        trained = self.method.modules[self.method.result]
        held_out = self.patches.held_out()
        self.method.modules[self.method.result] = self.average
        for module in self.method.modules.values():
            module.eval()
        means = MeanLosses()
        try:
            with torch.no_grad(), self.accelerator.autocast():
                torch.manual_seed(self.config.seed)
                for i in range(_VALIDATION_BATCHES):
                    rng = np.random.default_rng([self.config.seed, i, _VALIDATION_KEY])
                    sample = self.method.draw(held_out, rng)
                    named = self.method.validate(self.batches.on_device([sample]))
                    means.add(dict([*named.items()][:1]))
        finally:
            self.method.modules[self.method.result] = trained
        return next(iter(means.values().values()), math.nan)
