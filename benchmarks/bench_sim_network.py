"""Structured illumination: the untrained network and joint Richardson–Lucy.

    python benchmarks/bench_sim_network.py --rows rows.jsonl [--minutes 60]
        [--parts curve methods published] [--kinds linear] [--structures er rings]
        [--snrs 5 20] [--out docs/evidence/sim.md]

Every row is appended to a file, so an interrupted run can be resumed. When the time is
over, the tables are written from the available rows; a document keeps the lines of its
tables for which the file has no rows. Frames are small (64 × 64 pixels; nonlinear:
48 × 48), and all methods are given the true patterns, so that only the reconstructions
are compared. Times are CPU times in seconds on one core. For the comparison at equal
time, Richardson–Lucy is run for the time of 200 steps of the network (but at most 1000
iterations, the largest number that can be set), and the network for the time of
Richardson–Lucy. With nonlinear frames, a step takes so long that the published recipe
is evaluated only at equal time and after 200 steps. Widefield and Wiener-SIM are
computed in closed form, so more time does not change them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from _sim_network_tables import (
    CURVES,
    JUDGED,
    MOST,
    SEEDS,
    STEPS,
    Case,
    Figures,
    Row,
    Table,
    read,
    write_tables,
)
from bench_sim import (
    BORDER,
    CUT_OFF,
    KINDS,
    SNRS,
    add_case_options,
    chosen_cases,
    figures,
    target,
)
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import never_stop, run_to_end
from napari_geosr.inference.compute import exact_settings
from napari_geosr.measure.comparison.fourier import fourier_correlation
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.planes import (
    choose_iterations,
    choose_network_steps,
    fit_steps,
    frame_fit_of,
    plane_steps,
)
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.physics.illumination.simulation import (
    STRUCTURES,
    simulate_frames,
)
from napari_geosr.sim.joint_rl import JointRichardsonLucy, best_iterations
from napari_geosr.sim.noise import frame_noise

Array = npt.NDArray[np.floating]
#: Numbers of steps after which the published recipe is evaluated. A step takes far
#: longer with nonlinear frames.
PUBLISHED_STEPS = {"linear": STEPS, "nonlinear": STEPS[:1]}
#: For each kind: edge of the frames and upscale factor.
SIZES = {"linear": (64, 2), "nonlinear": (48, 4)}
#: Cases in which the published recipe is run first.
FIRST = (("linear", "filaments", 5), ("linear", "filaments", 20), ("linear", "er", 20))


class Scene:
    """Frames of one case, and the evaluation of results."""

    def __init__(self, case: Case) -> None:
        self.kind, structure, snr, seed = case
        options, harmonics = KINDS[self.kind]
        size, self.upscale = SIZES[self.kind]
        scene = replace(options, size=size, cut_off=CUT_OFF, snr=snr, seed=seed)
        made = simulate_frames(structure, scene)
        self.block = (made.frames - scene.offset).astype(np.float32)
        self.patterns = PatternSet(
            tuple(
                type(f)(f.wave_vector, f.phases, f.modulation[:harmonics], f.intensity)
                for f in made.patterns.fringes
            ),
            made.patterns.shape,
        )
        self.otf = made.otf
        self.truth = target(made, self.upscale)
        self.noise = frame_noise(self.block, self.otf)

    def config(self, **settings: object) -> SimConfig:
        return SimConfig.create(threads=1, upscale_factor=self.upscale, **settings)

    @property
    def plane(self) -> tuple[Array, PatternSet, Otf]:
        return self.block, self.patterns, self.otf

    def judged(self, image: Array, seconds: float, **more: int) -> Figures:
        ncc, psnr = figures(image, self.truth)
        part = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
        edge = (1 / self.upscale, 1 / self.upscale)
        curve = fourier_correlation(image[part], self.truth[part], edge)
        period = curve.resolution("1/7")
        return {"ncc": ncc, "psnr": psnr, "frc": period, "seconds": seconds, **more}


class Start(NamedTuple):
    """Joint Richardson–Lucy with the number of iterations that it chose."""

    fit: JointRichardsonLucy
    iterations: int
    figures: Figures


def joint_rl(scene: Scene, config: SimConfig) -> Start:
    """Run joint Richardson–Lucy, including the choice of its iterations."""
    begun = time.process_time()
    n = run_to_end(choose_iterations(*scene.plane, config, "cpu", never_stop))
    fit = run_to_end(fit_steps(*scene.plane, config, n, shift=scene.noise.shift))
    seconds = time.process_time() - begun
    return Start(fit, n, scene.judged(fit.result(), seconds, iterations=n))


def method_rows(scene: Scene) -> Iterator[tuple[str, Figures]]:
    """Widefield, Wiener-SIM, Richardson–Lucy, and the network that starts from it."""
    for method in ("widefield", "wiener"):
        begun = time.process_time()
        image, _ = run_to_end(plane_steps(*scene.plane, scene.config(method=method)))
        yield method, scene.judged(image, time.process_time() - begun)
    config = scene.config(method="pinn", recipe="refine", steps=STEPS[-1])
    begun = time.process_time()
    start, n, found = joint_rl(scene, config)
    yield "joint-rl", found
    steps = run_to_end(choose_network_steps(*scene.plane, config, n, "cpu", never_stop))
    network = frame_fit_of(start, scene.block, scene.patterns, scene.noise, config)
    for last in STEPS:
        with exact_settings(1, gradients=True):
            while network.iteration < min(steps, last):
                network.step()
        if network.iteration:
            with exact_settings(1):
                start.image = network.result()
        used = time.process_time() - begun
        yield f"ours-{last}", scene.judged(start.result(), used, steps=steps)


def published_rows(
    scene: Scene, limit: float | None = None
) -> Iterator[tuple[str, Figures]]:
    """Evaluate the published recipe, and Richardson–Lucy in equal time.

    Parameters
    ----------
    scene : Scene
    limit : float, optional
        Time of Richardson–Lucy in seconds, after which the recipe is also evaluated. By
        default, Richardson–Lucy is run first, and evaluated as well.
    """
    config = scene.config(method="pinn", recipe="published")
    if limit is None:
        found = joint_rl(scene, config).figures
        yield "joint-rl", found
        limit = found["seconds"] or 0.0
    shift = scene.noise.shift
    start = run_to_end(fit_steps(*scene.plane, config, 1, shift=shift))
    network = frame_fit_of(start, scene.block, scene.patterns, scene.noise, config)
    judged_steps = PUBLISHED_STEPS[scene.kind]
    seconds, budget, step, equal = 0.0, 0.0, 0, False
    while step < judged_steps[-1] or (not equal and step < STEPS[-1]):
        step += 1
        begun = time.process_time()
        with exact_settings(1, gradients=True):
            network.step()
        seconds += time.process_time() - begun
        is_equal = not equal and seconds >= limit
        if step in judged_steps or is_equal:
            with exact_settings(1):
                start.image = network.result()
            found = scene.judged(start.result(), seconds, steps=step)
            if is_equal:
                equal = True
                yield "published-equal", found
            if step in judged_steps:
                yield f"published-{step}", found
        if step == STEPS[0]:
            budget = seconds
    yield "joint-rl-equal", timed_joint_rl(scene, config, budget)


def timed_joint_rl(scene: Scene, config: SimConfig, budget: float) -> Figures:
    """Evaluate Richardson–Lucy after `budget` seconds, or after `MOST` iterations."""
    begun = time.process_time()
    fit = run_to_end(fit_steps(*scene.plane, config, 1, shift=scene.noise.shift))
    with exact_settings(1):
        n = 1
        while n < MOST and time.process_time() - begun < budget:
            fit.step()
            n += 1
    used = time.process_time() - begun
    return scene.judged(fit.result(), used, iterations=n)


def curve_rows(scene: Scene) -> Iterator[tuple[str, Figures]]:
    """Evaluate Richardson–Lucy at some iterations, and at the held-out optimum."""
    noise = scene.noise
    variance = noise.weights(scene.block.mean(axis=(0, 1)))
    frames = scene.block.reshape(-1, *scene.block.shape[-2:])
    operator = IlluminationOperator.create(
        scene.patterns, scene.otf, scene.upscale, "cpu"
    )
    with exact_settings(1):
        chosen = run_to_end(
            best_iterations(operator, frames, variance, most=MOST, shift=noise.shift)
        ).best
        fit = run_to_end(fit_steps(*scene.plane, scene.config(), 1, shift=noise.shift))
        begun = time.process_time()
        for n in range(1, MOST + 1):
            if n in JUDGED:
                used = time.process_time() - begun
                yield f"after-{n}", scene.judged(fit.result(), used, iterations=n)
            if n == chosen:
                used = time.process_time() - begun
                yield "held-out", scene.judged(fit.result(), used, iterations=n)
            fit.step()


def cases() -> list[tuple[Case, str]]:
    """Cases and their computations, the most informative ones first."""
    grid = list(itertools.product(STRUCTURES, SNRS))
    by_noise = [(s, snr) for snr in (5, 20, 10, 50) for s in STRUCTURES]

    def methods(kind: str, seed: int) -> list[tuple[Case, str]]:
        return [((kind, *each, seed), "methods") for each in by_noise]

    published = [((kind, *each, 0), "published") for kind in KINDS for each in grid]
    first = [each for each in published if each[0][:3] in FIRST]
    rest = [each for each in published if each not in first]
    order = []
    for kind, seed in itertools.product(KINDS, SEEDS):
        order += methods(kind, seed)
    return [*order, *first, *[((*key, 0), "curve") for key in CURVES], *rest]


def fill(path: Path, minutes: float, wanted: Callable[[Case, str], bool]) -> None:
    """Append the missing rows that are wanted until the time is over."""
    end = time.monotonic() + 60 * minutes
    done = {(row.case, row.part) for row in read(path)}
    for case, part in cases():
        if (case, part) in done or not wanted(case, part):
            continue
        if time.monotonic() > end:
            print("The time is over; run the same command again to resume.")
            return
        scene = Scene(case)
        if part == "published":
            limit = _seconds(read(path), case, "joint-rl")
            found = list(published_rows(scene, limit))
        else:
            found = list(_ROWS[part](scene))
        lines = [
            json.dumps({"case": case, "part": part, "method": name, "figures": values})
            for name, values in found
        ]
        with path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        print(case, part, {n: f"{v['psnr']:.1f}" for n, v in found}, flush=True)


#: Function of each part, except the published recipe.
_ROWS: dict[str, Callable[[Scene], Iterator[tuple[str, Figures]]]] = {
    "curve": curve_rows,
    "methods": method_rows,
}
PARTS = (*_ROWS, "published")


def _seconds(rows: Iterable[Row], case: Case, method: str) -> float | None:
    """Return the time of a method in seconds; None if there is no row of it."""
    found = (r.figures["seconds"] for r in rows if (r.case, r.method) == (case, method))
    return next(found, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="file of rows (JSONL)")
    parser.add_argument("--minutes", type=float, default=60.0, help="0: tables only")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    add_case_options(parser)
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    options = parser.parse_args()
    chosen = chosen_cases(options)

    def wanted(case: Case, part: str) -> bool:
        return part in options.parts and case[:3] in chosen

    fill(options.rows, options.minutes, wanted)
    write_tables(Table(read(options.rows)), options.out)


if __name__ == "__main__":
    main()
