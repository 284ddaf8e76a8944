"""Structured illumination: the untrained network and joint Richardson–Lucy.

    python benchmarks/bench_sim_network.py --rows rows.jsonl [--minutes 60]
        [--parts curve methods published] [--kinds linear] [--snrs 5 20]
        [--out docs/evidence/sim.md]

Every row is appended to a file, so an interrupted run can be resumed. When the time is
over, the tables are written from the available rows. Frames are small (64 × 64 pixels;
nonlinear: 48 × 48), and all methods are given the true patterns, so that only the
reconstructions are compared. Times are CPU times in seconds on one core. For the
comparison at equal time, Richardson–Lucy is run for the time of 200 steps of the
network (but at most 1000 iterations, the largest number that can be set), and the
network for the time of Richardson–Lucy. Widefield and Wiener-SIM are computed in closed
form, so more time does not change them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from _document import replace_section
from bench_sim import (
    BORDER,
    CUT_OFF,
    KINDS,
    SNRS,
    figures,
    target,
)
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import run_to_end
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
from napari_geosr.sim.joint_rl import best_iterations
from napari_geosr.sim.noise import frame_noise

Array = npt.NDArray[np.floating]
#: Numbers of steps after which the network is evaluated.
STEPS = (200, 500, 1000)
#: Largest number of iterations of Richardson–Lucy that the program accepts.
MOST = 1000
SEEDS = (0, 1, 2)
#: For each kind: edge of the frames and upscale factor.
SIZES = {"linear": (64, 2), "nonlinear": (48, 4)}
#: Cases in which the published recipe is run first.
FIRST = (("linear", "filaments", 5), ("linear", "filaments", 20), ("linear", "er", 20))
#: Smallest difference in PSNR (dB) that counts in the verdict.
MARGIN = 0.5

#: Cases (illumination, structure, SNR) of the curves of Richardson–Lucy.
CURVES = (
    *itertools.product(("linear",), STRUCTURES, (5, 20, 50)),
    *itertools.product(("nonlinear",), STRUCTURES, (5, 20)),
)
#: Numbers of iterations after which Richardson–Lucy is evaluated, for the curves.
JUDGED = (100, 300, MOST)

#: Illumination, structure, SNR and seed.
Case = tuple[str, str, int, int]
#: Correlation, PSNR, resolution (or None), seconds, and numbers of steps.
Figures = Mapping[str, float | None]


class Row(NamedTuple):
    """One line of the file of rows."""

    case: Case
    part: str
    method: str
    figures: Figures


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


def method_rows(scene: Scene) -> Iterator[tuple[str, Figures]]:
    """Widefield, Wiener-SIM, Richardson–Lucy, and the network that starts from it."""
    for method in ("widefield", "wiener"):
        begun = time.process_time()
        image, _ = run_to_end(plane_steps(*scene.plane, scene.config(method=method)))
        yield method, scene.judged(image, time.process_time() - begun)
    config = scene.config(method="pinn", recipe="refine", steps=STEPS[-1])
    begun = time.process_time()
    never = lambda: False  # noqa: E731
    n = run_to_end(choose_iterations(*scene.plane, config, "cpu", never))
    start = run_to_end(fit_steps(*scene.plane, config, n))
    seconds = time.process_time() - begun
    yield "joint-rl", scene.judged(start.result(), seconds, iterations=n)
    steps = run_to_end(choose_network_steps(*scene.plane, config, n, "cpu", never))
    noise = frame_noise(scene.block, scene.otf)
    network = frame_fit_of(start, scene.block, scene.patterns, noise, config)
    for last in STEPS:
        with exact_settings(1, gradients=True):
            while network.iteration < min(steps, last):
                network.step()
        if network.iteration:
            with exact_settings(1):
                start.image = network.result()
        used = time.process_time() - begun
        yield f"ours-{last}", scene.judged(start.result(), used, steps=steps)


def published_rows(scene: Scene, limit: float) -> Iterator[tuple[str, Figures]]:
    """Evaluate the published recipe, and Richardson–Lucy in equal time.

    Parameters
    ----------
    scene : Scene
    limit : float
        Time of Richardson–Lucy in seconds, after which the recipe is also evaluated.
    """
    config = scene.config(method="pinn", recipe="published")
    start = run_to_end(fit_steps(*scene.plane, config, 1))
    noise = frame_noise(scene.block, scene.otf)
    network = frame_fit_of(start, scene.block, scene.patterns, noise, config)
    seconds, equal = 0.0, False
    for step in range(1, STEPS[-1] + 1):
        begun = time.process_time()
        with exact_settings(1, gradients=True):
            network.step()
        seconds += time.process_time() - begun
        is_equal = not equal and seconds >= limit
        if step in STEPS or is_equal:
            with exact_settings(1):
                start.image = network.result()
            found = scene.judged(start.result(), seconds, steps=step)
            if is_equal:
                equal = True
                yield "published-equal", found
            if step in STEPS:
                yield f"published-{step}", found
        if step == STEPS[0]:
            budget = seconds
    begun = time.process_time()
    fit = run_to_end(fit_steps(*scene.plane, config, 1))
    with exact_settings(1):
        n = 1
        while n < MOST and time.process_time() - begun < budget:
            fit.step()
            n += 1
    used = time.process_time() - begun
    yield "joint-rl-equal", scene.judged(fit.result(), used, iterations=n)


def curve_rows(scene: Scene) -> Iterator[tuple[str, Figures]]:
    """Evaluate Richardson–Lucy at some iterations, and at the held-out optimum."""
    noise = frame_noise(scene.block, scene.otf)
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


def read(path: Path) -> list[Row]:
    """Return the rows of an earlier run."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text("utf-8").splitlines():
        values = json.loads(line)
        kind, structure, snr, seed = values["case"]
        case = str(kind), str(structure), int(snr), int(seed)
        rows.append(Row(case, values["part"], values["method"], values["figures"]))
    return rows


