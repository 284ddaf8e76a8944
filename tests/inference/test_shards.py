"""Shards cover a result once, for any shape of the result and of the file's blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr.core.array_parts.boxes import Box
from napari_geosr.inference.shards import (
    ShardPlanner,
    plan_shards,
    unfinished_shards,
)
from napari_geosr.inference.tiles.tiling import lay_out
from napari_geosr.networks.spec import NetworkSpec

sizes = st.tuples(*[st.integers(1, 40)] * 3)
tiles = st.tuples(*[st.integers(1, 24)] * 3)
scales = st.sampled_from([1, 2, 3])


def layout_of(shape: tuple[int, ...], scale: int, axes: str = "ZYX"):
    n = len(axes)
    spec = NetworkSpec(axes, (2,) * n, (1,) * n, (scale,) * n)
    return lay_out(shape, spec)


@given(shape=sizes, tile=tiles, scale=scales, unit=st.none() | tiles)
@settings(max_examples=150, deadline=None)
def test_shards_cover_every_voxel_once_in_order(shape, tile, scale, unit):
    layout = layout_of(shape, scale)
    shards = plan_shards(layout, tile, unit)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    places = [tuple(part.start for part in shard.place) for shard in shards]
    assert places == sorted(places)
    counts = np.zeros(layout.output_shape, int)
    for shard in shards:
        counts[shard.place] += 1
        for part, place in zip(shard.region, shard.place, strict=True):
            assert (part.start * scale, part.stop * scale) == (place.start, place.stop)
        for edge, part, n in zip(unit or (), shard.place, counts.shape, strict=False):
            assert part.start % edge == 0
            assert part.stop % edge == 0 or part.stop == n
    assert (counts == 1).all()


def test_an_image_has_shards_of_two_axes():
    layout = layout_of((40, 30), 2, "YX")
    shards = plan_shards(layout, (1, 20, 30), (8, 60))
    assert [shard.place for shard in shards] == [
        (slice(0, 40), slice(0, 60)),
        (slice(40, 80), slice(0, 60)),
    ]


@st.composite
def finished_boxes(draw: st.DrawFn) -> tuple[tuple[int, int, int], list[Box]]:
    shape = draw(sizes)
    boxes = []
    for _ in range(draw(st.integers(0, 6))):
        ends = [sorted(draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
        if all(a < b for a, b in ends):
            boxes.append(tuple(slice(a, b) for a, b in ends))
    return shape, boxes


@given(case=finished_boxes(), tile=tiles, old_tile=tiles, n_done=st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_a_shard_is_finished_if_boxes_cover_it_together(case, tile, old_tile, n_done):
    """Boxes of an earlier run have another grid, and may overlap."""
    shape, boxes = case
    layout = layout_of(shape, 1)
    boxes += [shard.place for shard in plan_shards(layout, old_tile)[:n_done]]
    covered = np.zeros(shape, bool)
    for box in boxes:
        covered[box] = True
    shards = plan_shards(layout, tile)
    expected = [shard for shard in shards if not covered[shard.place].all()]
    assert unfinished_shards(shards, boxes) == expected


def planned(network, total: int, n_workers: int) -> ShardPlanner:
    source = np.zeros((60, 120, 120), np.uint16)
    return ShardPlanner(
        network,
        source,
        np.dtype(np.uint16),
        n_workers=n_workers,
        budget=total // n_workers,
        total=total,
        device="cpu",
    )


@pytest.mark.parametrize(("ndim", "slices"), [(3, 1), (2, 3)], ids=["3D", "2.5D"])
def test_one_two_and_four_workers_have_the_same_shards(make_network, ndim, slices):
    network = make_network("conv", ndim=ndim, slices=slices)
    plans = [planned(network, 10**9, n) for n in (1, 2, 4)]
    assert len({plan.choice.tile for plan in plans}) == 1
    first, *others = (plan.shards() for plan in plans)
    assert all(other == first for other in others)
    assert len(first) >= 4
    assert plans[0].choice.cost_factor < 1.4
    for plan in plans:
        assert plan.choice.peak_bytes <= 10**9 / 4
        assert not list(plan.warnings())


def test_workers_whose_memory_is_short_are_told_what_would_suffice(make_network):
    """This network has a large reach, so small tiles are mostly halo."""
    network = make_network("dilated", ndim=3)
    total = 4 * planned(network, 10**9, 4)._planner._required_budget() + 10**6
    one, four = (planned(network, int(total), n) for n in (1, 4))
    assert not list(one.warnings())
    (warning,) = four.warnings()
    assert four.choice.work() > 1.25 * one.choice.work()
    assert "use fewer workers (--workers)" in warning.message
    enough = four._planner.budget_for_work(1.25 * one.choice.work())
    relieved = planned(network, int(4.1 * enough), 4)
    assert relieved.choice.work() <= 1.25 * one.choice.work()
