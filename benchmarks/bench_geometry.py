r"""Compare networks trained with and without geometry-aware losses.

Low-resolution scans of bone, foam and bone cells are super-resolved by factors of four
and eight. The same lightweight network is trained with a loss on grey values alone and
with additional geometry-aware losses, with the same volumes, seed, steps and number of
parameters. The pores of objects that were not used for training are compared.
``--adversarial`` adds Pix2Pix, and CycleGAN with low- and high-resolution scans of
different objects. Prints Markdown tables and whether the targets are reached, or writes
them into a document with ``--out``.

    python benchmarks/bench_geometry.py --steps 600 \
        --out docs/evidence/geometry_tables.md

Rows are stored in the folder ``--work``, so an interrupted run can be resumed. If the
objects, the scans, the training or the evaluation change, a new file is used.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from _document import replace_section
from _settings import digest, left_out
from napari_geosr import io, restore
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.architecture import network_kwargs
from napari_geosr.learning.phases import find_phases
from napari_geosr.measure.comparison.centrelines import (
    centreline_agreement,
    connectivity,
)
from napari_geosr.measure.comparison.quality import compare_pores, psnr
from napari_geosr.measure.local_thickness.spheres import local_thickness
from napari_geosr.models.bundle import read_card
from napari_geosr.networks import build_network
from napari_geosr.networks.layers.upsampling import cubic_kernel, interpolated
from napari_geosr.operations.train import TrainJob, config_class, train_steps
from napari_geosr.physics import scans
from napari_geosr.physics.scans import Imaging, Scan
from napari_geosr.physics.specimens import phantoms, tubes
from napari_geosr.physics.specimens.phantoms import Phantom, Shape

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Number of coarse voxels along each edge, by factor.
EDGE = {4: 24, 8: 16}
#: Number of coarse voxels along each edge of a patch, by factor.
PATCH = {4: 12, 8: 8}
TRAINED_ON, JUDGED_ON = 12, 3
#: Edge in voxels of the region in which thickness is measured (the slowest measure).
MEASURED = 64
#: First seed of the test objects; training uses the seeds from 0.
_TEST_SEED = 50_000
GENERIC = "l1"
#: Adversarial methods, paired and unpaired, added by `--adversarial`.
ADVERSARIAL = ("pix2pix", "cyclegan")
AWARE = "l1,porosity:2,euler:3,surface:4"
IMAGING = Imaging(noise=0.05, noise_kind="independent", blur=0.4)
#: Required reduction of the errors, and accepted loss of PSNR, relative to `GENERIC`.
LESS_CONNECTION, LESS_POROSITY, LOST_PSNR = 0.30, 0.20, 0.3


@dataclass(frozen=True)
class Figure:
    """A column of the table: its title and its number of digits."""

    key: str
    title: str
    digits: int = 3


FIGURES = (
    Figure("psnr", "PSNR (dB)", 2),
    Figure("porosity", "porosity"),
    Figure("pores", "pores/mm³", 2),
    Figure("connection", "Conn.D", 2),
    Figure("euler", "Euler number", 2),
    Figure("solid", "thickness of the solid (Tb.Th)"),
    Figure("space", "thickness of the pores (Tb.Sp)"),
    Figure("precision", "skeleton precision"),
    Figure("recall", "skeleton recall"),
    Figure("cldice", "clDice"),
)


def bone(shape: Shape, factor: int, seed: int) -> Phantom:
    """Trabeculae, two to three coarse voxels thick."""
    return phantoms.bicontinuous(
        shape, porosity=0.75, wavelength=7.0 * factor, seed=seed
    )


def foam(shape: Shape, factor: int, seed: int) -> Phantom:
    """Pores with radii of one to three coarse voxels; walls thinner than a voxel."""
    return phantoms.sphere_foam(
        shape,
        porosity=0.35,
        radius=(1.0 * factor, 3.0 * factor),
        gap=0.4 * factor,
        seed=seed,
    )


def cells(shape: Shape, factor: int, seed: int) -> Phantom:
    """Bone cells with canaliculi that have a radius of half a coarse voxel."""
    return tubes.cell_network(
        shape,
        spacing=6.0 * factor,
        lacuna=1.8 * factor,
        canaliculus=0.45 * factor,
        neighbours=4,
        bend=0.5 * factor,
        seed=seed,
    ).phantom


OBJECTS: dict[str, Callable[[Shape, int, int], Phantom]] = {
    "bone": bone,
    "foam": foam,
    "cells": cells,
}


def specimen(kind: str, factor: int, seed: int) -> Scan:
    """Simulate an object and its coarse scan."""
    edge = EDGE[factor] * factor
    phantom = OBJECTS[kind]((edge, edge, edge), factor, seed)
    imaging = Imaging(
        IMAGING.noise, IMAGING.noise_kind, IMAGING.blur, downsample=factor
    )
    return scans.scan(phantom, imaging, seed=seed)


def cubic(coarse: Array, factor: int) -> Array:
    """Cubic interpolation, from which every lightweight network starts."""
    x = torch.from_numpy(coarse)[None, None]
    fine = interpolated(x, cubic_kernel(factor, 3).float(), factor)
    return np.asarray(fine[0, 0])


@dataclass(frozen=True)
class Test:
    """A scan that was not used for training, and the true thickness of its phases.

    Attributes
    ----------
    threshold : float
        Midpoint between the grey values of the two phases in the training targets. A
        user with high-resolution scans of other regions would choose the same
        threshold.
    """

    scan: Scan
    threshold: float
    solid: float
    space: float

    @classmethod
    def of(cls, scan: Scan, threshold: float) -> Test:
        """Measure the true thickness of the phases of the object."""
        return cls(scan, threshold, thickness(~scan.mask), thickness(scan.mask))


def thickness(phase: Mask) -> float:
    """Return the mean local thickness in the middle of a volume, in voxels."""
    middle = tuple(
        slice((n - min(n, MEASURED)) // 2, (n + min(n, MEASURED)) // 2)
        for n in phase.shape
    )
    part = phase[middle]
    return float(local_thickness(part)[part].mean()) if part.any() else 0.0


def judged(volume: Array, test: Test) -> dict[str, float]:
    """Absolute errors of a restored volume, its PSNR and agreement of centrelines."""
    scan = test.scan
    truth = scan.mask
    mask = volume <= test.threshold
    pores = compare_pores(mask, truth)
    loops, true_loops = connectivity(mask), connectivity(truth)
    lines = centreline_agreement(mask, truth)

    return {
        "psnr": psnr(volume, scan.clean, 1.0),
        "porosity": abs(pores.porosity_error),
        "pores": abs(pores.pores_per_mm3_error),
        "connection": abs(loops - true_loops) / max(abs(true_loops), 1),
        "euler": abs(pores.euler_error),
        "solid": abs(thickness(~mask) / test.solid - 1),
        "space": abs(thickness(mask) / test.space - 1),
        "precision": lines.precision,
        "recall": lines.recall,
        "cldice": lines.cldice,
    }


@dataclass(frozen=True)
class Learned:
    """The restored volumes of a network, and the CPU time of its training."""

    volumes: list[Array]
    seconds: float
    parameters: int


def training(way: str, **settings: Any) -> TrainJob:
    """Training settings of the lightweight network for a loss or adversarial method."""
    method = way if way in ADVERSARIAL else "supervised"
    config = config_class(method).create(
        name="m",
        dimensions="3D",
        network="light_sr",
        layers=4,
        width=16,
        batch_size=4,
        device="cpu",
        precision="bfloat16",
        threads=1,
        **({} if way in ADVERSARIAL else {"loss": way}),
        **settings,
    )
    return TrainJob(method=method, training=config)


def super_resolved(
    volumes: Sequence[Array], folder: Path, way: str, **settings: Any
) -> Learned:
    """Train the lightweight network, and restore volumes with it."""
    job = training(way, **settings)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        began = time.process_time()
        bundle = run_to_end(train_steps(job, Path(name) / "job"))
        seconds = time.process_time() - began
        restored = [
            np.asarray(restore(Volume(volume, "ZYX"), str(bundle)).data, np.float32)
            for volume in volumes
        ]
        return Learned(restored, seconds, read_card(bundle).n_parameters or 0)


def write_pairs(
    made: Sequence[Scan], factor: int, folder: Path
) -> tuple[list[Path], list[Path]]:
    """Write coarse and fine volumes to files, as a user would have them."""
    pairs: tuple[list[Path], list[Path]] = ([], [])
    for i, one in enumerate(made):
        for name, data, size, paths in (
            ("coarse", one.noisy, float(factor), pairs[0]),
            ("fine", one.clean, 1.0, pairs[1]),
        ):
            path = folder / f"{name}{i}.ome.tif"
            offset = ((size - 1) / 2,) * 3
            io.write(Volume(data, "ZYX", (size,) * 3, "µm", origin=offset), path)
            paths.append(path)
    return pairs


def trained_threshold(kind: str, factor: int) -> float:
    """Threshold between the grey values of the phases in the training targets."""
    targets = [specimen(kind, factor, i).clean for i in range(TRAINED_ON)]
    return find_phases([Volume(target, "ZYX") for target in targets]).threshold


def mean_of(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of every measure over the test volumes."""
    return {key: float(np.mean([f[key] for f in figures])) for key in figures[0]}


