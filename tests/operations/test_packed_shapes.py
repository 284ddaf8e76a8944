"""Masks of one bit per voxel give the same results as arrays of bool."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_geosr import io
from napari_geosr.core.array_parts import packed_mask
from napari_geosr.core.array_parts.packed_mask import PackedMask, count_inside
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.steps import TileDone, never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference import masked, shapes
from napari_geosr.networks import build_network
from napari_geosr.operations.shapes import RefineShapeConfig, SegmentInsideConfig
from napari_geosr.operations.shapes.inside.thresholds import read_beyond_steps
from napari_geosr.operations.shapes.masks import read_packed_steps, read_shape_steps
from napari_geosr.operations.shapes.refine import ChangeCounter, plan_shape_steps
from napari_geosr.physics.shapes import sampled, trabeculae


def packed(inside: np.ndarray) -> PackedMask:
    made = PackedMask(inside.shape)
    for z in range(0, len(inside), 5):
        made.write(z, inside[z : z + 5])
    return made


def sample(shape: tuple[int, ...] = (37, 22, 30)) -> np.ndarray:
    return sampled(trabeculae(np.random.default_rng(5)), shape)


def results(steps) -> list[tuple]:
    return [(s.slices, s.array) for s in steps if isinstance(s, TileDone)]


def assert_equal(found: list[tuple], expected: list[tuple]) -> None:
    assert len(found) == len(expected) > 1
    for (place, values), (where, others) in zip(found, expected, strict=True):
        assert place == where
        np.testing.assert_array_equal(values, others)


def test_boxes_equal_those_of_the_array() -> None:
    rng = np.random.default_rng(1)
    for width in (1, 7, 8, 9, 30):
        inside = rng.random((6, 5, width)) < 0.4
        mask = packed(inside)
        assert mask.count() == count_inside(mask) == inside.sum()
        assert (mask.shape, mask.size) == (inside.shape, inside.size)
        np.testing.assert_array_equal(mask[2:4], inside[2:4])
        for start in range(width):
            for stop in range(start, width + 1):
                box = (slice(1, 6), slice(0, 4), slice(start, stop))
                found = mask[box]
                assert found.dtype == bool
                np.testing.assert_array_equal(found, inside[box])


def test_a_large_mask_is_stored_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = sample()
    assert packed(inside).nbytes == 37 * 22 * 4
    monkeypatch.setattr(packed_mask, "MOST_BYTES_IN_MEMORY", 37 * 22 * 4 - 1)
    stored = packed(inside)
    assert stored.nbytes == 0
    assert stored.count() == inside.sum()
    np.testing.assert_array_equal(stored[:], inside)


def test_a_large_mask_without_a_file_counts_against_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = Volume(sample().astype(np.uint8), "ZYX", name="bone")
    beyond = SegmentInsideConfig.create(model="any", above=0.5)
    monkeypatch.setattr(packed_mask, "is_in_memory", lambda _: True)
    for budget in (10, 10**6):
        assert run_to_end(read_packed_steps(volume, None, budget, never_stop)).nbytes
    monkeypatch.setattr(packed_mask, "MOST_BYTES_IN_MEMORY", 99)
    assert run_to_end(read_packed_steps(volume, None, 10**6, never_stop)).nbytes > 99
    for steps in (
        read_packed_steps(volume, None, 3000, never_stop),
        read_beyond_steps(volume, beyond, 3000, never_stop),
    ):
        with pytest.raises(
            DeviceMemoryError, match=r"mask of 'bone' needs 3.26 kB.*3 kB.*TMPDIR"
        ):
            run_to_end(steps)


def test_a_refinement_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_EDGES", (16,))
    inside = sample()
    inside[:, :, 14:] = True
    refiner = build_network("interpolation")
    by_kind, changes = [], []
    for mask in (inside, packed(inside)):
        plan = shapes.plan_refinement(mask, 2, refiner.spec, 4, 10**12)
        assert not all(plan.busy)
        found = list(shapes.refine_steps(mask, refiner, plan))
        counter = ChangeCounter(mask, plan)
        for step in found:
            if isinstance(step, TileDone):
                counter.add(step)
        by_kind.append(results(found))
        changes.append((counter.n_fine, counter.n_changed, counter.volume_change))
    assert_equal(by_kind[1], by_kind[0])
    assert changes[1] == changes[0]


def test_a_segmentation_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "_EDGES", (16,))
    torch.manual_seed(1)
    network = build_network(
        "surface_unet", channels=(4, 4), upscale_factor=1, out_channels=3
    ).eval()
    inside = sample() & (np.arange(30) < 14)
    scan = np.random.default_rng(2).normal(size=inside.shape).astype(np.float32)
    by_kind = []
    for mask in (inside, packed(inside)):
        plan = masked.plan_mask(mask, network.spec, 4, 10**12)
        steps = masked.label_steps(scan, mask, (0.0, 1.0), network, plan)
        by_kind.append(results(steps))
    assert any(labels.any() for _, labels in by_kind[0])
    assert_equal(by_kind[1], by_kind[0])


@pytest.mark.parametrize("suffix", ["ome.zarr", "h5", "tif"])
@pytest.mark.parametrize("label", [None, 2])
def test_a_file_is_read_as_into_an_array(
    suffix: str, label: int | None, tmp_path: Path
) -> None:
    values = (label or 1) * sample().astype(np.uint8)
    if label:
        values[0, 0, 0] = 1
    path = tmp_path / f"shape.{suffix}"
    if suffix == "h5":
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        with h5py.File(path, "w") as file:
            file["data"] = values
        volume = io.read(path)
    else:
        io.write(Volume(values, "ZYX", (1.0,) * 3, "mm"), path, kind="labels")
        volume = io.read(path)
    expected = run_to_end(read_shape_steps(volume, label, never_stop))
    found = run_to_end(read_packed_steps(volume, label, 0, never_stop))
    np.testing.assert_array_equal(found[:], expected)


def test_a_small_budget_suffices_for_a_large_shape() -> None:
    """The memory of the plan is less than one byte per voxel."""
    labels = np.zeros((256, 512, 512), np.uint8)
    labels[100:140, 200:240, 200:240] = 1
    config = RefineShapeConfig(model="trilinear", memory="64MB", threads=1)
    steps = plan_shape_steps(Volume(labels, "ZYX"), config, never_stop)
    ready = run_to_end(steps)
    assert ready.plan.n_bytes < 64 * 10**6 < labels.size
    assert ready.plan.n_active == 42**3 - 38**3
    assert ready.inside.nbytes == labels.size // 8


#: Segments a large scan inside a small mask, and prints the memory used in addition to
#: that of a small run.
_RUN = """
import ctypes, sys
from pathlib import Path
from napari_geosr import io
from napari_geosr.core.steps import run_to_end
from napari_geosr.inference import masked
from napari_geosr.networks import build_network
from napari_geosr.operations.shapes.masks import cached_within, read_packed_steps

