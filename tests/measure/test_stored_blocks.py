"""Budgets of a measurement include the blocks in which the volume is stored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import measure_porosity
from napari_geosr.core.config import parse_bytes
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.io.lazy import LazyArray, read_unit
from napari_geosr.measure.budget import SlabPlan, least_bytes, min_bytes, plan_slabs
from napari_geosr.measure.companions import companion_bytes, companions_of
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.operations.measure.mask import ResampledMask

MB = 10**6
SHAPE = (200, 256, 256)


class Stored:
    """Voxels whose blocks are decoded as a whole."""

    def __init__(self, voxels: np.ndarray) -> None:
        self.voxels, self.shape, self.dtype = voxels, voxels.shape, voxels.dtype
        self.n_read = 0

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        self.n_read += 1
        return self.voxels[key]


def lazy(voxels: np.ndarray, chunks: tuple[int, ...]) -> LazyArray:
    return LazyArray(Stored(voxels), Path("a.zarr"), chunks)


def planned(source: LazyArray, budget: int) -> SlabPlan:
    return plan_slabs(
        PorosityConfig(memory=str(budget)),
        source,
        None,
        held=0,
        has_interval=False,
        name="a",
    )


def cached(plan: SlabPlan) -> int:
    return sum(nbytes for _, nbytes in plan.caches)


@pytest.fixture
def single() -> LazyArray:
    """One block of 26 MB."""
    return lazy(np.zeros(SHAPE, np.uint16), SHAPE)


def test_the_smallest_budget_has_room_for_the_block(single: LazyArray) -> None:
    unit = read_unit(single)
    assert unit is not None
    plain = min_bytes(np.zeros(SHAPE, np.uint16))
    least = min_bytes(single)
    assert least == plain + unit.held_bytes(unit.nbytes)
    plan = planned(single, least)
    assert plan.caches == ((single, unit.nbytes),)
    assert plan.warnings == ()
    with pytest.raises(VolumeError, match="needs at least"):
        planned(single, least - 1)


def test_slabs_of_whole_blocks_need_no_cache() -> None:
    source = lazy(np.zeros(SHAPE, np.uint16), (32, 32, 32))
    plan = planned(source, 10**9)
    assert plan.thickness == plan.standard == 64
    assert cached(plan) == 0
    plan = planned(source, 130 * MB)
    assert plan.thickness < 32
    assert cached(plan) > 0
    assert plan.warnings == ()


def test_repeated_decoding_is_announced() -> None:
    """Blocks of 16 planes; a layer of blocks does not fit in addition to the slabs."""
    source = lazy(np.zeros((64, 1024, 1024), np.uint16), (16, 64, 64))
    least = min_bytes(source)
    plan = planned(source, least)
    assert cached(plan) == 0
    (message,) = plan.warnings
    assert "blocks of 16 × 64 × 64 voxels (131 kB)" in message
    assert re.search(r"decoded about \d+ times", message)
    enough = re.search(r"([\d.]+ MB) would suffice", message)
    assert enough is not None
    assert parse_bytes(enough[1]) > least
    assert planned(source, parse_bytes(enough[1])).warnings == ()


def test_a_budget_changes_no_figure_and_reads_no_block_twice(
    rng: np.random.Generator, monkeypatch: Any
) -> None:
    voxels = rng.normal(180, 10, (40, 64, 64)).clip(0, 255).astype(np.uint8)
    voxels[8:20, 10:30, 10:30] = 20
    plain = measure_porosity(Volume(voxels, "ZYX", (2.0, 2.0, 2.0), "µm"))
    source = lazy(voxels, voxels.shape)
    volume = Volume(source, "ZYX", (2.0, 2.0, 2.0), "µm")
    least = min_bytes(source) + 4 * voxels.size
    report = measure_porosity(volume, memory=str(least))
    assert report.to_json_dict() == plain.to_json_dict()
    stored: Any = source.source
    assert stored.n_read == 1


def test_too_small_a_budget_is_refused_before_anything_is_read(
    single: LazyArray,
) -> None:
    volume = Volume(single, "ZYX")
    for mask in ("none", "auto"):
        with pytest.raises(VolumeError, match="needs at least") as refused:
            measure_porosity(volume, memory="100MB", sample_mask=mask)
        stored: Any = single.source
        assert stored.n_read == 0
        found = re.search(r"at least ([\d.]+ MB)", str(refused.value))
        assert found is not None
        extra = 0 if mask == "none" else 10 * single.size
        assert parse_bytes(found[1]) >= min_bytes(single) + extra


def test_masks_and_deviations_are_counted(single: LazyArray) -> None:
    """They are decoded in blocks as well, in addition to those of the volume."""
    source = np.zeros(SHAPE, np.uint16)
    unit = read_unit(single)
    assert unit is not None
    plain = min_bytes(source)
    kept, not_kept = unit.held_bytes(unit.nbytes), unit.held_bytes(0)
    needed = min_bytes(source, companions=[single])
    assert plain + not_kept < needed <= plain + kept
    two = lazy(np.zeros(SHAPE, np.uint16), SHAPE)
    needed_by_two = min_bytes(single, companions=[two])
    assert plain + kept + not_kept < needed_by_two <= plain + 2 * kept
    every = np.arange(SHAPE[0]), np.arange(SHAPE[1]), np.arange(SHAPE[2])
    assert min_bytes(source, companions=[ResampledMask(two, every)]) == needed
    volume = Volume(source, "ZYX")
    with pytest.raises(VolumeError, match="needs at least"):
        measure_porosity(volume, mask=Volume(two, "ZYX"), memory=str(needed - 1))
    stored: Any = two.source
    assert stored.n_read == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_voxels_of_masks_are_counted(dtype: type) -> None:
    """Those of a finer mask are read in full: 8 voxels for each one of the volume."""
    size = np.dtype(dtype).itemsize
    coarse = Volume(np.zeros((40, 256, 256), np.uint8), "ZYX", (2.0,) * 3, "µm")
    finer, same = np.zeros((80, 512, 512), dtype), np.zeros(coarse.shape, dtype)
    index = tuple(np.arange(n) * 2 for n in coarse.shape)
    for array, n_bytes in ((finer, 8), (lazy(finer, (1, 512, 512)), 8 * (size + 1))):
        fine = Volume(array, "ZYX", (1.0,) * 3, "µm")
        (unaligned,) = companions_of(coarse, fine, None)
        assert companion_bytes(unaligned) == n_bytes
        aligned = companion_bytes(ResampledMask(array, index))
        assert aligned == pytest.approx(n_bytes, rel=0.03)
    assert companion_bytes(same) == 0  # not copied
    assert companion_bytes(lazy(same, (1, 256, 256))) == size
    (unaligned,) = companions_of(coarse, Volume(finer, "ZYX", (1.0,) * 3, "µm"), None)
    more = min_bytes(coarse.data, companions=[unaligned]) - min_bytes(coarse.data)
    assert more == 4 * 256 * 256 * 8  # four planes
    mask = Volume(finer, "ZYX", (1.0,) * 3, "µm")
    config = PorosityConfig()
    least = least_bytes(coarse, config, mask=mask)
    assert least - least_bytes(coarse, config) == more


def test_a_mask_of_one_block_is_decoded_once(rng: np.random.Generator) -> None:
    voxels = rng.normal(180, 10, (40, 64, 64)).clip(0, 255).astype(np.uint8)
    voxels[8:20, 10:30, 10:30] = 20
    inside = np.zeros(voxels.shape, np.uint8)
    inside[4:-4, 4:-4, 4:-4] = 1
    plain = measure_porosity(Volume(voxels, "ZYX"), mask=Volume(inside, "ZYX"))
    mask = lazy(inside, inside.shape)
    least = min_bytes(voxels, companions=[mask]) + 4 * voxels.size
    report = measure_porosity(
        Volume(voxels, "ZYX"), mask=Volume(mask, "ZYX"), memory=str(least)
    )
    assert report.to_json_dict() == plain.to_json_dict()
    stored: Any = mask.source
    assert stored.n_read == 1


def test_a_channel_is_read_in_the_blocks_of_its_file() -> None:
    voxels = np.arange(2 * 8 * 16 * 16, dtype=np.uint16).reshape(2, 8, 16, 16)
    for depth in (1, 2):
        both = lazy(voxels, (depth, 4, 16, 16))
        channel = Volume(both, "CZYX").select(channel=1)
        assert np.array_equal(np.asarray(channel), voxels[1])
        unit, of_both = read_unit(channel.data), read_unit(both)
        assert unit is not None
        assert of_both is not None
        assert unit.shape == (4, 16, 16)
        assert unit.decoding_bytes == of_both.decoding_bytes


def test_the_budget_of_a_graph_is_that_of_the_whole_measurement() -> None:
    volume = Volume(np.zeros((40, 64, 64), np.uint8), "ZYX")
    with pytest.raises(VolumeError, match="with its graph needs at least") as refused:
        measure_porosity(volume, memory=str(min_bytes(volume.data)), graph=True)
    found = re.search(r"at least ([\d.]+ MB)", str(refused.value))
    assert found is not None
    with pytest.raises(VolumeError, match="only one grey value"):
        measure_porosity(volume, memory=found[1], graph=True)
