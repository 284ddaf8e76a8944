from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import BlockDone, run_to_end
from napari_geosr.inference import intensity
from napari_geosr.inference.intensity import scan_steps


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=12),
        elements=st.integers(0, 100),
    ),
    st.integers(1, 60),
)
def test_blocks_add_up_to_numpys_figures(array, block_voxels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intensity, "_BLOCK_VOXELS", block_voxels)
        if array.min() == array.max():
            with pytest.raises(VolumeError, match="same grey value"):
                run_to_end(scan_steps(array))
            return
        found = run_to_end(scan_steps(array))
    wide = array.astype(np.float64)
    assert found.mean == pytest.approx(wide.mean(), rel=1e-12, abs=1e-12)
    assert found.std == pytest.approx(wide.std(), rel=1e-9)
    assert (found.minimum, found.maximum) == (array.min(), array.max())
    assert found.n_voxels == array.size
    assert not found.sampled


def test_a_large_offset_keeps_its_digits(rng):
    array = 1e6 + rng.normal(size=(20, 50, 50))
    found = run_to_end(scan_steps(array))
    assert found.std == pytest.approx(array.std(), rel=1e-9)


def test_nonfinite_voxels_are_counted_and_left_out(rng):
    array = rng.normal(size=(4, 30, 30)).astype("float32")
    good = array.copy()
    array[1, :3, 0] = np.nan
    array[2, 0, :2] = [np.inf, -np.inf]
    found = run_to_end(scan_steps(array))
    assert (found.n_nan, found.n_inf, found.n_voxels) == (3, 2, 3600)
    keep = np.isfinite(array)
    assert found.mean == pytest.approx(good[keep].mean(dtype=float))


def test_a_large_volume_is_sampled_alike_every_time(rng):
    array = rng.normal(size=(50, 20, 20))
    first = run_to_end(scan_steps(array, sample_above=10 * 400))
    assert first.sampled
    assert first.n_voxels == 10 * 400
    assert first == run_to_end(scan_steps(array, sample_above=10 * 400))
    planes = np.linspace(0, 49, 10).round().astype(int)
    assert first.mean == pytest.approx(array[planes].mean())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 3, 3), np.nan), "All 18 voxels"),
        (np.full((3, 3), 7, "uint16"), r"same grey value \(7\)"),
        (np.zeros((2, 2), complex), "complex"),
        (np.zeros((0, 4, 4)), "is empty"),
    ],
)
def test_what_cannot_be_normalised_is_refused(array, message):
    with pytest.raises(VolumeError, match=message):
        run_to_end(scan_steps(array))


def test_progress_and_cancel(monkeypatch, rng):
    monkeypatch.setattr(intensity, "_BLOCK_VOXELS", 100)
    array = rng.normal(size=(10, 10, 10))
    blocks = [s for s in scan_steps(array) if isinstance(s, BlockDone)]
    assert [b.done for b in blocks] == list(range(1, 11))
    assert {b.total for b in blocks} == {10}
    with pytest.raises(Cancelled):
        run_to_end(scan_steps(array, lambda: True))


@pytest.mark.parametrize(
    ("offset", "dtype"),
    [
        (1e12, "float64"),
        (-3e9, "float64"),
        (2**52, "int64"),
        (2**60, "int64"),
        (2**63, "uint64"),
        (4_000_000_000, "uint32"),
    ],
)
def test_contrast_that_float32_loses_is_refused_with_a_constant_to_subtract(
    offset, dtype, rng
):
    grey = rng.integers(0, 200, (9, 30, 30)).astype(dtype)
    far = grey + np.dtype(dtype).type(offset)
    with pytest.raises(VolumeError, match="such as (-?[0-9.e+]+), from") as refused:
        run_to_end(scan_steps(far))
    number = str(refused.value).split("such as ")[1].split(",")[0]
    near = far - np.dtype(dtype).type(number)
    assert run_to_end(scan_steps(near)).std == pytest.approx(grey.std())


@pytest.mark.parametrize(
    ("factor", "message"),
    [(1e300, "Divide"), (1e45, "Divide"), (1e-45, "Multiply"), (1e-310, "Multiply")],
)
def test_values_beyond_float32_are_refused(factor, message, rng):
    array = (1 + rng.random((9, 30, 30))) * factor
    with pytest.raises(VolumeError, match=f"{message} all voxels by a constant"):
        run_to_end(scan_steps(array))
    array[0, 0, 0] = np.nan
    with pytest.raises(VolumeError, match=f"{message} all voxels by a constant"):
        run_to_end(scan_steps(array))


@pytest.mark.parametrize("planes", [1, 4])
def test_values_that_mark_missing_voxels_are_refused(planes, rng):
    scan = rng.normal(100, 10, (16, 32, 32)).astype(np.float32)
    scan[:planes] = np.finfo(np.float32).min
    with pytest.raises(VolumeError, match="mark missing voxels"):
        run_to_end(scan_steps(scan))


def test_planes_that_hide_the_contrast_of_the_others_are_counted(rng):
    scan = rng.normal(100, 10, (16, 32, 32)).astype(np.float32)
    assert run_to_end(scan_steps(scan)).far is None
    scan[3] = 1e9
    far = run_to_end(scan_steps(scan)).far
    assert far.share == 1 / 16
    assert far.usual == (np.delete(scan, 3, 0).min(), np.delete(scan, 3, 0).max())


@pytest.mark.parametrize("shift", [0, 45])
def test_large_integers_with_contrast_are_fine(shift, rng):
    array = rng.integers(0, 65536, (9, 30, 30)) << shift
    found = run_to_end(scan_steps(array))
    assert found.std == pytest.approx(array.astype(float).std())


def test_integers_that_differ_by_one_are_not_called_equal():
    array = np.full((4, 8, 8), 2**60, np.int64)
    array[:2] += 1
    with pytest.raises(VolumeError, match="too far from zero"):
        run_to_end(scan_steps(array))