def settings_digest() -> str:
    """Identifier of all settings that the rows do not contain, except the steps."""
    jobs = {
        way: training(way, steps=1).training.model_dump(mode="json")
        for way in (GENERIC, *ADVERSARIAL)
    }
    values = {
        "imaging": asdict(IMAGING),
        "edge": EDGE,
        "patch": PATCH,
        "volumes": [TRAINED_ON, JUDGED_ON, _TEST_SEED],
        "measured": MEASURED,
        "network": _network_shapes(),
        "training": jobs,
    }
    ways = (training, super_resolved, write_pairs, trained_threshold, Bench._learned)
    judges = (cubic, Test.of, thickness, judged)
    return digest(values, [*OBJECTS.values(), specimen, *ways, *judges])


def _network_shapes() -> dict[str, list[int]]:
    """Return the shapes of the tensors of the trained network, by name."""
    factor = max(EDGE)
    config = training(GENERIC, steps=1, upscale_factor=factor).training
    network = build_network(config.network, **network_kwargs(config))
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


class Bench:
    """Result rows, stored in a file."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        arguments.work.mkdir(parents=True, exist_ok=True)
        stem = f"rows-{arguments.steps}"
        self.kept = arguments.work / f"{stem}-{settings_digest()}.json"
        note = left_out(self.kept, stem)
        if note:
            print(note, flush=True)
        self.rows: list[dict[str, Any]] = (
            json.loads(self.kept.read_text()) if self.kept.exists() else []
        )

    @property
    def ways(self) -> tuple[str, ...]:
        """The losses and adversarial methods to compare."""
        more = ADVERSARIAL if self.arguments.adversarial else ()
        return (GENERIC, self.arguments.aware, *more)

    def run(self, kind: str, factor: int) -> None:
        """Compute the missing rows of one kind of object and factor."""
        case = f"{kind}, ×{factor}"
        seeds = range(_TEST_SEED, _TEST_SEED + JUDGED_ON)
        threshold = trained_threshold(kind, factor)
        tests = [Test.of(specimen(kind, factor, seed), threshold) for seed in seeds]
        if not self._has(case, "cubic", 0):
            found = mean_of([judged(cubic(t.scan.noisy, factor), t) for t in tests])
            self._add({"case": case, "loss": "cubic", "seed": 0, **found})
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            made = [specimen(kind, factor, i) for i in range(TRAINED_ON)]
            pairs = write_pairs(made, factor, folder)
            for seed in range(self.arguments.seeds):
                for loss in self.ways:
                    if not self._has(case, loss, seed):
                        row = self._learned(factor, loss, seed, pairs, folder, tests)
                        self._add({"case": case, "loss": loss, "seed": seed, **row})

    def _learned(
        self,
        factor: int,
        loss: str,
        seed: int,
        pairs: tuple[list[Path], list[Path]],
        folder: Path,
        tests: Sequence[Test],
    ) -> dict[str, float]:
        source, target = pairs
        if loss == "cyclegan":  # no object is in both domains
            source, target = source[: TRAINED_ON // 2], target[TRAINED_ON // 2 :]
        learned = super_resolved(
            [test.scan.noisy for test in tests],
            folder,
            loss,
            source=source,
            target=target,
            upscale_factor=factor,
            steps=self.arguments.steps,
            patch=PATCH[factor],
            seed=seed,
        )
        pairs_ = zip(learned.volumes, tests, strict=True)
        return mean_of([judged(volume, test) for volume, test in pairs_]) | {
            "seconds": learned.seconds,
            "parameters": learned.parameters,
        }

    def _has(self, case: str, loss: str, seed: int) -> bool:
        entry = (case, loss, seed)
        return any((r["case"], r["loss"], r["seed"]) == entry for r in self.rows)

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.kept.write_text(json.dumps(self.rows, indent=1))
        print(
            f"{row['case']}, {row['loss']}, seed {row['seed']}: {row['psnr']:.2f} dB, "
            f"porosity {row['porosity']:.3f}, Conn.D {row['connection']:.2f}",
            flush=True,
        )

    def of(self, case: str, loss: str) -> list[dict[str, Any]]:
        """Return the rows of a case and a loss, one per seed."""
        return [r for r in self.rows if (r["case"], r["loss"]) == (case, loss)]


def spread(rows: Sequence[dict[str, Any]], figure: Figure) -> str:
    """Return the mean and standard deviation over the seeds, as text."""
    values = [row[figure.key] for row in rows]
    text = f"{np.mean(values):.{figure.digits}f}"
    if len(values) > 1:
        text += f" ± {np.std(values, ddof=1):.{figure.digits}f}"
    return text


def stability(bench: Bench, cases: Sequence[str]) -> str:
    """PSNR of each seed, and the number of seeds worse than cubic interpolation."""
    lines = [
        "| object | loss | PSNR of each seed (dB) | seeds worse than cubic |",
        "|---|---|---|---|",
    ]
    for case in cases:
        (cubic_,) = bench.of(case, "cubic")
        for way in bench.ways:
            found = [row["psnr"] for row in bench.of(case, way)]
            if found:
                lost = sum(not value > cubic_["psnr"] for value in found)
                values = ", ".join(f"{value:.1f}" for value in found)
                lines.append(f"| {case} | {way} | {values} | {lost} of {len(found)} |")
    return "\n".join(lines) + "\n"


def table(bench: Bench, cases: Sequence[str]) -> str:
    """Return the table of all measures of all cases."""
    lines = [
        "| object | loss | " + " | ".join(f.title for f in FIGURES) + " | seconds |",
        "|---|---|" + "---|" * (len(FIGURES) + 1),
    ]
    for case in cases:
        for loss in ("cubic", *bench.ways):
            rows = bench.of(case, loss)
            if not rows:
                continue
            cells_ = [spread(rows, figure) for figure in FIGURES]
            seconds = [row["seconds"] for row in rows if "seconds" in row]
            took = f"{np.mean(seconds):.0f}" if seconds else ""
            lines.append(f"| {case} | {loss} | {' | '.join(cells_)} | {took} |")
    return "\n".join(lines) + "\n"


def claim(bench: Bench, cases: Sequence[str], aware: str) -> str:
    """Table that shows whether the geometry-aware losses reach their targets."""
    lines = [
        "The table compares the geometry-aware losses with `l1` alone. The required "
        "change is given in the heading of each column.",
        "",
        f"| object | change of the Conn.D error (at least {LESS_CONNECTION:.0%} less) "
        f"| change of the porosity error (at least {LESS_POROSITY:.0%} less) | "
        f"change of the PSNR (at most {LOST_PSNR} dB less) | target |",
        "|---|---|---|---|---|",
    ]
    for case in cases:
        one, two = bench.of(case, GENERIC), bench.of(case, aware)
        if not (one and two):
            continue
        generic, other = mean_of(_plain(one)), mean_of(_plain(two))
        less = {
            key: 1 - other[key] / generic[key] if generic[key] else 0.0
            for key in ("connection", "porosity")
        }
        lost = generic["psnr"] - other["psnr"]
        missed = [
            word
            for word, fine in (
                ("Conn.D", less["connection"] >= LESS_CONNECTION),
                ("porosity", less["porosity"] >= LESS_POROSITY),
                ("PSNR", lost <= LOST_PSNR),
            )
            if not fine
        ]
        verdict = f"**missed for {', '.join(missed)}**" if missed else "reached"
        lines.append(
            f"| {case} | {-less['connection']:+.0%} | {-less['porosity']:+.0%} | "
            f"{-lost:+.2f} dB | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _plain(rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [{figure.key: row[figure.key] for figure in FIGURES} for row in rows]


def main() -> None:
    """Run the missing cases, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--aware", default=AWARE, help="geometry-aware losses")
    parser.add_argument("--adversarial", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("build/geometry"))
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    parser.add_argument("--object", choices=OBJECTS, action="append")
    parser.add_argument("--factor", type=int, choices=EDGE, action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments)
    chosen = [
        (kind, factor)
        for kind in arguments.object or OBJECTS
        for factor in arguments.factor or EDGE
    ]
    for kind, factor in chosen:
        bench.run(kind, factor)
    text = document(bench, [f"{kind}, ×{factor}" for kind, factor in chosen])
    if arguments.out:
        replace_section(arguments.out, "geometry", text)
    else:
        print(text)


