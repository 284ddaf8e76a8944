"""The training loop: Adam, cosine, exponential average, checkpoints."""

from __future__ import annotations

import copy
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_geosr.networks import build_network
from pretraining.data import Pool, Sample, adjacent, draw_sample
from pretraining.growth import more_planes
from pretraining.recipes import Recipe

_VALIDATION_OFFSET = 10_000_000
_N_VALIDATION = 8


class Trainer:
    """Trains one recipe; can be stopped at any step and resumed.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    checkpoint : Path
        Where the state is kept every two minutes.
    budget : float
        Seconds after which the learning rate reaches its end even if the steps are not
        done; infinity to count steps alone.
    bf16 : bool
        Hidden maps in bfloat16.
    """

    def __init__(
        self, recipe: Recipe, checkpoint: Path, budget: float, bf16: bool
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.checkpoint, self.budget = recipe, checkpoint, budget
        self.network = build_network(recipe.network, **recipe.network_kwargs)
        self.average = copy.deepcopy(self.network).eval()
        self.bf16 = bf16
        if bf16 and hasattr(self.network, "training_dtype"):
            self.network.training_dtype = torch.bfloat16
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), recipe.learning_rate, betas=(0.9, 0.98)
        )
        self.pool = Pool(recipe)
        self.validation = [
            draw_sample(recipe, _VALIDATION_OFFSET + i) for i in range(_N_VALIDATION)
        ]
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []

    def run(self) -> None:
        """Train to the end of the steps or of the budget."""
        last_save = time.perf_counter()
        total, counted = 0.0, 0
        while self.step < self.recipe.steps and self.seconds < self.budget:
            start = time.perf_counter()
            total, counted = total + self._train_step(), counted + 1
            if self.step % self.recipe.refresh == 0:
                self.pool.refresh()
            self.seconds += time.perf_counter() - start
            if time.perf_counter() - last_save > 90:
                self._note(total / counted)
                total, counted = 0.0, 0
                self.save()
                last_save = time.perf_counter()
        self._note(total / max(counted, 1))
        self.save()

    def _rate(self) -> float:
        done = max(self.step / self.recipe.steps, self.seconds / self.budget)
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(done, 1.0))
        floor = self.recipe.final_rate
        warm = min(1.0, (self.step + 1) / self.recipe.warm_up)
        return self.recipe.learning_rate * warm * (floor + (1 - floor) * cosine)

    def _train_step(self) -> float:
        recipe = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        x, target, unit = self.pool.batch(self.step)
        reduced: Any = nullcontext()
        if self.bf16 and recipe.network != "msdnet":
            reduced = torch.autocast("cpu", torch.bfloat16)
        with reduced:
            output = self.network(x)
        error = (output.float() - target) / unit
        loss = (torch.sqrt(error**2 + recipe.softness**2) - recipe.softness).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), recipe.gradient_clip)
        self.optimiser.step()
        self.step += 1
        keep = min(recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, new in zip(
                self.average.parameters(), self.network.parameters(), strict=True
            ):
                mean.lerp_(new, 1 - keep)
        return float(loss.detach())

    def _note(self, loss: float) -> None:
        psnr = [_psnr(self.average, sample) for sample in self.validation]
        mean = sum(psnr) / len(psnr)
        self.history.append(
            {
                "step": self.step,
                "seconds": round(self.seconds),
                "loss": loss,
                "psnr": mean,
            }
        )
        each = " ".join(f"{p:.1f}" for p in psnr)
        print(
            f"step {self.step} {self.seconds:.0f} s loss {loss:.5f} "
            f"validation {mean:.2f} dB [{each}] rate {self._rate():.1e}",
            flush=True,
        )

    def save(self) -> None:
        """Write the state, replacing the one before."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "n_made": self.pool.n_made,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def start_from(self, state: dict[str, torch.Tensor]) -> None:
        """Begin with these weights, of a network that may see fewer planes."""
        if self.network.spec.adjacent_slices > 1:
            state = more_planes(state, self.network.spec.adjacent_slices)
        self.network.load_state_dict(state)
        self.average.load_state_dict(state)

    def resume(self) -> None:
        """Go on from the checkpoint."""
        state = torch.load(self.checkpoint, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.history = state["history"]
        self.pool.n_made = state["n_made"]  # go on with phantoms not seen yet


def _psnr(network: nn.Module, sample: Sample) -> float:
    """In a middle slab, the contrast being the range."""
    with torch.no_grad():
        if network.spec.axes == "YX":
            planes = range(4, len(sample.noisy) - 4, 4)
            n = network.spec.adjacent_slices
            x = torch.stack(
                [torch.from_numpy(adjacent(sample.noisy, z, n)) for z in planes]
            )
            y = network(x)[:, 0].numpy()
            error = y - sample.clean[list(planes)]
        else:
            x = torch.from_numpy(sample.noisy)[None, None]
            error = network(x)[0, 0].numpy() - sample.clean
    return float(-10 * math.log10(float((error**2).mean()) / sample.unit**2))
