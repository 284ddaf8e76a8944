"""Shapes are refined and segmented within the memory that may be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from napari_geosr.core.steps import never_stop, run_to_end
from napari_geosr.inference import box_counts
from napari_geosr.inference.box_counts import box_count_steps
from napari_geosr.inference.shapes import surface_mask, surface_planes
from napari_geosr.operations.shapes.simulation import simulated_skull

#: Fraction by which the peak may exceed the budget.
TOLERANCE = 0.1
#: Refines a shape, or segments a scan inside a mask, and prints the edge of the blocks,
#: the planned memory and the memory used in addition to that of the loaded libraries.
_RUN = """
import ctypes, sys
import numpy as np, scipy.ndimage, torch
from napari_geosr.inference import masked, shapes
from napari_geosr.inference.compute import exact_settings
from napari_geosr.networks import build_network
from napari_geosr.operations.shapes.refine import load_refiner

path, kind, stages, budget = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
tiny = np.zeros((8, 8, 8), bool)
tiny[:4] = True
for dense in (False, True):  # compile the loops and load the libraries
    with exact_settings(1):
        if kind == "refine":
            network, features, _ = load_refiner("shape-sr-x2", "cpu")
            network.refined(torch.from_numpy(tiny)[None, None].float(), dense=dense)
        else:
            torch.manual_seed(0)
            network = build_network(
                "surface_unet", channels=(16, 16, 24), upscale_factor=1, out_channels=3
            ).eval()
            grey, inside = torch.zeros(1, 1, 8, 8, 8), torch.from_numpy(tiny)[None]
            voxels = masked.masked_voxels(grey, inside)
            (network.dense_forward if dense else network)(voxels)
shapes.surface_mask(tiny)
ctypes.CDLL("libc.so.6").malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")

def value(name):
    with open("/proc/self/status") as status:
        return next(int(s.split()[1]) * 1024 for s in status if s.startswith(name))

base = value("VmRSS")
inside = np.load(path)
if kind == "refine":
    plan = shapes.plan_refinement(inside, stages, network.spec, features, int(budget))
    steps = shapes.refine_steps(inside, network, plan, threads=1)
else:
    plan = masked.plan_mask(inside, network.spec, 16, int(budget))
    scan = np.load(path, mmap_mode="r")
    steps = masked.label_steps(scan, inside, (0.5, 0.5), network, plan, threads=1)
for _ in steps:
    pass
dense = int(np.any(plan.dense))
print(plan.edge, dense, plan.n_bytes, value("VmHWM") - base)
"""


def shape(kind: str, edge: int) -> np.ndarray:
    if kind == "skull":
        return simulated_skull(3, edge, "none").complete
    noise = np.random.default_rng(0).standard_normal((edge,) * 3)
    return gaussian_filter(noise, 1.2) > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("task", "kind", "edge", "stages", "megabytes", "blocks", "dense"),
    [
        ("refine", "skull", 64, 1, 150, 128, False),
        ("refine", "skull", 64, 1, 100, 32, False),
        ("refine", "skull", 96, 1, 140, 48, False),
        ("refine", "skull", 48, 2, 300, 128, False),
        ("refine", "noise", 48, 1, 330, 128, True),
        ("segment", "skull", 96, 1, 80, 160, False),
        ("segment", "skull", 96, 1, 40, 48, False),
        ("segment", "noise", 64, 1, 125, 160, True),
    ],
)
def test_the_budget_is_kept(
    task: str,
    kind: str,
    edge: int,
    stages: int,
    megabytes: int,
    blocks: int,
    dense: bool,
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "shape.npy", shape(kind, edge))
    words = [str(tmp_path / "shape.npy"), task, str(stages), str(megabytes * 10**6)]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words], capture_output=True, text=True, check=True
    )
    found, is_dense, planned, peak = map(int, done.stdout.split())
    print(
        f"{task} {kind} {edge}³ ×{2**stages}: budget {megabytes} MB, "
        f"blocks {found}, planned {planned / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB"
    )
    assert (found, bool(is_dense)) == (blocks, dense)
    assert planned <= megabytes * 10**6
    assert peak <= (1 + TOLERANCE) * megabytes * 10**6
    assert peak > 0.3 * planned, "far more is planned than needed"


def test_voxels_are_counted_as_in_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(1).random((37, 21, 30)) < 0.1
    for at_once in (1, 10**9):
        monkeypatch.setattr(box_counts, "_AT_ONCE", at_once)
        steps = box_count_steps(
            mask.shape, lambda planes: (mask[planes], ~mask[planes]), never_stop
        )
        box = (slice(8, 32), slice(0, 16), slice(16, 30))
        inner = (slice(9, 31), slice(3, 12), slice(17, 29))
        for counts, each in zip(run_to_end(steps), (mask, ~mask), strict=True):
            assert counts.total == each.sum()
            assert counts.in_box(box) == counts.in_box(inner) == each[box].sum()


def test_planes_of_a_surface_are_those_of_the_whole() -> None:
    inside = simulated_skull(3, 24, "none").complete[..., :21]
    surface = maximum_filter(inside, 3) != minimum_filter(inside, 3)
    np.testing.assert_array_equal(surface_mask(inside), surface)
    near = maximum_filter(surface, 3)
    for start in range(0, 24, 5):
        planes = slice(start, min(start + 5, 24))
        found, around = surface_planes(inside, planes)
        np.testing.assert_array_equal(found, surface[planes])
        np.testing.assert_array_equal(around, near[planes])
