"""Pores matched one by one: lost, invented, split and merged pores."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.measure.comparison.pores import match_pores


def boxes(*places) -> np.ndarray:
    mask = np.zeros((20, 40, 60), bool)
    for place in places:
        mask[place] = True
    return mask


def box(z, y, x, size=4):
    edges = (size,) * 3 if isinstance(size, int) else size
    starts = zip((z, y, x), edges, strict=True)
    return tuple(slice(start, start + edge) for start, edge in starts)


def matched(mask, base, **settings):
    options = {
        "voxel_size": (2.0, 1.0, 1.0),
        "origin": (10.0, 0.0, 0.0),
        "unit": "µm",
        **settings,
    }
    return match_pores(mask, base, **options)


KEPT, LOST, INVENTED = box(2, 2, 2), box(2, 20, 2), box(12, 2, 40)
LONG = box(12, 20, 20, (4, 4, 14))
TWO = (box(12, 20, 20), box(12, 20, 30))


def test_each_pore_is_what_became_of_it():
    base = boxes(KEPT, LOST, LONG, box(2, 30, 30), box(2, 30, 38))
    after = boxes(KEPT, INVENTED, *TWO, box(2, 30, 30, (4, 4, 12)))
    found = matched(after, base)
    counts = found.to_json_dict()
    assert {k: counts[k] for k in ("matched", "lost", "invented")} == {
        "matched": 1,
        "lost": 1,
        "invented": 1,
    }
    assert (counts["split"], counts["merged"], counts["changed"]) == (1, 1, 0)
    (lost,) = found.of("lost")
    assert lost.position == (10 + 2 * 3.5, 21.5, 3.5)
    assert (lost.base_volume, lost.volume) == (128, 0)
    assert (lost.base_pores, lost.pores) == (1, 0)
    (invented,) = found.of("invented")
    assert invented.position == (10 + 2 * 13.5, 3.5, 41.5)
    (split,) = found.of("split")
    assert (split.base_pores, split.pores) == (1, 2)
    assert (split.base_volume, split.volume) == (4 * 4 * 14 * 2, 2 * 128)
    assert found.unit == "µm³"
    assert found.dice == pytest.approx(
        2 * (base & after).sum() / (base.sum() + after.sum())
    )


def test_the_other_way_round_lost_is_invented():
    base, after = boxes(KEPT, LOST, LONG), boxes(KEPT, INVENTED, *TWO)
    there, back = matched(after, base), matched(base, after)
    assert there.count("split") == back.count("merged") == 1
    assert there.count("lost") == back.count("invented") == 1


def test_a_pore_that_shrank_below_the_smallest_is_not_lost():
    base, after = boxes(box(2, 2, 2)), boxes(box(2, 2, 2, (1, 1, 3)))
    found = matched(after, base, min_voxels=8)
    assert found.count("matched") == 1
    assert found.count("lost") == 0
    # Specks of noise are not pores either.
    assert not matched(after, boxes(), min_voxels=8).changes
    assert matched(after, boxes(), min_voxels=3).count("invented") == 1


def test_touching_at_a_corner_does_not_join_two_pores():
    """A fifth of the smaller one must be shared."""
    base = boxes(box(2, 2, 2), box(2, 2, 12))
    after = boxes(box(2, 2, 2), box(2, 2, 9))
    found = matched(after, base)
    assert found.count("matched") == 2
    less = matched(boxes(box(2, 2, 2), box(5, 5, 9)), base)
    assert less.count("lost") == less.count("invented") == 1


def test_bland_altman_of_known_changes():
    base = boxes(*(box(2, 2, 10 * i, 5) for i in range(6)))
    after = boxes(*(box(2, 2, 10 * i, (4, 5, 5)) for i in range(6)))
    agreement = matched(after, base).agreement
    assert agreement.n == 6
    assert agreement.bias == pytest.approx((100 - 125) / 112.5)
    assert agreement.low == pytest.approx(agreement.high)
    assert matched(boxes(KEPT), boxes(KEPT)).agreement is None


def test_nothing_at_all_and_images():
    nothing = matched(boxes(), boxes())
    assert nothing.changes == ()
    assert nothing.dice == 1
    flat = match_pores(
        boxes(KEPT)[3],
        boxes(KEPT, LOST)[3],
        voxel_size=(1, 1),
        origin=(0, 0),
        unit="mm",
    )
    assert flat.unit == "mm²"
    assert (flat.count("matched"), flat.count("lost")) == (1, 1)
