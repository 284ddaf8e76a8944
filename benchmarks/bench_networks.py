r"""Networks of tubules and canaliculi from under-sampled confocal scans.

A confocal scan that skips voxels takes an eighth of the time at ×2, and a 64th at ×4.
Dentin, and bone cells with their canaliculi, are scanned in this way, restored to all
voxels, and evaluated twice: by grey values (PSNR, SSIM), and by the lost and invented
branches of the graph of all structures above one threshold. All methods have the same
training time: the time of a step is measured once for each method and factor, and the
number of steps is chosen such that they take `--seconds` on one thread. Prints Markdown
tables and whether the two rankings agree, or writes them into a document with
``--out``.

    python benchmarks/bench_networks.py --seconds 90 --seeds 3 \
        --out docs/evidence/tubules_tables.md

Restored volumes are stored in the folder ``--work``, so an interrupted run can be
resumed. If the objects, the scans or the training change, a new folder is used. The
rows are computed from these volumes, and again if the code of the graph has changed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage
import torch
from scipy.stats import spearmanr

from _document import replace_section
from _settings import digest
from napari_geosr import io, restore
from napari_geosr.core.steps import CheckpointSaved, PreviewReady, Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.phases import find_phases
from napari_geosr.measure.comparison.centrelines import __file__ as centrelines_file
from napari_geosr.measure.comparison.quality import psnr, ssim
from napari_geosr.measure.graph import NetworkGraph, network_graph
from napari_geosr.measure.graph import __file__ as graph_package
from napari_geosr.measure.graph.agreement import graph_agreement
from napari_geosr.models.bundle import read_card
from napari_geosr.networks.layers.upsampling import cubic_kernel, interpolated
from napari_geosr.operations.train import TrainJob, config_class, train_steps
from napari_geosr.physics import fluorescence
from napari_geosr.physics.fluorescence import Microscope
from napari_geosr.physics.specimens import tubes
from napari_geosr.physics.specimens.dentin import dentin
from napari_geosr.physics.specimens.phantoms import Shape

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Edge length of a fine voxel in µm.
VOXEL = 0.2
#: Coarse voxels along each edge of volumes and of patches, by factor.
EDGE = {2: 48, 4: 24, 8: 16}
PATCH = {2: 16, 4: 10, 8: 8}
#: Patches per step, by factor; those at ×8 have 64³ fine voxels each.
BATCH = {2: 4, 4: 4, 8: 2}
TRAINED_ON, JUDGED_ON = 4, 2
#: First seed of the test objects; training uses the seeds from 0.
_TEST_SEED = 50_000
#: The blur has full widths at half maximum of 0.2 µm across and 0.6 µm along the axis.
MICROSCOPE = Microscope(
    blur=0.2 / 2.355 / VOXEL,
    elongation=3.0,
    step=1.0,
    photons=60.0,
    read_noise=1.0,
    background=0.02,
)
#: Distance in µm within which a branch counts as found.
DISTANCE = 0.6
#: Fraction of the time for timing steps, and the smallest number of timed steps.
_TRIED, _FEWEST = 0.2, 6
#: Steps of a training run that is stopped as soon as enough steps are timed.
_ENDLESS = 100_000
CUBIC, FULL = "cubic", "all voxels scanned"
AWARE = "l1,porosity:2,euler:3,surface:4"


@dataclass(frozen=True)
class Way:
    """A row: the method, the network, and the settings of both."""

    method: str = "supervised"
    network: str = "light_sr"
    loss: str | None = None


WAYS = {
    "generic": Way(loss="l1"),
    "geometry-aware": Way(loss=AWARE),
    "RCAN": Way(network="rcan", loss="l1"),
    "FSRCNN": Way(network="fsrcnn", loss="l1"),
    "Pix2Pix": Way("pix2pix"),
    "CycleGAN": Way("cyclegan"),
}


@dataclass(frozen=True)
class Figure:
    """A column of the table: its title, its digits, and whether a high value is good.

    `better` is 0 for measures without a preferred direction.
    """

    key: str
    title: str
    digits: int = 2
    better: int = 1


FIGURES = (
    Figure("psnr", "PSNR (dB)"),
    Figure("ssim", "SSIM", 3),
    Figure("branch_recall", "branch recall"),
    Figure("branch_precision", "branch precision"),
    Figure("length_recall", "length recall"),
    Figure("length_precision", "length precision"),
    Figure("branches", "branches ÷ true", better=0),
    Figure("loops", "loops ÷ true", better=0),
    Figure("tubules", "tubules per mm² ÷ true", better=0),
)
GREY, GRAPH = "psnr", "f1"


@dataclass(frozen=True, eq=False)
class Specimen:
    """A coarse scan, scans of all voxels with and without noise, and the truth."""

    coarse: Array
    fine: Array
    clean: Array
    mask: Mask


def teeth(shape: Shape, seed: int) -> tuple[Array, Mask]:
    """Tubules of 1 to 3 µm in diameter, branches of 0.3 to 0.5 µm."""
    made = dentin(shape, porosity=0.12, radius=(2.5, 7.5), seed=seed)
    return made.light, made.phantom.mask


def cells(shape: Shape, seed: int) -> tuple[Array, Mask]:
    """Bone cells 3 µm long, every 5 µm, with canaliculi of 0.4 µm in diameter."""
    made = tubes.cell_network(
        shape,
        spacing=24.0,
        lacuna=7.0,
        canaliculus=1.0,
        neighbours=4,
        bend=2.0,
        seed=seed,
    ).phantom
    return made.fraction, made.mask


OBJECTS: dict[str, Callable[[Shape, int], tuple[Array, Mask]]] = {
    "dentin": teeth,
    "cells": cells,
}


def specimen(kind: str, factor: int, seed: int) -> Specimen:
    """Return an object and its scans; bright structures have the grey value 1."""
    edge = EDGE[factor] * factor
    light, mask = OBJECTS[kind]((edge, edge, edge), seed)
    rng = np.random.default_rng([seed, 17])
    photons = np.float32(MICROSCOPE.photons)
    clean = fluorescence.blurred_image(light, MICROSCOPE)
    fine = fluorescence.camera_image(clean, MICROSCOPE, rng) / photons
    coarse = fluorescence.scan_coarsely(light, MICROSCOPE, rng, (factor,) * 3)
    return Specimen(coarse / photons, fine, clean, mask)


def cubic(coarse: Array, factor: int) -> Array:
    """Cubic interpolation, from which every lightweight network starts."""
    x = torch.from_numpy(np.ascontiguousarray(coarse))[None, None]
    fine = interpolated(x, cubic_kernel(factor, 3).float(), factor)
    return np.asarray(fine[0, 0])


def graph_of(mask: Mask) -> NetworkGraph:
    """Return the graph of the tubes, in µm."""
    return network_graph(mask, (VOXEL,) * 3, unit="µm")


def judged(volume: Array, test: Specimen, threshold: float) -> dict[str, float]:
    """Compare a restored volume with the noise-free scan and with the ground truth."""
    found, true = graph_of(volume > threshold), graph_of(test.mask)
    agreement = graph_agreement(found, true, DISTANCE)
    precision, recall = agreement.branch_precision, agreement.branch_recall
    both = precision + recall
    return {
        "psnr": psnr(volume, test.clean, 1.0),
        "ssim": ssim(volume, test.clean, 1.0),
        "branch_recall": recall,
        "branch_precision": precision,
        "f1": 2 * precision * recall / both if both else 0.0,
        "length_recall": agreement.length_recall,
        "length_precision": agreement.length_precision,
        "branches": len(found.paths) / len(true.paths),
        "loops": found.loops / max(true.loops, 1),
        "tubules": found.crossing(0) / max(true.crossing(0), 1.0),
    }


def training(way: Way, **settings: Any) -> TrainJob:
    """Training settings of a network."""
    more: dict[str, Any] = {}
    if way.loss is not None:
        more = {"loss": way.loss, "learning_rate": 2e-3}
        if way.loss != "l1":
            more["phase"] = "bright"
    config = config_class(way.method).create(
        name="m",
        dimensions="3D",
        network=way.network,
        device="cpu",
        threads=1,
        validate_every=settings["steps"],
        **more,
        **settings,
    )
    return TrainJob(method=way.method, training=config)


@dataclass(frozen=True)
class Learned:
    """The restored volumes of a network, and the time of its training."""

    volumes: list[Array]
    seconds: float
    steps: int
    parameters: int


class StepTime:
    """CPU time per training step, excluding the start and the end of the training."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.seconds, self.steps = 0.0, 0

    def measure(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Yield the events; steps are timed from first preview to last checkpoint."""
        result = None
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result = end.value
                break
            if isinstance(step, PreviewReady) and self.began is None:
                self.began = time.process_time()
            elif isinstance(step, CheckpointSaved) and self.began is not None:
                self.seconds, self.steps = self.so_far, step.done
            yield step
        return result

    @property
    def so_far(self) -> float:
        return 0.0 if self.began is None else time.process_time() - self.began


def step_seconds(way: Way, folder: Path, seconds: float, **settings: Any) -> float:
    """Return the CPU time of a step, from a complete training run of about `seconds`.

    The time of steps varies, because geometry-aware losses are added during training.
    The number of steps is first estimated from a long training run that is stopped.
    """
    started = StepTime()
    asked = itertools.count()

    def is_enough() -> bool:
        return next(asked) >= _FEWEST and started.so_far >= seconds / 2

    with tempfile.TemporaryDirectory(dir=folder) as name:
        job = training(way, steps=_ENDLESS, **settings)
        steps = train_steps(job, Path(name) / "job", should_stop=is_enough)
        run_to_end(started.measure(steps))
    few = max(_FEWEST, round(seconds / started.seconds * started.steps))
    whole = StepTime()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        job = training(way, steps=few, **settings)
        run_to_end(whole.measure(train_steps(job, Path(name) / "job")))
    return whole.seconds / whole.steps


def learned(
    volumes: Sequence[Array], folder: Path, way: Way, steps: int, **settings: Any
) -> Learned:
    """Train for the given number of steps, then restore."""
    timer = StepTime()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        job = training(way, steps=steps, **settings)
        bundle = run_to_end(timer.measure(train_steps(job, Path(name) / "job")))
        restored = [
            np.asarray(restore(Volume(volume, "ZYX"), str(bundle)).data, np.float32)
            for volume in volumes
        ]
        parameters = read_card(bundle).n_parameters or 0
        return Learned(restored, timer.seconds, timer.steps, parameters)


def write_pairs(
    made: Sequence[Specimen], factor: int, folder: Path
) -> tuple[list[Path], list[Path]]:
    """Write noisy low- and high-resolution scans to files, as if from a microscope."""
    pairs: tuple[list[Path], list[Path]] = ([], [])
    for i, one in enumerate(made):
        for name, data, size, paths in (
            ("coarse", one.coarse, VOXEL * factor, pairs[0]),
            ("fine", one.fine, VOXEL, pairs[1]),
        ):
            path = folder / f"{name}{i}.ome.tif"
            offset = ((size - VOXEL) / 2,) * 3
            io.write(Volume(data, "ZYX", (size,) * 3, "µm", origin=offset), path)
            paths.append(path)
    return pairs


def mean_of(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of every measure."""
    return {key: float(np.mean([f[key] for f in figures])) for key in figures[0]}


def judging_digest() -> str:
    """Return the identifier of everything that determines the measures of a volume."""
    files = [*Path(graph_package).parent.glob("*.py"), Path(centrelines_file)]
    code = "".join(file.read_text("utf-8") for file in sorted(files))
    return digest({"scikit-image": skimage.__version__, "graph": code}, [judged])


def settings_digest() -> str:
    """Identifier of everything that determines the volumes, except the time."""
    jobs = {
        name: training(way, steps=1).training.model_dump(mode="json")
        for name, way in WAYS.items()
    }
    values = {
        "microscope": vars(MICROSCOPE),
        "sizes": [
            EDGE,
            PATCH,
            BATCH,
            VOXEL,
            DISTANCE,
            TRAINED_ON,
            JUDGED_ON,
            _TEST_SEED,
        ],
        "training": jobs,
    }
    ways = (specimen, training, learned, write_pairs, Bench._learn)
    return digest(values, [*OBJECTS.values(), *ways, cubic, dentin])


class Bench:
    """Result rows, stored in a file."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        made = f"volumes-{arguments.seconds:g}-{settings_digest()}"
        self.folder = arguments.work / made
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kept = self.folder / f"rows-{judging_digest()}.json"
        self.rows: list[dict[str, Any]] = (
            json.loads(self.kept.read_text()) if self.kept.exists() else []
        )

    def run(self, kind: str, factor: int, seed: int) -> None:
        """Compute the missing rows of one kind of object, factor and seed."""
        case = f"{kind}, ×{factor}"
        missing = [
            way for way in self.arguments.way or WAYS if not self._has(case, way, seed)
        ]
        if not missing:
            return
        made = [specimen(kind, factor, i) for i in range(TRAINED_ON)]
        targets = [Volume(one.clean, "ZYX") for one in made]
        threshold = find_phases(targets).threshold
        tests = [specimen(kind, factor, _TEST_SEED + i) for i in range(JUDGED_ON)]
        for name, volumes in (
            (CUBIC, [cubic(test.coarse, factor) for test in tests]),
            (FULL, [test.fine for test in tests]),
        ):
            if not self._has(case, name, 0):
                self._add(case, name, 0, self._judged(volumes, tests, threshold))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            pairs = write_pairs(made, factor, folder)
            for way in missing:
                path = self.folder / f"{kind}-{factor}-{way}-{seed}.npz"
                if not path.exists():
                    self._learn(path, way, factor, seed, pairs, folder, tests)
                with np.load(path) as kept:
                    volumes = [kept[f"volume{i}"] for i in range(len(tests))]
                    facts = {
                        k: kept[k].item() for k in ("seconds", "steps", "parameters")
                    }
                row = self._judged(volumes, tests, threshold)
                self._add(case, way, seed, row | facts)

    def _learn(
        self,
        path: Path,
        way: str,
        factor: int,
        seed: int,
        pairs: tuple[list[Path], list[Path]],
        folder: Path,
        tests: Sequence[Specimen],
    ) -> None:
        """Train, restore, and store the results."""
        source, target = pairs
        if way == "CycleGAN":  # no object is in both domains
            source, target = source[: TRAINED_ON // 2], target[TRAINED_ON // 2 :]
        settings = {
            "source": source,
            "target": target,
            "upscale_factor": factor,
            "patch": PATCH[factor],
            "batch_size": BATCH[factor],
        }
        steps = self._steps(way, factor, folder, settings)
        coarse = [test.coarse for test in tests]
        made = learned(coarse, folder, WAYS[way], steps, seed=seed, **settings)
        volumes = {f"volume{i}": volume for i, volume in enumerate(made.volumes)}
        np.savez_compressed(
            path,
            seconds=made.seconds,
            steps=made.steps,
            parameters=made.parameters,
            **volumes,
        )

    def _steps(
        self, way: str, factor: int, folder: Path, settings: dict[str, Any]
    ) -> int:
        """Number of steps for the training time; the time of a step is stored."""
        path = self.folder / "step_seconds.json"
        times = json.loads(path.read_text()) if path.exists() else {}
        key = f"{way}, ×{factor}"
        if key not in times:
            tried = _TRIED * self.arguments.seconds
            # The first training run includes the time for imports and compilation.
            step_seconds(WAYS[way], folder, 0.0, **settings)
            times[key] = step_seconds(WAYS[way], folder, tried, **settings)
            path.write_text(json.dumps(times, indent=1))
        return max(_FEWEST, round(self.arguments.seconds / times[key]))

    @staticmethod
    def _judged(
        volumes: Sequence[Array], tests: Sequence[Specimen], threshold: float
    ) -> dict[str, Any]:
        pairs = zip(volumes, tests, strict=True)
        return mean_of([judged(volume, test, threshold) for volume, test in pairs])

    def _has(self, case: str, way: str, seed: int) -> bool:
        entry = (case, way, seed)
        return any((r["case"], r["way"], r["seed"]) == entry for r in self.rows)

    def _add(self, case: str, way: str, seed: int, found: dict[str, Any]) -> None:
        row = {"case": case, "way": way, "seed": seed, **found}
        self.rows.append(row)
        self.kept.write_text(json.dumps(self.rows, indent=1))
        print(
            f"{case}, {way}, seed {seed}: {row['psnr']:.2f} dB, branches found "
            f"{row['branch_recall']:.2f}, true {row['branch_precision']:.2f}",
            flush=True,
        )

    def of(self, case: str, way: str) -> list[dict[str, Any]]:
        """Return the rows of a case and a method, one per seed."""
        return [r for r in self.rows if (r["case"], r["way"]) == (case, way)]


def spread(rows: Sequence[dict[str, Any]], key: str, digits: int) -> str:
    """Return the mean and standard deviation over seeds."""
    values = [row[key] for row in rows]
    text = f"{np.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {np.std(values, ddof=1):.{digits}f}"
    return text


def table(bench: Bench, cases: Sequence[str]) -> str:
    """Return the table of all measures of all cases."""
    titles = [*(figure.title for figure in FIGURES), "seeds", "steps", "seconds"]
    lines = [
        "| object | method | " + " | ".join(titles) + " |",
        "|---|---|" + "---|" * len(titles),
    ]
    for case in cases:
        for way in (CUBIC, *WAYS, FULL):
            rows = bench.of(case, way)
            if not rows:
                continue
            parts = [spread(rows, figure.key, figure.digits) for figure in FIGURES]
            parts.append(str(len(rows)) if way in WAYS else "")
            for key in ("steps", "seconds"):
                learned_ = [row[key] for row in rows if key in row]
                parts.append(f"{np.mean(learned_):.0f}" if learned_ else "")
            lines.append(f"| {case} | {way} | {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def rankings(bench: Bench, cases: Sequence[str]) -> str:
    """Return a table of the rankings by PSNR and by branches, and their correlation."""
    lines = [
        "| object | best to worst by PSNR | best to worst by branches (F1) "
        "| rank correlation |",
        "|---|---|---|---|",
    ]
    for case in cases:
        found = {
            way: [float(np.mean([row[key] for row in rows])) for key in (GREY, GRAPH)]
            for way in (CUBIC, *WAYS)
            if (rows := bench.of(case, way))
        }
        if len(found) < 3:
            continue
        orders = [
            ", ".join(sorted(found, key=lambda way: -found[way][i])) for i in (0, 1)
        ]
        rho = float(spearmanr(list(found.values())).statistic)
        lines.append(f"| {case} | {orders[0]} | {orders[1]} | {rho:+.2f} |")
    return "\n".join(lines) + "\n"


def claim(bench: Bench, cases: Sequence[str]) -> str:
    """Return the table of the branches found with and without geometry-aware losses."""
    lines = [
        "| object | branch recall, generic | branch recall, geometry-aware "
        "| difference (percentage points) |",
        "|---|---|---|---|",
    ]
    for case in cases:
        pair = [bench.of(case, way) for way in ("generic", "geometry-aware")]
        if not all(pair):
            continue
        one, two = (100 * np.mean([r["branch_recall"] for r in rows]) for rows in pair)
        lines.append(f"| {case} | {one:.0f} % | {two:.0f} % | {two - one:+.0f} |")
    return "\n".join(lines) + "\n"


def _chosen(options: argparse.Namespace) -> str:
    """Return the chosen objects and factors as command-line options."""
    kinds = [f" --object {kind}" for kind in options.object or ()]
    return "".join([*kinds, *(f" --factor {n}" for n in options.factor or ())])


def document(bench: Bench, cases: Sequence[str]) -> str:
    """Return the text of the document for these cases."""
    options = bench.arguments
    return "\n".join(
        (
            "Generated with `python benchmarks/bench_networks.py "
            f"--seconds {options.seconds:g} --seeds {options.seeds}"
            f"{_chosen(options)}`. The networks are trained on {TRAINED_ON} volumes "
            f"and tested on {JUDGED_ON} others. ± is the standard deviation over the "
            "seeds 0, 1, 2, …; their number is in the column *seeds*. The voxel size "
            f"is {VOXEL:g} µm. A branch counts as found if the result has a branch "
            f"within {DISTANCE:g} µm of it.\n",
            "### Do the two rankings agree?\n",
            "The methods are ranked by the PSNR and by the F1 score of the branches; "
            "the last column is the rank correlation of the two rankings.\n",
            rankings(bench, cases),
            "### Do networks trained with geometry-aware losses find more branches?\n",
            "The same network was trained with a loss on grey values alone (*generic*) "
            "and with additional geometry-aware losses.\n",
            claim(bench, cases),
            "### All values\n",
            "*Branches*, *loops* and *tubules per mm²* are given relative to the true "
            "values; *seconds* is the training time. *All voxels scanned* is a scan "
            "that skips no voxels.\n",
            table(bench, cases),
        )
    )


def main() -> None:
    """Run the missing cases, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=90.0, help="time of each training"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("build/networks"))
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    parser.add_argument(
        "--kept",
        action="store_true",
        help="only write the tables of the available rows",
    )
    parser.add_argument("--object", choices=OBJECTS, action="append")
    parser.add_argument("--factor", type=int, choices=EDGE, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments)
    chosen = [
        (kind, factor)
        for factor in arguments.factor or EDGE
        for kind in arguments.object or OBJECTS
    ]
    # All cases with one seed first, so that an interrupted run leaves complete tables.
    for seed in range(0 if arguments.kept else arguments.seeds):
        for kind, factor in chosen:
            bench.run(kind, factor, seed)
    text = document(bench, [f"{kind}, ×{factor}" for kind, factor in chosen])
    if arguments.out:
        replace_section(arguments.out, "networks", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
