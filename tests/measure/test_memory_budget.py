"""Pores are released as soon as they are complete; no figure changes."""

from __future__ import annotations

import math
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from pore_shapes import label_by_slabs

from napari_geosr import measure_porosity
from napari_geosr.cli.app import run as command
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.measure import blocks, budget
from napari_geosr.measure.blocks import SlabLabeller
from napari_geosr.measure.budget import min_bytes, plan_slabs
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.small_pores import SmallPores
from napari_geosr.operations import storage


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.35])
@pytest.mark.parametrize("thickness", [1, 3])
def test_taking_pores_out_early_changes_no_bit(
    connectivity: int,
    density: float,
    thickness: int,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pores = rng.random((14, 25, 27)) < density
    sample = rng.random(pores.shape) < 0.95
    options: Any = {
        "connectivity": connectivity,
        "thickness": thickness,
        "sample": sample,
        "voxel_size": (0.7, 1.1, 1.3),
    }
    whole, labels = label_by_slabs(pores & sample, **options)
    monkeypatch.setattr(blocks, "_MIN_COMPACTION_LABELS", 0)
    early, others = label_by_slabs(pores & sample, **options)
    np.testing.assert_array_equal(early.rows, whole.rows)
    np.testing.assert_array_equal(early.boundary, whole.boundary)
    np.testing.assert_array_equal(others, labels)


def test_small_pores_are_added_up(rng: np.random.Generator) -> None:
    pores = rng.random((12, 25, 27)) < 0.12
    whole, _ = label_by_slabs(pores, thickness=4)
    labeller = SlabLabeller((12, 25, 27), (1.0, 1.0, 1.0), 26, min_voxels=5)
    for z in range(0, 12, 4):
        labeller.add(pores[z : z + 4], None)
    found = labeller.finish()
    count = whole.rows[:, column.COUNT]
    small, rest = count < 5, found.small
    np.testing.assert_array_equal(found.rows, whole.rows[~small])
    assert rest.n == small.sum()
    assert rest.single == (count == 1).sum()
    assert rest.voxels == count[small].sum()
    touches = whole.rows[:, column.TOUCHES] != 0
    assert rest.open_voxels == count[small & touches].sum()
    assert rest.euler8 // 8 == whole.euler_number[small].sum()
    surfaces = [*found.surface, *rest.surface_parts]
    assert math.fsum(surfaces) == math.fsum(whole.surface)


def test_the_sum_of_surfaces_is_not_rounded() -> None:
    small = SmallPores()
    boundary = np.zeros((3, 2))
    boundary[:, column.SURFACE] = [0.1, 0.1, 1e20]
    small.add(np.zeros((3, column.N_COLUMNS), np.int64), boundary)
    assert math.fsum([*small.surface_parts, -1e20, -0.1]) == 0.1


def specks(rng: np.random.Generator, shape: tuple[int, int, int]) -> Volume:
    data = rng.normal(180, 10, shape).clip(0, 255).astype(np.uint8)
    data[rng.random(shape) < 0.01] = 20
    data[4:14, 10:30, 10:30] = 20
    return Volume(data, "ZYX", (2.0, 2.0, 2.0), "µm", name="specks")


def test_specks_of_noise_take_no_memory(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_MIN_COMPACTION_LABELS", 1000)
    pores = rng.random((64, 128, 128)) < 0.01

    def peak(n: int) -> int:
        labeller = SlabLabeller((n, 128, 128), (1.0, 1.0, 1.0), 26, min_voxels=8)
        tracemalloc.start()
        for z in range(0, n, 4):
            labeller.add(pores[z : z + 4], None)
        labeller.finish()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(8)  # compile first
    n_labels = 48 * 128 * 128 * 0.01
    assert peak(64) - peak(16) < 16 * n_labels  # 500 bytes each in earlier releases


def test_a_budget_changes_no_figure(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = specks(rng, (40, 48, 50))
    plain = measure_porosity(volume)
    monkeypatch.setattr(storage, "free_host_memory", lambda: 10**12)
    enough = 250_000_000
    # the labels are written to disk
    monkeypatch.setattr(storage, "_RESULT_SHARE", 1e-4)
    report = measure_porosity(volume, memory=str(enough))
    assert not isinstance(report.labels, np.ndarray)
    assert report.to_json_dict() == plain.to_json_dict()
    for name, values in plain.table.items():
        np.testing.assert_array_equal(report.table[name], values)
    np.testing.assert_array_equal(np.asarray(report.labels[:]), plain.labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("connectivity", [6, 26])
def test_thin_slabs_change_no_figure(
    dtype: type, connectivity: int, rng: np.random.Generator
) -> None:
    """Not even the last digit depends on the slabs or on the first slices."""
    noisy = specks(rng, (40, 48, 50))
    data = np.asarray(noisy.data).astype(dtype)
    # the grey values of the first slabs are not representative
    data[:8] = data[:8] // 8 + 150
    volume = noisy.replace(data=data)
    plain = measure_porosity(volume, connectivity=connectivity)
    least = min_bytes(volume.data) + 4 * data.size
    plan = plan_slabs(
        PorosityConfig(memory=f"{least}"),
        data,
        None,
        held=4 * data.size,
        has_interval=False,
        name="a",
    )
    assert plan.thickness == 4 < plan.standard == 40
    thin = measure_porosity(volume, connectivity=connectivity, memory=f"{least}")
    assert thin.to_json_dict() == plain.to_json_dict()
    for name, values in plain.table.items():
        np.testing.assert_array_equal(thin.table[name], values, err_msg=name)
    np.testing.assert_array_equal(np.asarray(thin.labels[:]), plain.labels)


def test_the_smallest_budget_is_that_of_the_refusal(rng: np.random.Generator) -> None:
    volume = specks(rng, (40, 48, 50))
    with pytest.raises(VolumeError, match="needs at least") as refused:
        measure_porosity(volume, memory="50MB")
    enough = re.search(r"at least ([\d.]+) MB", str(refused.value))
    assert enough is not None
    assert float(enough[1]) < 95  # formerly 60 MB and 25 bytes per voxel of a slab
    report = measure_porosity(volume, memory=f"{enough[1]}MB")
    assert report.pore_count == measure_porosity(volume).pore_count


def test_chunks_are_read_once_for_all_their_slabs(rng: np.random.Generator) -> None:
    read: list[slice] = []

    class Chunked:
        """The volume as a zarr with chunks of 16 planes."""

        shape, ndim, dtype, chunks = (40, 64, 64), 3, np.dtype(np.uint8), (16, 64, 64)
        data = rng.integers(0, 255, shape).astype(np.uint8)

        def __getitem__(self, key: slice) -> np.ndarray:
            read.append(key)
            return self.data[key]

    source = Chunked()
    least = min_bytes(source)
    plan = plan_slabs(
        PorosityConfig(memory=f"{least + 300_000}"),
        source,
        None,
        held=0,
        has_interval=False,
        name="a",
    )
    assert plan.thickness < 16
    for z in range(0, 40, plan.thickness):
        slab = slice(z, min(z + plan.thickness, 40))
        np.testing.assert_array_equal(plan.source[slab], source.data[slab])
    assert [(key.start, key.stop) for key in read] == [(0, 32), (32, 40)]


def test_without_a_budget_the_free_memory_is_one(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "free_host_memory", lambda: 10**6)
    with pytest.raises(VolumeError, match=r"needs at least .* but 1 MB is free"):
        measure_porosity(specks(rng, (20, 48, 50)))


def test_a_budget_that_is_too_small_is_refused(rng: np.random.Generator) -> None:
    volume = specks(rng, (20, 48, 50))
    with pytest.raises(VolumeError, match=r"needs at least .* of memory"):
        measure_porosity(volume, memory="1MB")
    with pytest.raises(ConfigError, match="not an amount of memory"):
        measure_porosity(volume, memory="much")


def test_the_command_has_the_option(
    rng: np.random.Generator, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_geosr import io

    path = io.write(specks(rng, (20, 48, 50)), tmp_path / "a.tif")
    arguments = ["measure", str(path), "--out"]
    assert command([*arguments, str(tmp_path / "one"), "--json"]) == 0
    plain = capsys.readouterr().out
    options = ["--json", "--memory", "1GB"]
    assert command([*arguments, str(tmp_path / "two"), *options]) == 0
    assert capsys.readouterr().out == plain