def fill(
    path: Path, minutes: float, parts: Iterable[str], kinds: Iterable[str],
    snrs: Iterable[int],
) -> None:  # fmt: skip
    """Append missing rows until the time is over."""
    end = time.monotonic() + 60 * minutes
    done = {(row.case, row.part) for row in read(path)}
    for case, part in cases():
        if part not in parts or (case, part) in done:
            continue
        if case[0] not in kinds or case[2] not in snrs:
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


def _seconds(rows: Iterable[Row], case: Case, method: str) -> float:
    """Return the time of a method from an earlier row, in seconds."""
    for row in rows:
        seconds = row.figures["seconds"]
        if row.method == method and row.case == case and seconds is not None:
            return seconds
    raise SystemExit(f"{method} of {case} has not been run: run 'methods' first")


class Table:
    """Rows of a file, as means over the seeds."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.found: dict[tuple[str, str, int], dict[str, list[Figures]]] = {}
        for row in rows:
            methods = self.found.setdefault(row.case[:3], {})
            methods.setdefault(row.method, []).append(row.figures)

    def cases(self) -> list[tuple[str, str, int]]:
        """Cases in which the methods have been compared."""
        grid = itertools.product(KINDS, STRUCTURES, SNRS)
        return [key for key in grid if "joint-rl" in self.found.get(key, ())]

    def mean(self, key: tuple[str, str, int], method: str, what: str) -> float:
        """Return the mean over the seeds; NaN for a method that was not run."""
        found = [f.get(what) for f in self.found[key].get(method, ())]
        values = [value for value in found if value is not None]
        return float(np.mean(values)) if values else np.nan

    def seeds(self, key: tuple[str, str, int]) -> int:
        return len(self.found[key].get("joint-rl", ()))


def psnr_table(table: Table) -> str:
    """Compare the network that starts from Richardson–Lucy with Richardson–Lucy."""
    lines = [
        "| illumination | structure | SNR | seeds | Wiener-SIM | joint Richardson–Lucy "
        "| network `refine`, at most 200 / 500 / 1000 steps | steps chosen "
        "| network minus Richardson–Lucy | network better? |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in table.cases():
        rl = table.mean(key, "joint-rl", "psnr")
        ours = [table.mean(key, f"ours-{n}", "psnr") for n in STEPS]
        ours = [v for v in ours if np.isfinite(v)]
        gain = ours[-1] - rl
        verdict = "no" if abs(gain) < MARGIN else "**yes**" if gain > 0 else "**worse**"
        chosen = sorted(
            {int(f["steps"] or 0) for f in table.found[key].get(f"ours-{STEPS[0]}", ())}
        )
        lines.append(
            f"| {' | '.join(map(str, key))} | {table.seeds(key)} "
            f"| {table.mean(key, 'wiener', 'psnr'):.1f} | {rl:.1f} "
            f"| {' / '.join(f'{v:.1f}' for v in ours)} "
            f"| {', '.join(map(str, chosen))} | {gain:+.1f} dB | {verdict} |"
        )
    return "\n".join(lines)


def method_table(table: Table) -> str:
    """Correlation, resolution in camera pixels, and seconds of every method."""
    methods = {
        "widefield": "Widefield",
        "wiener": "Wiener-SIM",
        "joint-rl": "joint Richardson–Lucy",
        f"ours-{STEPS[0]}": f"network `refine`, at most {STEPS[0]} steps",
    }
    lines = [
        f"| illumination | structure | SNR | {' | '.join(methods.values())} |",
        "|---|---|---|" + "---|" * len(methods),
    ]
    for key in table.cases():
        cells = [
            f"{table.mean(key, name, 'ncc'):.3f} / {table.mean(key, name, 'frc'):.2f} "
            f"px / {table.mean(key, name, 'seconds'):.1f} s"
            for name in methods
        ]
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def published_table(table: Table) -> str:
    """Return a table of the published recipe and Richardson–Lucy in equal time."""
    columns = {
        "joint-rl": "joint Richardson–Lucy",
        "joint-rl-equal": "joint Richardson–Lucy, same computing time as 200 steps",
        "published-equal": "`published`, same computing time as Richardson–Lucy",
        **{f"published-{n}": f"`published`, {n} steps" for n in STEPS},
    }
    lines = [
        f"| illumination | structure | SNR | {' | '.join(columns.values())} |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    for key in table.cases():
        if "published-200" not in table.found[key]:
            continue
        cells = []
        for name in columns:
            if name not in table.found[key]:
                cells.append("")
                continue
            cells.append(
                f"{table.mean(key, name, 'psnr'):.1f} dB / "
                f"{table.mean(key, name, 'seconds'):.0f} s"
            )
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def curve_table(table: Table) -> str:
    """Return the table of Richardson–Lucy by number of iterations."""
    lines = [
        f"| illumination | structure | SNR | {' | '.join(map(str, JUDGED))} "
        "| suggested |",
        "|---|---|---|" + "---|" * (len(JUDGED) + 1),
    ]
    for key in CURVES:
        if "held-out" not in table.found.get(key, ()):
            continue
        cells = [f"{table.mean(key, f'after-{n}', 'psnr'):.1f}" for n in JUDGED]
        cells.append(f"{table.mean(key, 'held-out', 'iterations'):.0f}")
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")
    return "\n".join(lines)


#: Function of each table of the document.
_TABLES: dict[str, Callable[[Table], str]] = {
    "network psnr": psnr_table,
    "network methods": method_table,
    "network published": published_table,
    "network iterations": curve_table,
}


def write_tables(table: Table, document: Path | None) -> None:
    """Print all tables and write them into a document.

    A table without rows does not replace that of the document.
    """
    for name, make in _TABLES.items():
        text = make(table)
        if len(text.splitlines()) <= 2:  # only the header
            kept = "" if document is None else f"; {document} keeps its table"
            print(f"No rows for 'benchmark {name}'{kept}.")
            continue
        print(text)
        if document is not None:
            replace_section(document, f"benchmark {name}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="file of rows (JSONL)")
    parser.add_argument("--minutes", type=float, default=60.0, help="0: tables only")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=tuple(KINDS))
    parser.add_argument("--snrs", nargs="+", type=int, default=SNRS)
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    options = parser.parse_args()
    fill(options.rows, options.minutes, options.parts, options.kinds, options.snrs)
    write_tables(Table(read(options.rows)), options.out)


if __name__ == "__main__":
    main()
