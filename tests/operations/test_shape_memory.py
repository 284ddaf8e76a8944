"""The memory of shapes in memory is not larger than estimated before a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.operations.shapes import memory, shell

#: Peak memory, in addition to the input, after a first run that loads everything.
CODE = """
import ctypes, sys, types
from pathlib import Path
import numpy as np
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.shapes import compare_shapes, extract_surface
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes.complete import complete_mask_steps
from napari_geosr.operations.shapes.memory import (
    bytes_for_comparison, bytes_for_reduction, bytes_for_result, bytes_for_surface,
    count_faces)
from napari_geosr.operations.shapes.meshing import write_surface
from napari_geosr.operations.shapes.refine import plan_shape_steps
from napari_geosr.operations.shapes.simulation import simulated_skull
from scipy.ndimage import gaussian_filter
def simplify(points, triangles, target_count):  # as much memory as the package
    simplify.kept = np.ones(396 * len(triangles), np.uint8)
    return points.astype("f4"), triangles[:target_count].astype("i4")
try:
    import fast_simplification
except ImportError:
    made = sys.modules["fast_simplification"] = types.ModuleType("fast_simplification")
    made.simplify = simplify
def run(labels):
    inside, volume = labels.view(bool), Volume(labels, "ZYX")
    if sys.argv[1] == "reduced surface":
        config = shapes.MeshConfig(faces=300)
        return write_surface(inside, volume, Path(sys.argv[4]), config, overwrite=True)
    if sys.argv[1] == "comparison":
        return compare_shapes(inside, inside[::-1], (1, 1, 1), "mm")
    if sys.argv[1] in ("surface", "rough surface"):
        return extract_surface(inside, (1, 1, 1), "pixel")
    if sys.argv[1] == "refinement":
        config = shapes.RefineShapeConfig(threads=1)
        return run_to_end(shapes.refined_layer_steps(volume, config))
    config = shapes.CompleteShapeConfig(threads=1)
    if sys.argv[1] == "missing part":
        return run_to_end(complete_mask_steps(inside, config))
    return run_to_end(shapes.completed_layer_steps(volume, config))
def shape(n):
    if sys.argv[1] in ("comparison", "rough surface", "reduced surface"):
        noise = np.random.default_rng(0).standard_normal((n, n, n), np.float32)
        return (gaussian_filter(noise, 1.0) > 0).view(np.uint8)
    return simulated_skull(3, n, "sphere").incomplete.view(np.uint8)
run(shape(56 if "skull" in sys.argv[3] else 24))
labels = shape(int(sys.argv[2]))
ctypes.CDLL("libc.so.6").malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")
value = lambda name: next(int(line.split()[1]) for line in open("/proc/self/status")
                          if line.startswith(name))
base = value("VmRSS")
run(labels)
peak = (value("VmHWM") - base) * 1024
n_faces, factor = count_faces(labels), 1 + (sys.argv[1] == "refinement")
plan = None
if factor > 1:
    config = shapes.RefineShapeConfig(threads=1)
    steps = plan_shape_steps(Volume(labels, "ZYX"), config, lambda: False)
    plan = run_to_end(steps).plan
computing = plan.n_bytes if plan else 0
estimate = bytes_for_result(labels.shape, n_faces, factor, computing)
if "surface" in sys.argv[1]:
    estimate = bytes_for_surface(labels.shape, n_faces)
if "reduced" in sys.argv[1]:
    estimate = bytes_for_reduction(n_faces, 300)
if sys.argv[1] == "comparison":
    estimate = bytes_for_comparison(labels.size, 2 * n_faces)
print(peak, estimate)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak memory is not known"
)
@pytest.mark.parametrize(
    ("kind", "edge", "shape"),
    [
        ("refinement", 64, "skull"),
        ("completion", 128, "skull"),
        ("missing part", 128, "skull"),
        ("surface", 128, "skull"),
        ("rough surface", 64, "noise"),
        ("reduced surface", 48, "noise"),
        ("comparison", 96, "noise"),
    ],
)
def test_the_estimate_is_not_too_small(
    kind: str, edge: int, shape: str, tmp_path: Path
) -> None:
    if kind == "reduced surface":
        pytest.importorskip("trimesh", reason="trimesh is not installed")
    out = str(tmp_path / "a.stl")
    words = [sys.executable, "-c", CODE, kind, str(edge), shape, out]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    peak, estimate = map(int, done.stdout.split())
    if kind == "missing part":
        estimate = shell.bytes_for_completion(edge**3)
    assert peak < 1.05 * estimate
    assert estimate < 15 * peak  # of some use


def test_a_reduced_surface_needs_more_memory(monkeypatch) -> None:
    noise = np.random.default_rng(0).random((24,) * 3) > 0.5
    needed = memory.bytes_for_surface(noise.shape, memory.count_faces(noise))
    monkeypatch.setattr(memory, "free_host_memory", lambda: needed)
    memory.check_surface_memory(noise)
    memory.check_surface_memory(noise, 10**6)  # has fewer triangles anyway
    with pytest.raises(DeviceMemoryError, match="to 100 triangles needs"):
        memory.check_surface_memory(noise, 100)