def document(bench: Bench, cases: Sequence[str]) -> str:
    """Return the text of the document for these cases."""
    arguments = bench.arguments
    adversarial = " --adversarial" if arguments.adversarial else ""
    return "\n".join(
        (
            "Generated with `python benchmarks/bench_geometry.py "
            f"--steps {arguments.steps} --seeds {arguments.seeds} "
            f"--aware {arguments.aware}{adversarial}`. The lightweight networks have "
            f"{_parameters(bench)} parameters. All networks were trained on "
            f"{TRAINED_ON} volumes and tested on {JUDGED_ON} others. Values are the "
            "mean ± standard deviation over seeds. In the columns from *porosity* to "
            "*Tb.Sp*, the values are absolute relative errors; skeleton precision, "
            "skeleton recall and clDice are fractions. One threshold, midway between "
            "the grey values of the two phases in the training targets, is used for "
            "all volumes. Training times are CPU times on one thread, in seconds.\n",
            "### Summary\n",
            claim(bench, cases, arguments.aware),
            "### All values\n",
            table(bench, cases),
            "### Stability of training\n",
            stability(bench, cases),
        )
    )


def _parameters(bench: Bench) -> str:
    counts = sorted({row["parameters"] for row in bench.rows if row.get("parameters")})
    return " and ".join(f"{n:,}" for n in counts) or "as many"


if __name__ == "__main__":
    main()