def value(name):
    with open("/proc/self/status") as status:
        return next(int(s.split()[1]) * 1024 for s in status if s.startswith(name))

def run(name):
    mask = io.read(Path(sys.argv[1]) / name)
    budget = 60_000_000
    inside = run_to_end(read_packed_steps(mask, None, budget, lambda: False))
    with cached_within(mask.data, budget) as held:
        plan = masked.plan_mask(inside, network.spec, 4, budget, held=held)
        steps = masked.label_steps(
            mask.data, inside, (0.5, 0.5), network, plan, threads=1
        )
        return sum(int(step.array.astype(bool).sum()) for step in steps)

network = build_network("surface_unet", channels=(4, 4), upscale_factor=1).eval()
run("small.ome.zarr")
ctypes.CDLL("libc.so.6").malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")
base = value("VmRSS")
print(run("large.ome.zarr"), value("VmHWM") - base)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak memory is not known"
)
def test_the_peak_is_below_the_size_of_the_mask(tmp_path: Path) -> None:
    for name, shape in (("small", (32, 32, 32)), ("large", (512, 512, 512))):
        values = np.zeros(shape, np.uint8)
        values[8:24, 8:24, 8:24] = 1
        path = tmp_path / f"{name}.ome.zarr"
        io.write(Volume(values, "ZYX", (1.0,) * 3, "mm"), path, kind="labels")
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    n_labelled, peak = map(int, done.stdout.split())
    print(f"peak {peak / 1e6:.0f} MB, mask {values.size / 1e6:.0f} MB")
    assert n_labelled == 16**3
    assert peak < 1.2 * 74e6  # measured: 74 MB
