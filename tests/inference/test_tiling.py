from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_geosr.core.errors import VolumeError
from napari_geosr.inference.tiles.tiling import lay_out, plan, reflect, split
from napari_geosr.networks.spec import NetworkSpec


@st.composite
def specs(draw, ndim=3):
    stride = draw(st.sampled_from((1, 2, 4)))
    return NetworkSpec(
        axes="ZYX"[-ndim:],
        halo=(draw(st.integers(0, 9)),) * ndim,
        stride=(stride,) * ndim,
        upscale_factor=(draw(st.sampled_from((1, 2, 3))),) * ndim,
        minimum_size=(draw(st.integers(1, 9)),) * ndim,
    )


sizes = st.integers(1, 23)


@given(specs(), st.tuples(sizes, sizes, sizes), st.tuples(sizes, sizes, sizes))
def test_cores_cover_the_volume_once_and_windows_hold_the_halo(spec, shape, tile):
    tiles = plan(shape, spec, tile)
    layout = tiles.layout
    count = np.zeros(layout.output_shape, int)
    for one in tiles.tiles:
        count[one.output(layout)] += 1
        for axis in range(3):
            core, window = one.core[axis], one.window[axis]
            assert window.start % layout.stride[axis] == 0
            assert window.stop % layout.stride[axis] == 0
            assert window.start <= max(0, core.start - spec.halo[axis])
            assert window.stop >= min(layout.padded[axis], core.stop + spec.halo[axis])
            assert 0 <= window.start < window.stop <= layout.padded[axis]
            assert window.stop - window.start >= spec.minimum_size[axis]
    assert (count == 1).all()
    computed = sum(np.prod(t.window_shape) for t in tiles.tiles)
    assert tiles.cost_factor == pytest.approx(computed / np.prod(layout.padded))


@given(
    specs(),
    st.tuples(sizes, sizes, sizes),
    st.tuples(sizes, sizes, sizes),
    st.tuples(*(st.integers(0, 22),) * 3),
)
def test_halves_cover_their_tile(spec, shape, tile, begin):
    # A region need not begin on the stride's grid.
    box = [slice(min(a, n - 1), n) for a, n in zip(begin, shape, strict=True)]
    tiles = plan(shape, spec, tile, box=box)
    layout = tiles.layout
    for one in tiles.tiles:
        halves = split(one, layout)
        if not halves:
            assert all(
                n <= s for n, s in zip(one.core_shape, layout.stride, strict=True)
            )
            continue
        count = np.zeros(layout.shape, int)
        for half in halves:
            count[half.core] += 1
            for axis in range(3):
                assert half.window[axis].start % layout.stride[axis] == 0
                assert half.window[axis].start <= max(
                    0, half.core[axis].start - spec.halo[axis]
                )
        assert count.sum() == count[one.core].sum() == np.prod(one.core_shape)


@given(st.integers(1, 9), st.integers(0, 30), st.integers(0, 30))
def test_reflect_is_numpys(n, before, after):
    expected = np.pad(np.arange(n), (before, after), mode="reflect")
    assert (reflect(np.arange(-before, n + after), n) == expected).all()


def test_tiles_on_screen_come_first():
    spec = NetworkSpec("YX", (2, 2), (1, 1), (1, 1))
    tiles = plan(
        (9, 40, 40), spec, (1, 20, 20), priority_region=np.s_[5:6, 25:40, 0:40]
    ).tiles
    assert [t.core[0].start for t in tiles[:3]] == [5, 5, 0]
    assert {t.core[1].start for t in tiles[:2]} == {20}
    assert len(tiles) == 9 * 4


def test_a_volume_network_refuses_an_image():
    with pytest.raises(VolumeError, match=r"single image.*2D or 2\.5D model"):
        lay_out((5, 5), NetworkSpec("ZYX", (1,) * 3, (1,) * 3, (1,) * 3))


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4, 5), (0, 4, 4)])
def test_arrays_without_planes_are_refused(shape):
    with pytest.raises(VolumeError, match="cannot be restored"):
        lay_out(shape, NetworkSpec("YX", (1, 1), (1, 1), (1, 1)))


@pytest.mark.parametrize(
    "region", [np.s_[0:0, 0:4], np.s_[0:4:2, 0:4], np.s_[0:4], np.s_[9:12, 0:4]]
)
def test_bad_regions_are_refused(region):
    spec = NetworkSpec("YX", (1, 1), (1, 1), (1, 1))
    region = region if isinstance(region, tuple) else (region,)
    with pytest.raises(VolumeError, match="region"):
        plan((8, 8), spec, (4, 4), box=region)
