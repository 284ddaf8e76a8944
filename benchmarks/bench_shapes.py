"""Shapes as sparse tensors: memory and time, and super-resolution.

Run ``python benchmarks/bench_shapes.py memory|occupancy|refine|scan|large|results``,
or ``mesh --file``. All alternatives run in the same process, on the same shapes, which
were not used for training.
"""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Number of points on each surface for measuring distances.
_SAMPLES = 3_000_000
#: Seeds of the shapes; the models were trained with other seeds.
SEEDS = range(100, 105)
KINDS = ["ellipsoid", "pores", "skull", "trabeculae", "tree"]
#: Simulated scans: blur in coarse voxels, and noise relative to the contrast.
_BLUR, _NOISE = 0.5, (0.05, 0.1)
#: Bundled super-resolution models for grey values, by upscale factor.
_GREY_MODELS = {2: "foam-sr-x2", 4: "foam-sr-x4", 8: "bone-sr-x8"}
_STEP = """
import ctypes, sys, time, torch
from napari_geosr.networks.sparse import SparseTensor, SubmanifoldConvolution
torch.set_num_threads(1)
n, sparse = int(sys.argv[2]), sys.argv[1] == "sparse"
axis = torch.arange(n, dtype=torch.float32) - (n - 1) / 2
square = axis[:, None, None]**2 + axis[:, None]**2 + axis**2
shell = (square > (.369 * n)**2) & (square < (.398 * n)**2)
del square
share, places = float(shell.float().mean()), shell.nonzero()
layers = [SubmanifoldConvolution(8, 8) for _ in range(4)]
dense = [torch.nn.Conv3d(8, 8, 3, padding=1, bias=False) for _ in range(4)]
dense[0](torch.ones(1, 8, 4, 4, 4)).sum().backward()
# Compile the loops before memory and time are measured.
tiny = SparseTensor.from_coords(
    torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 8), (1, 2, 2, 2))
layers[1](layers[0](tiny)).features.sum().backward()
if sparse:
    coords = torch.cat([torch.zeros(len(places), 1, dtype=torch.long), places], 1)
    features = torch.ones(len(places), 8)
else:
    features = shell.float().expand(1, 8, n, n, n).contiguous()
del shell, places
ctypes.CDLL("libc.so.6").malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")
value = lambda name: next(int(line.split()[1]) for line in open("/proc/self/status")
                          if line.startswith(name))
base, began = value("VmRSS"), time.process_time()
if sparse:
    x = SparseTensor.from_coords(coords, features, (1, n, n, n))
    for layer in layers:
        x = layer(x)
        x = x.with_features(x.features.relu())
    x.features.square().sum().backward()
else:
    y = features
    for layer in dense:
        y = layer(y).relu()
    y.square().sum().backward()
print(share, (value("VmHWM") - base) / 1000, time.process_time() - began)
"""
_PASS = """
import ctypes, sys, time, torch
import numpy as np
from scipy.ndimage import gaussian_filter
from napari_geosr.inference.compute import exact_settings
from napari_geosr.inference.shapes import surface_mask
from napari_geosr.operations.shapes.refine import load_refiner
n, dense = int(sys.argv[2]), sys.argv[1] == "dense"
noise = np.random.default_rng(0).standard_normal((n,) * 3)
shape = gaussian_filter(noise, float(sys.argv[3])) > 0
occupied = torch.from_numpy(shape)[None, None].float()
network, _, _ = load_refiner("shape-sr-x2", "cpu")
value = lambda name: next(int(line.split()[1]) for line in open("/proc/self/status")
                          if line.startswith(name))
with exact_settings(1):
    network.refined(occupied[..., :8, :8, :8], dense=dense)  # compiles the loops
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    base, began = value("VmRSS"), time.process_time()
    network.refined(occupied, dense=dense)
    seconds = time.process_time() - began
print(surface_mask(shape).mean(), seconds, (value("VmHWM") - base) / 1000)
"""
_REFINE = """
import sys, torch
from napari_geosr.cli.app import run
torch.set_num_threads(2)
words = ["shapes", "refine", sys.argv[1], "--upscale-factor", "8", "-o", sys.argv[2]]
assert run([*words, "--memory", "4GB", "--overwrite"]) == 0
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
_RESULT = """
import ctypes, sys
import numpy as np
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.shapes import extract_surface
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes.complete import complete_mask_steps
from napari_geosr.operations.shapes.simulation import simulated_skull
def run(labels):
    volume = Volume(labels, "ZYX", (1.0,) * 3, "mm")
    run_to_layers = lambda steps, config: run_to_end(steps(volume, config))
    refine = shapes.RefineShapeConfig(model="shape-sr-x2", threads=1)
    complete = shapes.CompleteShapeConfig(threads=1)
    inside = labels.view(bool)
    return {
        "missing part": lambda: run_to_end(complete_mask_steps(inside, complete)),
        "completion": lambda: run_to_layers(shapes.completed_layer_steps, complete),
        "refinement": lambda: run_to_layers(shapes.refined_layer_steps, refine),
        "surface": lambda: extract_surface(inside, (1, 1, 1), "mm"),
    }[sys.argv[1]]()
