"""Quality and cost of lightweight super-resolution networks, compared with large ones.

All networks are trained to super-resolve low-resolution scans by a factor of four along
Z, Y and X, with the same volumes, steps, patches and seeds. They are tested on other
objects, by grey values, by porosity and by the Euler number (connectivity) of the pores
at Otsu's threshold. The objects are simulated foams, or parts of a real object
(``--rock``, a TIFF stack with 0 in pores): the pores of Berea sandstone, a file of
github.com/LukasMosser/PorousMediaGan. The cost consists of the number of parameters,
the multiplications per voxel of the input, and the seconds and joules per million
voxels of the result in a restoration by tiles. Prints Markdown tables and whether the
lightweight networks reach their target, or writes them into a document with ``--out``.

    python benchmarks/bench_sr_networks.py --rock berea.zip \
        --out docs/evidence/sr_networks_tables.md

Rows and training runs are stored in the folder ``--work``, so an interrupted run can be
resumed. ``--quick`` shows in a minute that everything runs; its values are meaningless.
"""

from __future__ import annotations

import argparse
import io as streams
import json
import math
import statistics
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from torch.utils.flop_counter import FlopCounterMode

from _document import replace_section
from _specimens import Array, figures
from bench_geometry import foam
from napari_geosr import io, restore
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import free_memory
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.inference.tiles.tiling import lay_out
from napari_geosr.learning.energy import Meter
from napari_geosr.models import bundle
from napari_geosr.networks.layers.upsampling import cubic_kernel, interpolated
from napari_geosr.operations.train import TrainJob, config_class, train_steps
from napari_geosr.physics import scans
from napari_geosr.physics.scans import Imaging, Scan
from napari_geosr.physics.specimens.phantoms import Phantom

#: Number of coarse voxels along each edge of a specimen.
EDGE = 32
TRAINED_ON, JUDGED_ON = 16, 3
#: First seed of the test specimens; training uses the seeds from 0.
_TEST_SEED = 50_000
IMAGING = Imaging(noise=0.1, noise_kind="independent", blur=0.4)
#: Gap in voxels between the parts of a rock for training and for testing.
_GAP = 16
#: Accepted loss of PSNR (dB) and largest costs, relative to a large network.
LOST_PSNR, OF_PARAMETERS, OF_TIME = 0.2, 1 / 10, 1 / 4
#: Edge in voxels of the window for counting multiplications.
_COUNTED = 16
_FREE_SHARE = 0.5
CUBIC = "cubic interpolation"


@dataclass(frozen=True)
class Recipe:
    """A row: a network, its settings, and a suitable learning rate.

    The network is trained for the fraction `share` of the steps. For measuring times, a
    scan is repeated `repeated` times along each edge, because convolutions of small
    windows are slow, and real volumes are larger.
    """

    label: str
    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    light: bool = True
    learning_rate: float = 2e-3
    share: float = 1.0
    repeated: int = 2

    @property
    def folder(self) -> str:
        """The label in a form suitable for folder names."""
        return "".join(c if c.isalnum() else "-" for c in self.label.lower())


RECIPES = (
    Recipe("light_sr", "light_sr"),
    Recipe("bottleneck_sr", "bottleneck_sr", learning_rate=4e-3),
    Recipe("rep_sr", "rep_sr"),
    Recipe("rep_sr without branches", "rep_sr", {"merged": True}),
    Recipe("msdnet_sr", "msdnet_sr"),
    Recipe(
        "EDSR-like",
        "light_sr",
        {"features": 64, "blocks": 4},
        light=False,
        learning_rate=5e-4,
    ),
    Recipe(
        "U-Net",
        "unet",
        {"levels": 3, "features": 13, "residual": True, "batch_norm": False},
        light=False,
        learning_rate=1e-3,
        share=1 / 3,  # a step takes a second
        repeated=1,
    ),
)


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    title: str
    form: str


