"""Structured illumination: quality, resolution and speed on frames of known objects.

    python benchmarks/bench_sim.py [--quick] [--out docs/evidence/sim_methods.md]
        [--only quality|resolution|speed|shared] [--data ../shared/data]
        [--kinds nonlinear] [--structures er] [--snrs 20 50]

For the quality, the patterns are estimated from the frames, and the result is compared
with the object averaged over the pixels of the result. Nonlinear frames are saturated
(s = 4), with five angles and seven phases, and three harmonics are used. The resolution
is the period at which the ring correlation with the object falls below 1/7. The last
three options limit the quality to some cases; the document keeps the lines of the
others.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from _document import merged_tables, replace_section, section, typeset
from napari_geosr import io
from napari_geosr.core.sim_frames import Optics, SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.fourier import fourier_correlation
from napari_geosr.operations.sim import (
    METHOD_TITLES,
    PatternEstimate,
    SimConfig,
    estimate_steps,
    open_frames,
    run_steps,
)
from napari_geosr.operations.sim.planes import fit_steps, plane_steps
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.physics.illumination.simulation import (
    STRUCTURES,
    SimScene,
    SimulatedFrames,
    simulate_frames,
)
from napari_geosr.sim.noise import frame_noise

#: Names of the tables and of their sections in the document.
TABLES = ("shared", "resolution", "speed", "quality")
#: Methods of the tables; for the network, see `bench_sim_network.py`.
METHODS = ("widefield", "wiener", "joint-rl")
Array = npt.NDArray[np.floating]
#: Illumination, structure and signal-to-noise ratio.
Case = tuple[str, str, int]
ROOT = Path(__file__).resolve().parents[1]
SNRS = (5, 10, 20, 50)
CUT_OFF, PIXEL = 0.37, 0.065
NONLINEAR = SimScene(response="saturated", saturation=4.0, angles=5, phases=7)
#: Illumination and number of harmonics.
KINDS = {
    "linear": (SimScene(), 1),
    "nonlinear": (NONLINEAR, 3),
}
#: For each kind: number of seeds, edge of the frames, upscale factor.
RUNS = {"linear": (3, 192, 2), "nonlinear": (1, 96, 4)}
#: Width of the excluded border of a result in pixels.
BORDER = 24
UPSCALE = 4


def frames_of(made: SimulatedFrames) -> SimFrames:
    """Simulate frames, and open them as from a file."""
    angles, phases, *shape = made.frames.shape
    stack = made.frames.reshape(angles * phases, *shape)
    volume = Volume(stack, "ZYX", (0.2, PIXEL, PIXEL), "µm", name="raw")
    optics = Optics(1.4, (2 * 1.4 * PIXEL * 1000 / made.otf.cut_off,))
    return SimFrames.from_volume(
        volume, angles=angles, phases=phases, order="apz", optics=optics, offset=100.0
    )


def target(made: SimulatedFrames, upscale: int) -> Array:
    """Return the object, averaged over the pixels of the result."""
    times = UPSCALE // upscale
    rows, columns = (n // times for n in made.truth.shape)
    blocks = made.truth.reshape(rows, times, columns, times)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def figures(image: Array, truth: Array) -> tuple[float, float]:
    """Return the correlation coefficient, and PSNR in dB after scaling to the truth."""
    part = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    a, t = image[part].astype(float).ravel(), truth[part].astype(float).ravel()
    slope, start = np.polyfit(a, t, 1)
    error = float(np.mean((slope * a + start - t) ** 2))
    return float(np.corrcoef(a, t)[0, 1]), 10 * np.log10(np.ptp(t) ** 2 / error)


class Row(NamedTuple):
    """Correlation, PSNR, resolution and seconds of a method in one case."""

    case: Case
    method: str
    figures: tuple[float, ...]


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that limit a benchmark to some cases (`chosen_cases`)."""
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=tuple(KINDS))
    parser.add_argument(
        "--structures", nargs="+", choices=STRUCTURES, default=STRUCTURES
    )
    parser.add_argument("--snrs", nargs="+", type=int, choices=SNRS, default=SNRS)


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases that are selected by the options of `add_case_options`."""
    return [
        case
        for case in itertools.product(KINDS, STRUCTURES, SNRS)
        if case[0] in options.kinds
        and case[1] in options.structures
        and case[2] in options.snrs
    ]


def place_of(cells: Sequence[str]) -> tuple[int, int, int]:
    """Return the position of a line in a table, from its first three cells."""
    kind, structure, snr = cells[:3]
    return list(KINDS).index(kind), STRUCTURES.index(structure), int(snr)


def quality_rows(cases: Iterable[Case], quick: bool) -> Iterator[Row]:
    """Yield the results of each method as means over the seeds."""
    for kind, structure, snr in cases:
        options, harmonics = KINDS[kind]
        seeds, size, upscale = RUNS[kind]
        found: dict[str, list[tuple[float, ...]]] = {m: [] for m in METHODS}
        for seed in range(1 if quick else seeds):
            scene = replace(options, size=size, cut_off=CUT_OFF, snr=snr, seed=seed)
            made = simulate_frames(structure, scene)
            truth = target(made, upscale)
            config = SimConfig(upscale_factor=upscale, harmonics=harmonics, threads=1)
            frames = frames_of(made)
            estimate = run_to_end(estimate_steps(frames, config))
            if estimate.problems:
                print(kind, structure, snr, seed, estimate.problems)
                continue
            for method in METHODS:
                found[method].append(judged(frames, config, method, estimate, truth))
        print(
            kind,
            structure,
            snr,
            {m: np.mean(found[m], axis=0) for m in METHODS if found[m]},
            flush=True,
        )
        for method in METHODS:
            if found[method]:
                means = (float(v) for v in np.mean(found[method], axis=0))
                yield Row((kind, structure, snr), method, tuple(means))


def judged(
    frames: SimFrames,
    config: SimConfig,
    method: str,
    estimate: PatternEstimate,
    truth: Array,
) -> tuple[float, ...]:
    """Correlation, PSNR, resolution in pixels of the camera, seconds."""
    settings = config.model_copy(update={"method": method})
    begun = time.process_time()
    without = settings.model_copy(update={"checks": False})
    result = run_to_end(run_steps(frames, without, patterns=estimate))
    seconds = time.process_time() - begun
    image = np.asarray(result.volume)
    curve = fourier_correlation(
        image[BORDER:-BORDER, BORDER:-BORDER],
        truth[BORDER:-BORDER, BORDER:-BORDER],
        (1 / config.upscale_factor, 1 / config.upscale_factor),
    )
    size = curve.resolution("1/7")
    return (*figures(image, truth), np.nan if size is None else size, seconds)


def quality_table(cases: Iterable[Case], quick: bool) -> str:
    """Return a table with rows of structure and noise, and columns of methods."""
    rows = list(quality_rows(cases, quick))
    lines = [
        "| illumination | structure | SNR | "
        + " | ".join(METHOD_TITLES[m] for m in METHODS)
        + " |",
        "|---|---|---|" + "---|" * len(METHODS),
    ]
    figures_of = {(row.case, row.method): row.figures for row in rows}
    for case in dict.fromkeys(row.case for row in rows):
        cells = []
        for method in METHODS:
            ncc, psnr, size, seconds = figures_of[case, method]
            cells.append(f"{ncc:.3f} / {psnr:.1f} dB / {size:.2f} px / {seconds:.1f} s")
        lines.append(f"| {' | '.join(map(str, case))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def resolution_table() -> str:
    """Resolution relative to widefield on noise-free frames, by ring correlation.

    The result is correlated with the sharp object. The resolution is the frequency at
    which this correlation falls below 1/7.
    """
    lines = [
        "| illumination | Wiener-SIM | joint Richardson–Lucy |",
        "|---|---|---|",
    ]
    for kind, (options, harmonics) in KINDS.items():
        scene = replace(options, size=256, cut_off=0.3, snr=0, seed=1, frequency=0.95)
        made = simulate_frames("spots", scene)
        patterns = PatternSet(
            tuple(
                type(f)(f.wave_vector, f.phases, f.modulation[:harmonics], f.intensity)
                for f in made.patterns.fringes
            ),
            made.patterns.shape,
        )
        sizes = []
        for method in METHODS:
            config = SimConfig(
                method=method,
                upscale_factor=UPSCALE,
                regularisation=0.003,
                apodisation="none",
                iterations=80,
                threads=1,
            )
            image, _ = run_to_end(
                plane_steps(made.frames - 100, patterns, made.otf, config)
            )
            curve = fourier_correlation(image, made.truth, (1 / UPSCALE, 1 / UPSCALE))
            sizes.append(curve.resolution("1/7") or np.nan)
        lines.append(
            f"| {kind} | {sizes[0] / sizes[1]:.2f} | {sizes[0] / sizes[2]:.2f} |"
        )
    return "\n".join(lines)


def numpy_wiener(
    frames: Array, patterns: PatternSet, otf: Otf, w: float = 0.1
) -> Array:
    """Textbook Wiener-SIM in double precision: every band on the fine grid."""
    size = 2 * frames.shape[-1]
    f = np.fft.fftfreq(size, 1 / 2)
    at = (np.arange(size) - (size - 1) / 2) / 2
    top, bottom = np.zeros((size, size), complex), np.zeros((size, size))
    for stack, fringe in zip(frames, patterns.fringes, strict=True):
        matrix = np.stack(
            [np.ones(len(stack)), fringe.terms(), fringe.terms().conj()], 1
        )
        inverse = np.linalg.pinv(matrix)
        padded = []
        for frame in stack:
            spectrum = np.fft.fftshift(np.fft.fft2(frame))
            margin = size // 4
            spectrum = np.pad(spectrum, margin)
            padded.append(np.fft.ifftshift(spectrum))
        for row, sign in zip(inverse, (0, 1, -1), strict=True):
            band = np.tensordot(row, np.stack(padded), axes=1)
            ky, kx = (sign * k for k in fringe.wave_vector)
            wave = np.exp(-2j * np.pi * (ky * at[:, None] + kx * at))
            moved = np.fft.fft2(np.fft.ifft2(band) * wave)
            strength = 1 if sign == 0 else fringe.modulation[0] / 2
            transfer = strength * otf.at(f[:, None] + ky, f[None] + kx)
            top += transfer * moved
            bottom += transfer**2
    apodised = np.cos(np.pi / 2 * np.minimum(1, np.hypot(f[:, None], f) / 0.7))
    return np.fft.ifft2(top / (bottom + w**2) * apodised).real


def speed_table() -> str:
    """Table of seconds on one core for 512 × 512 × 9, and ratios to a numpy version."""
    made = simulate_frames("filaments", SimScene(size=512, cut_off=0.34, seed=1))
    frames = frames_of(made)
    config = SimConfig(threads=1)
    block = frames.frames()
    rows = []

    def timed(name: str, limit: float, run: Callable[[], object]) -> float:
        run()
        times = []
        for _ in range(3):
            begun = time.process_time()
            run()
            times.append(time.process_time() - begun)
        rows.append((name, min(times), limit))
        return min(times)

    reference = timed(
        "textbook Wiener-SIM, numpy, double precision", np.inf,
        lambda: numpy_wiener(block, made.patterns, made.otf),
    )  # fmt: skip
    timed("find the patterns", 5.0, lambda: run_to_end(estimate_steps(frames, config)))
    wiener = config.model_copy(update={"method": "wiener"})
    timed(
        METHOD_TITLES["wiener"], 1.5,
        lambda: run_to_end(plane_steps(block, made.patterns, made.otf, wiener)),
    )  # fmt: skip
    timed(
        "20 iterations of joint Richardson–Lucy", 12.0,
        lambda: run_to_end(
            fit_steps(
                block, made.patterns, made.otf, config, 20,
                shift=frame_noise(block, made.otf).shift,
            )
        ),
    )  # fmt: skip
    lines = ["| step | CPU time (s) | relative to numpy | target |",
             "|---|---|---|---|"]  # fmt: skip
    for name, seconds, limit in rows:
        goal = "" if np.isinf(limit) else f"≤ {limit:g} s"
        lines.append(f"| {name} | {seconds:.2f} | {seconds / reference:.2f} | {goal} |")
    return "\n".join(lines)


def shared_table(data: Path) -> str:
    """PSNR in dB (range 255) for the semi-synthetic stacks, without border pixels."""
    lines = [
        "| stack | " + " | ".join(METHOD_TITLES[m] for m in METHODS) + " |",
        "|---|" + "---|" * len(METHODS),
    ]
    for stack in (1, 24):
        name = f"semisynthetic_microtubules_{stack}"
        base = SimConfig(
            psf=data / "sim/psf.png", psf_sampling=4, upscale_factor=4, threads=1
        )
        frames = open_frames(data / f"sim/{name}_9frames.tif", base)
        truth = np.squeeze(
            np.asarray(io.read(data / f"sim/{name}_groundtruth.png").data)
        )
        estimate = run_to_end(estimate_steps(frames, base))
        cells = []
        for method in METHODS:
            settings = base.model_copy(update={"method": method, "checks": False})
            begun = time.process_time()
            result = run_to_end(run_steps(frames, settings, patterns=estimate))
            seconds = time.process_time() - begun
            part = (slice(20, -20), slice(20, -20))
            a = np.asarray(result.volume)[part].astype(float).ravel()
            t = truth[part].astype(float).ravel()
            slope, start = np.polyfit(a, t, 1)
            error = float(np.mean((slope * a + start - t) ** 2))
            ncc = float(np.corrcoef(a, t)[0, 1])
            psnr = 10 * np.log10(255**2 / error)
            cells.append(f"{ncc:.3f} / {psnr:.2f} dB / {seconds:.1f} s")
        lines.append(f"| {stack} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="only one structure and one seed"
    )
    parser.add_argument("--only", choices=TABLES)
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    add_case_options(parser)
    options = parser.parse_args()
    cases = chosen_cases(options)
    if options.quick:
        cases = [case for case in cases if case[1] == "filaments"]
    tables: dict[str, Callable[[], str]] = {
        "shared": lambda: shared_table(options.data),
        "resolution": resolution_table,
        "speed": speed_table,
        "quality": lambda: quality_table(cases, options.quick),
    }
    for name, make in tables.items():
        if options.only not in (None, name):
            continue
        if name == "shared" and not options.data.is_dir():
            print(f"{options.data} does not exist; this part is skipped")
            continue
        table = make()
        print(table, flush=True)
        if options.out is None:
            continue
        if name == "quality":
            old = section(options.out, f"benchmark {name}")
            table = merged_tables(old, typeset(table), place_of)
        replace_section(options.out, f"benchmark {name}", table)


if __name__ == "__main__":
    main()