skull = lambda n: simulated_skull(3, n, "sphere").incomplete.view(np.uint8)
run(skull(56))  # loads and compiles everything
labels = skull(int(sys.argv[2]))
ctypes.CDLL("libc.so.6").malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")
value = lambda name: next(int(line.split()[1]) for line in open("/proc/self/status")
                          if line.startswith(name))
base = value("VmRSS")
run(labels)
print((value("VmHWM") - base) * 1024)
"""


def results(edges: list[int]) -> None:
    """Peak memory in addition to the input, for each voxel of a result in memory."""
    print("| edge | result | peak memory | bytes per voxel |\n|---|---|---|---|")
    for edge in edges:
        for kind in ("missing part", "completion", "refinement", "surface"):
            given = edge // 2 if kind == "refinement" else edge
            command = [sys.executable, "-c", _RESULT, kind, str(given)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak = int(done.stdout)
            row = f"{peak / 1e6:.0f} MB | {peak / edge**3:.1f}"
            print(f"| {edge} | {kind} | {row} |", flush=True)


def occupancy(edge: int) -> None:
    """Peak memory and CPU time of one pass, for an increasing number of voxels."""
    print("| occupied | kind | CPU time | peak memory |\n|---|---|---|---|")
    for sigma in (40, 12, 6, 4, 1.5):
        for kind in ("sparse", "dense"):
            words = [sys.executable, "-c", _PASS, kind, str(edge), str(sigma)]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            share, seconds, peak = map(float, done.stdout.split())
            row = f"{100 * share:.0f} % | {kind} | {seconds:.1f} s | {peak:.0f} MB"
            print(f"| {row} |", flush=True)


def memory(edges: list[int]) -> None:
    """Peak memory and CPU time of a training step (four layers of eight channels)."""
    print("| edge | kind | occupied | peak memory | CPU time |\n|---|---|---|---|---|")
    for edge in edges:
        for kind in ("sparse", "dense") if edge <= 256 else ("sparse",):
            command = [sys.executable, "-c", _STEP, kind, str(edge)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            share, peak, seconds = map(float, done.stdout.split())
            row = f"{100 * share:.1f} % | {peak:.0f} MB | {seconds:.1f} s"
            print(f"| {edge} | {kind} | {row} |", flush=True)


def refine(
    edge: int, factors: Sequence[int], kinds: Sequence[str], number: int
) -> None:
    """Refine coarse shapes; the true shape has `edge` voxels along each axis."""
    import torch
    from torch.nn.functional import interpolate

    from napari_geosr.core.steps import run_to_end
    from napari_geosr.inference.shapes import plan_refinement
    from napari_geosr.operations.shapes.refine import (
        load_refiner,
        refined_in_memory_steps,
    )
    from napari_geosr.physics.shapes import SOLIDS, coarsened, sampled

    torch.set_num_threads(1)
    print(
        "| shape | factor | method | Dice | Dice (surface) | volume | thickness "
        "| Conn.D |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        for factor in factors:
            rows: dict[str, list[list[float]]] = {}
            for seed in SEEDS[:number]:
                truth = sampled(SOLIDS[kind](np.random.default_rng(seed)), (edge,) * 3)
                coarse = coarsened(truth, factor)
                known = ShapeFigures(truth)
                for name in ("shape-sr-x2", "trilinear"):
                    refiner, n, _ = load_refiner(name, "cpu")
                    stages = factor.bit_length() - 1
                    plan = plan_refinement(coarse, stages, refiner.spec, n, 4 * 10**9)
                    fine = run_to_end(
                        refined_in_memory_steps(coarse, refiner, plan, "cpu", 1)
                    )
                    rows.setdefault(name, []).append(known.compared(fine))
                for mode in ("trilinear", "nearest"):
                    dense = torch.from_numpy(coarse)[None, None].float()
                    fine = interpolate(dense, scale_factor=factor, mode=mode)
                    fine = fine[0, 0].numpy() > 0.5
                    rows.setdefault(f"{mode} once", []).append(known.compared(fine))
            for name, values in rows.items():
                cells = format_cells(np.asarray(values))
                print(f"| {kind} | ×{factor} | {name} | {cells} |", flush=True)


def format_cells(
    values: Array,
    signs: Sequence[str] = ("", "", "+", "+", "+"),
    digits: Sequence[int] = (4, 4, 1, 1, 0),
) -> str:
    """Return the mean and standard deviation of each column."""
    cells = []
    for column, sign, n in zip(values.T, signs, digits, strict=True):
        if not np.isfinite(column).all():
            cells.append("–")
            continue
        spread = f" ± {column.std(ddof=1):.{n}f}" if len(column) > 1 else ""
        unit = " %" if sign else ""
        cells.append(f"{column.mean():{sign}.{n}f}{spread}{unit}")
    return " | ".join(cells)


class ShapeFigures:
    """Measures of a true shape, with which other shapes are compared."""

    def __init__(self, truth: Mask) -> None:
        self.truth = truth
        self.near = _near(truth)
        self.thickness = _thickness(truth)
        self.connections = _connections(truth)

    def compared(self, fine: Mask) -> list[float]:
        """Dice coefficients; errors of volume, thickness and connectivity in %.

        The connectivity (Conn.D, 1 minus the Euler number, per volume) is not compared
        if there are fewer than ten connections.
        """
        from napari_geosr.measure.shapes import dice

        lost = math.nan
        if self.connections >= 10:
            lost = 100 * (_connections(fine) / self.connections - 1)
        return [
            dice(fine, self.truth),
            _dice_within(fine, self.truth, self.near),
            100 * (np.count_nonzero(fine) / np.count_nonzero(self.truth) - 1),
            100 * (_thickness(fine) / self.thickness - 1),
            lost,
        ]


def scan(edge: int, factors: Sequence[int], kinds: Sequence[str], number: int) -> None:
    """Compare the structure found in low-resolution scans with that of the object.

    Scans are the volume fraction of the solid in coarse voxels, blurred and with noise.
    They are segmented by Otsu's method and then refined, or interpolated or
    super-resolved in grey values and then segmented.
    """
    import torch

    from napari_geosr.physics.shapes import SOLIDS, sampled

    torch.set_num_threads(1)
    print("| shape | factor | method | porosity | Tb.Th | Tb.Sp | Dice (surface) |")
    print("|---|---|---|---|---|---|---|")
    for kind, factor in itertools.product(kinds, factors):
        rows: dict[str, list[list[float]]] = {}
        for seed in SEEDS[:number]:
            rng = np.random.default_rng(seed)
            truth = sampled(SOLIDS[kind](rng), (edge,) * 3)
            near, size = _near(truth), (_thickness(truth), _thickness(~truth))
            for name, fine in _segmented(_scanned(truth, factor, rng), factor):
                rows.setdefault(name, []).append(
                    [
                        100 * (np.mean(~fine) / np.mean(~truth) - 1),
                        100 * (_thickness(fine) / size[0] - 1),
                        100 * (_thickness(~fine) / size[1] - 1),
                        _dice_within(fine, truth, near),
                    ]
                )
        for name, values in rows.items():
            cells = format_cells(np.asarray(values), ("+", "+", "+", ""), (1, 1, 1, 4))
            print(f"| {kind} | ×{factor} | {name} | {cells} |", flush=True)


def _scanned(truth: Mask, factor: int, rng: np.random.Generator) -> Array:
    """Volume fraction of the solid in coarse voxels, blurred, and with noise."""
    from scipy.ndimage import gaussian_filter

    n = len(truth) // factor
    fraction = truth.reshape((n, factor) * 3).mean((1, 3, 5))
    noise = rng.uniform(*_NOISE) * rng.normal(size=fraction.shape)
    return gaussian_filter(fraction, _BLUR, mode="nearest") + noise


def _segmented(scan: Array, factor: int) -> Iterator[tuple[str, Mask]]:
    """Yield the segmentations of a scan on the fine grid, by method."""
    from skimage.filters import threshold_otsu

    from napari_geosr import restore
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.inference.shapes import plan_refinement
    from napari_geosr.operations.shapes.refine import (
        load_refiner,
        refined_in_memory_steps,
    )

    coarse = scan > threshold_otsu(scan)
    nearest = coarse
    for axis in range(3):
        nearest = nearest.repeat(factor, axis)
    yield "Otsu, nearest", nearest
    for name in ("trilinear", "shape-sr-x2"):
        refiner, n, _ = load_refiner(name, "cpu")
        stages = factor.bit_length() - 1
        plan = plan_refinement(coarse, stages, refiner.spec, n, 4 * 10**9)
        steps = refined_in_memory_steps(coarse, refiner, plan, "cpu", 1)
        yield f"Otsu, {name}", run_to_end(steps)
    model = _GREY_MODELS[factor]
    for name, sharpness in (
        (f"cubic-x{factor}", "scan"),
        (model, "scan"),
        (model, "object"),
    ):
        fine = restore(scan, name, sharpness=sharpness, device="cpu", threads=1).data
        title = f"{name} ({sharpness}), Otsu" if name == model else f"{name}, Otsu"
        yield title, np.asarray(fine) > threshold_otsu(np.asarray(fine))


def _near(truth: Mask) -> Mask:
    """Voxels near the surface of the true shape."""
    from napari_geosr.inference.shapes import surface_mask

    return surface_mask(truth)


def _dice_within(fine: Mask, truth: Mask, near: Mask) -> float:
    from napari_geosr.measure.shapes import dice

    return float(dice(fine & near, truth & near))


def _thickness(shape: Mask) -> float:
    """Return the mean local thickness (Tb.Th), in voxels."""
    from napari_geosr.measure.local_thickness.spheres import local_thickness

    return float(local_thickness(shape)[shape].mean())


def _connections(shape: Mask) -> int:
    """Number of connections: 1 minus the Euler number (Odgaard and Gundersen 1993)."""
    from skimage.measure import euler_number

    return 1 - int(euler_number(shape, 3))


def large(edge: int) -> None:
    """Refine a coarse skull by a factor of 8 on two threads, from file to file."""
    from napari_geosr import io
    from napari_geosr.core.volume import Volume
    from napari_geosr.physics.shapes import SOLIDS, coarsened, sampled

    truth = sampled(SOLIDS["skull"](np.random.default_rng(100)), (edge // 4,) * 3)
    coarse = coarsened(truth, 2).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "coarse.tif"), Path(folder, "fine.ome.zarr")
        io.write(Volume(coarse, "ZYX", (1.6,) * 3, "mm"), source)
        command = [sys.executable, "-c", _REFINE, str(source), str(target)]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, peak = time.monotonic() - began, int(done.stdout.split()[-1]) / 1000
    print(f"{coarse.shape} ×8: {seconds:.0f} s, {peak:.0f} MB at most")


def mesh(path: Path, edges: list[int]) -> None:
    """Voxelise a mesh, coarsen it by four, refine it, and extract its surface."""
    import trimesh
    from scipy.spatial import cKDTree

    truth = trimesh.load_mesh(path)
    print("longest  model        closed  volume %  HD95 (fine voxels)  largest")
    for edge in edges:
        size = float(truth.extents.max()) / (4 * edge - 8)
        for model in ("shape-sr-x2", "trilinear"):
            with tempfile.TemporaryDirectory() as folder:
                found = trimesh.load_mesh(_remeshed(path, size, model, Path(folder)))
            # Dense samples; their spacing adds less than 0.02 voxels to the distances.
            dense = [
                trimesh.sample.sample_surface(s, _SAMPLES, seed=1)[0]
                for s in (truth, found)
            ]
            there = cKDTree(dense[0]).query(dense[1][::16])[0]
            back = cKDTree(dense[1]).query(dense[0][::16])[0]
            distances = np.concatenate([there, back]) / size
            change = 100 * (found.volume / truth.volume - 1)
            row = f"{change:+8.2f}  {np.percentile(distances, 95):18.2f}"
            row = f"{found.is_watertight!s:6}  {row}  {distances.max():7.2f}"
            print(f"{edge:7}  {model:11}  {row}", flush=True)


def _remeshed(path: Path, size: float, model: str, folder: Path) -> Path:
    """The surface of a mesh after coarsening its voxels of edge `size` and refining."""
    from napari_geosr import io
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.operations import shapes
    from napari_geosr.physics.shapes import coarsened

    config = shapes.VoxeliseConfig.create(voxel_size=size)
    run_to_end(shapes.voxelise_steps(path, folder / "voxels.tif", config))
    volume = io.read(folder / "voxels.tif")
    inside = np.asarray(volume.data) > 0
    padded = np.pad(inside, [(0, -n % 4) for n in inside.shape])
    coarse = volume.replace(
        data=coarsened(padded, 4).astype(np.uint8),
        voxel_size=(4 * size,) * 3,
        origin=tuple(place + 1.5 * size for place in volume.origin),
    )
    config = shapes.RefineShapeConfig.create(upscale_factor=4, model=model)
    run_to_end(shapes.refine_shape_steps(coarse, folder / "fine.tif", config))
    fine, surface = io.read(folder / "fine.tif"), folder / "fine.stl"
    run_to_end(shapes.mesh_steps(fine, surface, shapes.MeshConfig()))
    return surface


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = [
        "memory",
        "occupancy",
        "refine",
        "scan",
        "mesh",
        "large",
        "results",
    ]
    parser.add_argument("part", choices=parts)
    parser.add_argument("--file", type=Path, help="closed mesh, for mesh")
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--number", type=int, default=20, help="shapes of each kind")
    parser.add_argument("--factors", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    given = parser.parse_args()
    if given.part == "memory":
        memory([edge for edge in (64, 128, 256, 512) if edge <= given.edge])
    elif given.part == "occupancy":
        occupancy(given.edge)
    elif given.part == "refine":
        refine(given.edge, given.factors, given.kinds, min(given.number, len(SEEDS)))
    elif given.part == "scan":
        scan(given.edge, given.factors, given.kinds, min(given.number, len(SEEDS)))
    elif given.part == "results":
        results([edge for edge in (128, 192, 256) if edge <= given.edge])
    elif given.part == "large":
        large(given.edge)
    else:
        mesh(given.file, [64, 90])


if __name__ == "__main__":
    main()