COLUMNS = {
    "psnr": Column("PSNR (dB)", "{:.2f}"),
    "ssim": Column("SSIM", "{:.3f}"),
    "porosity_error": Column("porosity error", "{:+.1%}"),
    "euler_error": Column("Euler error", "{:+.2f}"),
    "dice": Column("Dice", "{:.3f}"),
    "parameters": Column("parameters", "{:,.0f}"),
    "macs": Column("MACs/voxel", "{:,.0f}"),
    "seconds": Column("s/Mvoxel", "{:.3g}"),
    "joules": Column("J/Mvoxel", "{:.3g}"),
    "training_seconds": Column("training (s)", "{:,.0f}"),
}


Objects = Callable[[int, int], Phantom]


def foams(seed: int, factor: int) -> Phantom:
    """Return a simulated foam with walls thinner than a coarse voxel."""
    edge = EDGE * factor
    return foam((edge, edge, edge), factor, seed)


class Rock:
    """Cubes of a real pore space: the last slices are for testing, others for training.

    Raises
    ------
    SystemExit
        If the volume is too small.
    """

    def __init__(self, path: Path) -> None:
        self.pores: npt.NDArray[np.bool_] = _stack(path) == 0

    def __call__(self, seed: int, factor: int) -> Phantom:
        edge = EDGE * factor
        deep, high, wide = (n // edge for n in self.pores.shape)
        rest = (self.pores.shape[0] - edge - _GAP) // edge
        judged = seed >= _TEST_SEED
        slabs, number = (1, seed - _TEST_SEED) if judged else (rest, seed)
        needed = JUDGED_ON if judged else TRAINED_ON
        if not deep or slabs * high * wide < needed:
            raise SystemExit(
                f"The rock is too small for {needed} cubes of {edge}³ voxels."
            )
        z, y, x = np.unravel_index(number, (slabs, high, wide))
        first = self.pores.shape[0] - edge if judged else z * edge
        part = self.pores[first : first + edge]
        part = part[:, y * edge : (y + 1) * edge, x * edge : (x + 1) * edge]
        return Phantom(part.astype(np.float32), part, "rock")


def _stack(path: Path) -> npt.NDArray[np.uint8]:
    if path.suffix != ".zip":
        return np.asarray(tifffile.imread(path))
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".tif"))
        return np.asarray(tifffile.imread(streams.BytesIO(archive.read(name))))


def specimen(make: Objects, seed: int, factor: int) -> Scan:
    """A coarse scan of an object with contrast 1 and dark pores, and the object."""
    imaging = Imaging(**{**asdict(IMAGING), "downsample": factor})
    return scans.scan(make(seed, factor), imaging, solid=1.0, pore=0.0, seed=seed)


def multiplications(network: torch.nn.Module) -> float:
    """Multiply–accumulate operations of one forward pass, per voxel of the input."""
    x = torch.zeros(1, 1, *(_COUNTED,) * 3)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    return counter.get_total_flops() / 2 / x.numel()


