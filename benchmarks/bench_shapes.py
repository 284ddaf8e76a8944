"""Shapes as sparse tensors: memory and time, super-resolution and completion.

Run ``python benchmarks/bench_shapes.py memory|refine|complete``, or ``mesh --file``.
All alternatives run in the same process, on the same shapes, which were not used for
training.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

#: Number of points on each surface for measuring distances.
_SAMPLES = 3_000_000
#: Seeds of the shapes; the models were trained with other seeds.
SEEDS = range(100, 105)
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


def memory(edges: list[int]) -> None:
    """Peak memory and CPU time of a training step (four layers of eight channels)."""
    print("edge  kind    occupied %  peak MB  CPU s")
    for edge in edges:
        for kind in ("sparse", "dense") if edge <= 128 else ("sparse",):
            command = [sys.executable, "-c", _STEP, kind, str(edge)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            share, peak, seconds = map(float, done.stdout.split())
            row = f"{100 * share:10.2f}  {peak:7.0f}  {seconds:5.1f}"
            print(f"{edge:4}  {kind:6}  {row}", flush=True)


def refine(edge: int, factors: list[int]) -> None:
    """Refine coarse shapes; the true shape has `edge` voxels along each axis."""
    import torch
    from torch.nn.functional import interpolate

    from napari_geosr.inference.shapes import plan_refinement, surface_mask
    from napari_geosr.measure.shapes import compare_shapes, dice
    from napari_geosr.operations.shapes.refine import load_refiner, refined_in_memory
    from napari_geosr.physics.shapes import SOLIDS, coarsened, sampled

    torch.set_num_threads(1)
    print("shape        ×  method       Dice    band    volume %  Euler error  CPU s")
    for kind in SOLIDS:
        for factor in factors:
            rows: dict[str, list[list[float]]] = {}
            for seed in SEEDS:
                truth = sampled(SOLIDS[kind](np.random.default_rng(seed)), (edge,) * 3)
                coarse = coarsened(truth, factor)
                near, dense = surface_mask(truth), torch.from_numpy(coarse)[None, None]
                results = {}
                for name in ("shape-sr-x2", "trilinear"):
                    began = time.process_time()
                    refiner, n, _ = load_refiner(name, "cpu")
                    stages = factor.bit_length() - 1
                    plan = plan_refinement(coarse, stages, refiner.spec, n, 4 * 10**9)
                    fine = refined_in_memory(coarse, refiner, plan, "cpu")
                    results[name] = fine, time.process_time() - began
                for mode in ("trilinear", "nearest"):
                    began = time.process_time()
                    fine = interpolate(dense.float(), scale_factor=factor, mode=mode)
                    fine = fine[0, 0].numpy() > 0.5
                    results[f"{mode} once"] = fine, time.process_time() - began
                for name, (fine, seconds) in results.items():
                    found = compare_shapes(fine, truth, (1, 1, 1), "pixel")
                    band = dice(fine & near, truth & near)
                    rows.setdefault(name, []).append(
                        [
                            found.dice,
                            band,
                            100 * found.volume_error,
                            found.euler_error,
                            seconds,
                        ]
                    )
            for name, values in rows.items():
                a, b, c, d, e = np.mean(values, 0)
                row = f"{a:.4f}  {b:.4f}  {c:+8.2f}  {d:+11.1f}  {e:5.1f}"
                print(f"{kind:11} {factor:2}  {name:14} {row}", flush=True)


def complete(edge: int, number: int) -> None:
    """Complete skulls from which the model was not built.

    The alternative is an upper limit for any network on a grid of 64³ voxels: the true
    skull, reduced to this grid and interpolated again. Only the surroundings of the
    missing part are evaluated.
    """
    import torch
    from scipy.ndimage import binary_dilation
    from torch.nn.functional import interpolate

    from napari_geosr.core.steps import run_to_end
    from napari_geosr.measure.shapes import compare_shapes, dice
    from napari_geosr.operations.shapes.complete import complete_mask_steps
    from napari_geosr.operations.shapes.config import CompleteShapeConfig
    from napari_geosr.operations.shapes.simulation import simulated_skull
    from napari_geosr.physics.shapes import coarsened

    torch.set_num_threads(1)
    rows, size = [], (200 / edge,) * 3
    for seed in range(100, 100 + number):
        made = simulated_skull(seed, edge)
        truth = made.complete & ~made.incomplete
        began = time.process_time()
        part = run_to_end(complete_mask_steps(made.incomplete, CompleteShapeConfig()))
        seconds = time.process_time() - began
        assert not (part.implant & made.incomplete).any()
        found = [("model", part.implant)]
        near = binary_dilation(truth, iterations=max(1, 6 * edge // 256))
        coarse = torch.from_numpy(coarsened(made.complete, edge // 64))[None, None]
        for mode in ("nearest", "trilinear"):
            fine = interpolate(coarse.float(), made.complete.shape, mode=mode)
            found.append((mode, (fine[0, 0].numpy() > 0.5) & near & ~made.incomplete))
        row = []
        for _, implant in found:
            distance = float("inf")
            if implant.any():
                agreement = compare_shapes(implant, truth, size, "mm")
                distance = agreement.hausdorff_95
            row += [dice(implant, truth), distance]
        rows.append([*row, seconds])
        line = "  ".join(f"{value:6.3f}" for value in row)
        print(f"{seed} {made.defect:10} {line}  {seconds:5.1f} s", flush=True)
    for i, name in enumerate(("model", "perfect 64³, nearest", "perfect 64³, linear")):
        low, middle, high = np.percentile([row[2 * i] for row in rows], (25, 50, 75))
        distance = np.median([row[2 * i + 1] for row in rows])
        print(f"{name:22} Dice {middle:.3f} ({low:.3f} … {high:.3f})", end="  ")
        print(f"HD95 {distance:.2f} mm")
    print(f"CPU time of the model: {np.mean([row[-1] for row in rows]):.1f} s")


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
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["memory", "refine", "complete", "mesh"])
    parser.add_argument("--file", type=Path, help="closed mesh, for mesh")
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--number", type=int, default=20)
    given = parser.parse_args()
    if given.part == "memory":
        memory([edge for edge in (64, 128, 256, 512) if edge <= given.edge])
    elif given.part == "refine":
        refine(given.edge, [2, 4])
    elif given.part == "mesh":
        mesh(given.file, [64, 90])
    else:
        complete(given.edge, given.number)


if __name__ == "__main__":
    main()
