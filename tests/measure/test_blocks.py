"""Slabs: the same labels and sums as the whole volume at once."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from pore_shapes import label_by_slabs, measure
from scipy import ndimage

from napari_geosr.core.errors import VolumeError
from napari_geosr.measure import blocks, porosity
from napari_geosr.measure.blocks import SlabLabeller, slab_thickness


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    density=st.sampled_from([0.05, 0.2, 0.35, 0.5, 0.8]),
    connectivity=st.sampled_from([6, 26]),
    thickness=st.integers(1, 6),
    has_sample=st.booleans(),
)
def test_slabs_equal_the_whole(
    seed, shape, density, connectivity, thickness, has_sample
) -> None:
    rng = np.random.default_rng(seed)
    pores = rng.random(shape) < density
    sample = rng.random(shape) < 0.9 if has_sample else None
    if sample is not None:
        pores &= sample
    whole, labels = label_by_slabs(pores, connectivity, None, sample)
    parts, others = label_by_slabs(pores, connectivity, thickness, sample)
    np.testing.assert_array_equal(labels, others)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_array_equal(whole.euler_number, parts.euler_number)
    np.testing.assert_allclose(whole.surface, parts.surface, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), connectivity=st.sampled_from([6, 26]))
def test_partition_is_that_of_scipy(seed: int, connectivity: int) -> None:
    pores = np.random.default_rng(seed).random((9, 8, 7)) < 0.35
    raw, labels = label_by_slabs(pores, connectivity, 2)
    structure = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    expected, n = ndimage.label(pores, structure)
    assert len(raw.rows) == n
    # scipy numbers components in the order of their first voxel, as we do.
    np.testing.assert_array_equal(labels, expected)


@pytest.fixture
def foam() -> np.ndarray:
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.standard_normal((40, 30, 36)), 1.4)
    return (smooth / smooth.std() * 1000).astype(np.float32)


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_report_does_not_depend_on_the_array(
    foam, connectivity, kind, monkeypatch
) -> None:
    settings = {"connectivity": connectivity, "voxel_size": (2, 1, 1.5), "unit": "µm"}
    settings |= {"min_voxels": 4, "threshold": -500.0}
    whole = measure(foam, **settings)
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 5 * 30 * 36)
    data = {
        "numpy": foam,
        "dask": da.from_array(foam, chunks=(7, 30, 10)),
        "zarr": zarr.array(foam, chunks=(8, 16, 16)),
    }[kind]
    target = zarr.zeros(foam.shape, chunks=(8, 16, 16), dtype="int32")
    sliced = measure(data, labels_target=target, **settings)
    assert whole.pore_count > 5
    for name, values in whole.table.items():
        np.testing.assert_array_equal(values, sliced.table[name], err_msg=name)
    np.testing.assert_array_equal(whole.labels, np.asarray(sliced.labels))
    assert sliced.labels is target
    ours, theirs = whole.to_json_dict(), sliced.to_json_dict()
    assert ours["porosity"] == theirs["porosity"]
    assert ours["euler_number"] == theirs["euler_number"]
    assert ours["surface_area"] == theirs["surface_area"]


def test_slabs_are_whole_chunks() -> None:
    source = zarr.zeros((1000, 64, 64), chunks=(48, 64, 64))
    assert slab_thickness(source) % 48 == 0
    assert slab_thickness(np.zeros((10, 64, 64))) == 10


def test_memory_stays_below_four_slabs(monkeypatch) -> None:
    import tracemalloc

    shape = (96, 128, 128)
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 8 * 128 * 128)

    def planes(block_info=None):
        (start, end), *_ = block_info[None]["array-location"]
        rng = np.random.default_rng(start)
        return (rng.random((end - start, 128, 128)) * 255).astype(np.float32)

    lazy = da.map_blocks(
        planes,
        chunks=((8,) * 12, (128,), (128,)),
        dtype=np.float32,
        meta=np.empty(0, "f4"),
    )
    assert lazy.shape == shape
    settings = {"threshold": 2.0, "keep_labels": False}

    def unmeasured(*_: object, **__: object):
        # A sample of fixed size for any volume, larger than this small volume.
        yield from ()
        return None

    monkeypatch.setattr(porosity, "noise_check_steps", unmeasured)
    measure(lazy[:16], **settings)  # compile the kernels first
    slab = 8 * 128 * 128 * (4 + 4 + 4)  # grey values, labels, masks
    tracemalloc.start()
    measure(lazy, **settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    n_rows = 96 * 128 * 128 * 2 / 255
    assert peak < 4 * slab + n_rows * 400


def test_all_slabs_must_be_given() -> None:
    labeller = SlabLabeller((4, 5, 6), (1, 1, 1), 26)
    labeller.add(np.zeros((2, 5, 6), bool), None)
    with pytest.raises(VolumeError, match="2 of 4 planes"):
        labeller.finish()