def parameters(network: torch.nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(p.numel() for p in network.parameters())


def clock(device: str) -> float:
    """Current time in seconds: CPU time on a CPU, wall-clock time on a GPU."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def cost(
    work: Callable[[], Array], device: str, energy_seconds: float
) -> dict[str, Any]:
    """Return the seconds and joules per million voxels of the result of `work`.

    After an untimed run, the fastest of three counts. The energy is that of the whole
    computer while `work` is repeated, so no other program should be running.
    """
    millions = work().size / 1e6
    taken = []
    for _ in range(3):
        began = clock(device)
        work()
        taken.append(clock(device) - began)
    row: dict[str, Any] = {"seconds": min(taken) / millions, "joules": None}
    if not energy_seconds:
        return row
    n, began = 0, time.perf_counter()
    with Meter("FRA") as meter:
        while time.perf_counter() - began < energy_seconds:
            work()
            n += 1
    found = meter.figures()
    if found["kilowatt_hours"] is not None:
        row["joules"] = found["kilowatt_hours"] * 3.6e6 / n / millions
    return row | {"measured_by": found["measured_by"]}


def tiled(network: torch.nn.Module, coarse: Array, device: str) -> Array:
    """Return the volume restored by the network, tile by tile."""
    target = np.empty(lay_out(coarse.shape, network.spec).output_shape, np.float32)
    known = IntensityStatistics(0.0, 1.0, -10.0, 10.0, coarse.size)
    steps = restore_tiles(
        network,
        coarse,
        target,
        statistics=known,
        budget=int(free_memory(device) * _FREE_SHARE),
        device=device,
        threads=1,
    )
    run_to_end(steps)
    return target


def enlarged(coarse: Array, factor: int) -> Array:
    """Cubic interpolation, from which every lightweight network starts."""
    x = torch.from_numpy(coarse)[None, None]
    with torch.no_grad():
        fine = interpolated(x, cubic_kernel(factor, 3).float(), factor)
    return np.asarray(fine[0, 0])


def mean_figures(volumes: Sequence[Array], truths: Sequence[Scan]) -> dict[str, float]:
    """Compare each volume with its ground truth; errors are mean absolute values.

    Signed errors of several specimens would cancel, so their absolute values are
    averaged; the sign of the mean is that of the error for most specimens.
    """
    rows = [figures(v, t) for v, t in zip(volumes, truths, strict=True)]
    found = {}
    for key in rows[0]:
        values = [float(r[key]) for r in rows if r.get(key) is not None]
        mean = statistics.fmean(map(abs, values)) if values else math.nan
        found[key] = math.copysign(mean, statistics.median(values)) if values else mean
    return found


class Bench:
    """Result rows, stored in a file; training runs are in folders next to this file."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.factor: int = options.factor
        options.work.mkdir(parents=True, exist_ok=True)
        self.make: Objects = Rock(options.rock) if options.rock else foams
        self.kind = "rock" if options.rock else "foam"
        name = f"{self.kind}-x{self.factor}-{options.steps}"
        self.folder = options.work / name
        self.kept = options.work / f"rows-{name}.json"
        self.rows: list[dict[str, Any]] = (
            json.loads(self.kept.read_text()) if self.kept.exists() else []
        )
        self._tests: list[Scan] | None = None

    @property
    def tests(self) -> list[Scan]:
        """Test specimens, simulated when they are first needed."""
        if self._tests is None:
            self._tests = [
                specimen(self.make, _TEST_SEED + i, self.factor)
                for i in range(JUDGED_ON)
            ]
        return self._tests

    def files(self) -> dict[str, list[Path]]:
        """Training volumes by role; they are written only once."""
        folder = self.options.work / f"{self.kind}-x{self.factor}"
        folder.mkdir(exist_ok=True)
        found: dict[str, list[Path]] = {"source": [], "target": []}
        for i in range(TRAINED_ON):
            paths = {role: folder / f"{role}{i}.tif" for role in found}
            if not all(path.exists() for path in paths.values()):
                scan = specimen(self.make, i, self.factor)
                for role, data in (("source", scan.noisy), ("target", scan.clean)):
                    io.write(Volume(data, "ZYX"), paths[role], overwrite=True)
            for role, path in paths.items():
                found[role].append(path)
        return found

    def add(self, row: dict[str, Any]) -> None:
        """Store a row and print its PSNR."""
        self.rows.append(row)
        self.kept.write_text(json.dumps(self.rows, indent=1))
        print(
            f"{row['network']} (seed {row['seed']}): {row['psnr']:.2f} dB", flush=True
        )

    def has(self, label: str, seed: int) -> bool:
        """Whether a row exists."""
        return any((r["network"], r["seed"]) == (label, seed) for r in self.rows)

    def run(self, recipes: Sequence[Recipe]) -> None:
        """Compute the missing rows."""
        if not self.has(CUBIC, 0):
            self.add(self._cubic())
        for seed in range(self.options.seeds):
            for recipe in recipes:
                if not self.has(recipe.label, seed):
                    self.add(self._learned(recipe, seed))

    def _timed(self, repeated: int) -> Array:
        """Return a larger volume for measuring times."""
        return np.tile(self.tests[0].noisy, (repeated,) * 3)

    def _cubic(self) -> dict[str, Any]:
        given = [t.noisy for t in self.tests]
        row = mean_figures([enlarged(g, self.factor) for g in given], self.tests)
        large = self._timed(2)
        paid = cost(lambda: enlarged(large, self.factor), "cpu", self._energy)
        taps = 5**3 * self.factor**3
        return {"network": CUBIC, "seed": 0, **row, "macs": taps, **paid}

    @property
    def _energy(self) -> float:
        return float(self.options.energy_seconds)

    def _learned(self, recipe: Recipe, seed: int) -> dict[str, Any]:
        """Train as a user would, or resume; restore, evaluate, and measure the cost."""
        path = self._trained(recipe, seed)
        device = self.options.device
        given = [t.noisy for t in self.tests]
        restored = [
            np.asarray(restore(Volume(g, "ZYX"), str(path), device=device).data)
            for g in given
        ]
        model = bundle.load(path)
        network = model.network()
        row: dict[str, Any] = {
            "network": recipe.label,
            "seed": seed,
            **mean_figures(restored, self.tests),
            "parameters": parameters(network),
            "macs": multiplications(network),
            "training_seconds": model.card.provenance["training"]["training_seconds"],
        }
        if seed == 0:  # the cost does not depend on the weights
            large = self._timed(recipe.repeated)
            row |= cost(
                lambda: tiled(network.to(device), large, device),
                device,
                self._energy,
            )
        return row

    def _trained(self, recipe: Recipe, seed: int) -> Path:
        folder = self.folder / f"{recipe.folder}-{seed}"
        result = folder / "result" / "m"
        if result.exists():
            return result
        options = self.options
        training = config_class("supervised").create(
            **self.files(),
            name="m",
            network=recipe.network,
            network_options=dict(recipe.options),
            upscale_factor=self.factor,
            dimensions="3D",
            steps=max(1, round(recipe.share * options.steps)),
            batch_size=options.batch,
            patch=options.patch,
            learning_rate=recipe.learning_rate,
            validation=0.25,
            sampling="uniform",
            seed=seed,
            device=options.device,
            threads=options.threads,
        )
        job = TrainJob(method="supervised", training=training)
        return Path(run_to_end(train_steps(job, folder)))


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means over the seeds of one network, and the spread of their PSNR."""
    found: dict[str, Any] = {"network": rows[0]["network"], "seeds": len(rows)}
    for key in COLUMNS:
        values = [r[key] for r in rows if r.get(key) is not None]
        found[key] = statistics.fmean(values) if values else None
    psnr = [r["psnr"] for r in rows]
    found["spread"] = (max(psnr) - min(psnr)) / 2
    return found


def summaries(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one summary for each network, in the order of the recipes."""
    order = [CUBIC, *(r.label for r in RECIPES)]
    names = sorted({str(r["network"]) for r in rows}, key=order.index)
    return [summary([r for r in rows if r["network"] == name]) for name in names]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Quality and cost of each network."""
    titles = ["network", *(c.title for c in COLUMNS.values())]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in found:
        cells = []
        for key, column in COLUMNS.items():
            value = row.get(key)
            text = "–" if value is None else column.form.format(value)
            if key == "psnr" and row["seeds"] > 1:
                text += f" ± {row['spread']:.2f}"
            cells.append(text)
        lines.append(f"| {row['network']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def verdicts(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Comparison of each lightweight network with each large one."""
    by_label = {row["network"]: row for row in found}
    for light in (r.label for r in RECIPES if r.light):
        for large in (r.label for r in RECIPES if not r.light):
            if not {light, large} <= by_label.keys():
                continue
            a, b = by_label[light], by_label[large]
            gain = a["psnr"] - b["psnr"]
            size, time_ = (a[k] / b[k] for k in ("parameters", "seconds"))
            holds = gain >= -LOST_PSNR and size <= OF_PARAMETERS and time_ <= OF_TIME
            yield (
                f"| {light} | {large} | {gain:+.2f} dB | 1/{1 / size:.1f} | "
                f"1/{1 / time_:.1f} | {'reached' if holds else '**missed**'} |"
            )


def verdict_table(found: Sequence[Mapping[str, Any]]) -> str:
    """Table that shows whether the lightweight networks reach their target."""
    lines = [
        f"The target is a PSNR at most {LOST_PSNR} dB below that of the large network, "
        f"with at most 1/{1 / OF_PARAMETERS:g} of its parameters and "
        f"1/{1 / OF_TIME:g} of its time.",
        "",
        "| lightweight | large | difference in PSNR | relative number of parameters | "
        "relative time | target |",
        "|---|---|---|---|---|---|",
        *verdicts(found),
    ]
    return "\n".join(lines) + "\n"


def head(options: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the introduction to the tables."""
    fine = EDGE * options.factor
    by = sorted({r["measured_by"] for r in rows if r.get("measured_by")})
    command = (
        "python benchmarks/bench_sr_networks.py "
        f"{'--rock berea.zip ' * bool(options.rock)}--factor {options.factor} --steps "
        f"{options.steps} --seeds {options.seeds} --batch {options.batch} --patch "
        f"{options.patch} --device {options.device}"
    )
    things, others, scans = (
        ("parts of a real sandstone", "parts", ", with simulated scans")
        if options.rock
        else ("simulated foams", "foams", "")
    )
    where = "on one thread" if options.device == "cpu" else f"on {options.device}"
    joules = ""
    if by:
        joules = (
            " Energies were measured as follows (program, country, processor): "
            f"{'; '.join(by)}."
        )
    return (
        f"Generated with `{command}`. Volumes of {EDGE}³ voxels are super-resolved to "
        f"{fine}³ voxels. The networks are trained on {TRAINED_ON} {things}{scans} "
        f"(blur of {IMAGING.blur} coarse voxels, noise of {100 * IMAGING.noise:g} % of "
        f"the contrast), and tested on {JUDGED_ON} other {others}. They are trained "
        f"for {options.steps} steps (the U-Net, which works on the fine grid, for a "
        "third of them) with the mean squared error and batches of "
        f"{options.batch} patches of {options.patch}³ coarse voxels. The number of "
        f"seeds is {options.seeds}; with several seeds, ± is half the range. "
        "Each error is the mean of the absolute errors of the specimens, relative to "
        "the known mask; its sign is that of the error for most specimens. MACs are "
        "multiply–accumulate operations per input voxel. Times "
        f"(seconds {where}) and energies (joules) are per million voxels of the "
        f"result, measured tile by tile on {2 * EDGE}³ voxels ({EDGE}³ for the "
        f"U-Net).{joules}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--factor", type=int, choices=(2, 4, 8), default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=16, help="edge in coarse voxels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--threads", type=int, help="number of threads for training (default: all)"
    )
    parser.add_argument("--energy-seconds", type=float, default=30.0)
    parser.add_argument(
        "--only", action="append", help="run only rows with this text in the label"
    )
    parser.add_argument("--work", type=Path, default=Path("build/sr_networks"))
    parser.add_argument("--rock", type=Path, help="TIFF stack, or a zip file with one")
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    parser.add_argument(
        "--quick", action="store_true", help="run a few steps with one seed"
    )
    options = parser.parse_args()
    if options.quick:
        options.steps, options.seeds, options.energy_seconds = 4, 1, 0.0
        options.batch, options.patch = 1, 8
    if options.device == "cpu":
        torch.set_num_threads(1)
    bench = Bench(options)
    recipes = [
        r
        for r in RECIPES
        if not options.only or any(part in r.label for part in options.only)
    ]
    bench.run(recipes)
    labels = {CUBIC, *(r.label for r in recipes)}
    shown = [
        r for r in bench.rows if r["network"] in labels and r["seed"] < options.seeds
    ]
    found = summaries(shown)
    text = "\n".join(
        (
            head(options, shown),
            f"### {bench.kind.capitalize()}, upscale factor {options.factor}\n",
            table(found),
            f"### {bench.kind.capitalize()}: lightweight and large networks\n",
            verdict_table(found),
        )
    )
    if options.out:
        replace_section(options.out, f"networks: {bench.kind}", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
