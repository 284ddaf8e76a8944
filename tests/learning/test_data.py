"""Splits, rotations, grey scales, pairs and patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift
from skimage.measure import block_reduce

from napari_geosr.core.errors import FileError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.sampling.augment import PatchSymmetry
from napari_geosr.learning.sampling.pairs import check_pair
from napari_geosr.learning.sampling.patches import Patches, TrainingSubject, mirrored
from napari_geosr.learning.sampling.splits import split
from napari_geosr.learning.statistics import grey_scale
from napari_geosr.operations.train.checks import check_contents
from napari_geosr.physics.simulated import open_simulated


def ramp(shape: tuple[int, ...], seed: int = 0) -> Volume:
    """The value of every voxel is its index."""
    return Volume(np.arange(np.prod(shape), dtype=np.float64).reshape(shape), "ZYX")


def config(**values: object) -> TrainingConfig:
    return TrainingConfig.create(**({"patch": 16, "sampling": "uniform"} | values))


@given(
    shape=st.tuples(*[st.integers(1, 60)] * 3),
    share=st.floats(0.05, 0.5),
    planes=st.sampled_from([1, 3, 5, 9]),
    seed=st.integers(0, 99),
)
def test_training_and_validation_never_meet(
    shape: tuple[int, int, int], share: float, planes: int, seed: int
) -> None:
    try:
        found = split(shape, share, planes, np.random.default_rng(seed))
    except VolumeError:
        assert max(shape) < 16 + planes
        return
    seen = set()
    context = planes // 2 if found.axis == 0 else 0
    for start, stop in found.train:
        assert 0 <= start < stop <= shape[found.axis]
        # A 2.5D network also gets the neighbours; at the ends, they are mirrored.
        seen |= set(range(max(0, start - context), stop + context))
    low, high = found.validation
    assert 0 <= low < high <= shape[found.axis]
    assert not seen & set(range(low, high))


def test_a_small_volume_is_refused_with_the_voxels_that_remain() -> None:
    split((5, 12, 5), 0.1, 1, np.random.default_rng(0))
    with pytest.raises(VolumeError, match=r"7 voxels remain .* at least 8 are needed"):
        split((5, 10, 5), 0.1, 1, np.random.default_rng(0))


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    dimensions=st.sampled_from(["2D", "2.5D", "3D"]),
    validation=st.booleans(),
)
def test_a_patch_comes_from_its_side_of_the_split(
    seed: int, dimensions: str, validation: bool
) -> None:
    volume = ramp((24, 40, 48))
    patches = Patches({"source": [volume]}, config(dimensions=dimensions))
    given = patches.held_out() if validation else patches
    drawn = given.draw(np.random.default_rng(seed), ["source"])["source"]
    values = np.rint(patches.grey["source"].restore(drawn).astype(np.float64))
    axis = patches.scenes[0].split.axis
    index = np.unravel_index(
        np.clip(values, 0, volume.data.size - 1).astype(int), volume.shape
    )[axis]
    low, high = patches.scenes[0].split.validation
    inside = (index >= low) & (index < high)
    assert inside.all() if validation else not inside.any()


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_volumes_of_one_shape_keep_the_same_block_apart(
    paired: bool, seed: int
) -> None:
    """They may be scans of one object, or have the same target."""
    low = [ramp((24, 40, 48)) for _ in range(6)]
    fine = [ramp((48, 80, 96)) for _ in range(6)]
    patches = Patches(
        {"source": [*low, ramp((20, 32, 32))], "target": [*fine, ramp((40, 64, 64))]},
        config(seed=seed, dimensions="3D", patch=8),
        paired=paired,
        factors={"target": 2},
    )
    alike = [scene.split for scene in patches.scenes if _shape(scene) == (24, 40, 48)]
    assert len(alike) == (6 if paired else 12)
    assert len(set(alike)) == 1


def _shape(scene: TrainingSubject) -> tuple[int, ...]:
    role, volume = next(iter(scene.volumes.items()))
    return tuple(n // (2 if role == "target" else 1) for n in volume.shape)


def test_simulated_volumes_have_a_side_each() -> None:
    """Training on them can be repeated exactly, to the bit."""
    scenes = Patches(
        {"source": open_simulated("simulated:fluo:0-7")},
        config(seed=0, dimensions="2D"),
    ).scenes
    low, high = (0, 16), (112, 128)
    found = [(scene.split.axis, scene.split.validation) for scene in scenes]
    sides = [high, high, high, high, low, low, high, low]
    assert found == list(zip([1, 1, 0, 1, 1, 0, 1, 1], sides, strict=True))


def test_a_sample_is_a_function_of_its_seed() -> None:
    patches = Patches({"source": [ramp((20, 40, 40))]}, config(sampling="structure"))
    one, same, other = (
        patches.draw(np.random.default_rng(seed), ["source"])["source"]
        for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_middle_channel_of_a_slab_is_the_target_slice() -> None:
    volume = ramp((20, 40, 40))
    patches = Patches({"source": [volume], "target": [volume]}, config())
    for seed in range(10):
        drawn = patches.draw(np.random.default_rng(seed), ["source", "target"])
        assert drawn["source"].shape == (5, 16, 16)
        assert drawn["target"].shape == (1, 16, 16)
        np.testing.assert_array_equal(drawn["source"][2], drawn["target"][0])


def test_structure_is_drawn_more_often_than_nothing() -> None:
    data = np.zeros((40, 64, 64), np.float32)
    data[:, :, 32:] = np.random.default_rng(0).normal(size=(40, 64, 32))
    shares = {}
    for sampling in ("uniform", "structure"):
        patches = Patches(
            {"source": [Volume(data, "ZYX")]},
            config(sampling=sampling, patch=8, augment=False, dimensions="2D"),
        )
        drawn = [
            patches.draw(np.random.default_rng(i), ["source"])["source"]
            for i in range(200)
        ]
        shares[sampling] = np.mean([d.std() > 0.3 for d in drawn])
    assert shares["structure"] > shares["uniform"] + 0.2


def test_long_voxels_are_not_turned_into_short_ones() -> None:
    data = np.zeros((4, 16, 16), np.float32)
    data[:, ::2] = 1  # lines along X
    wide = Volume(data, "ZYX", (1.0, 2.0, 1.0), "µm")
    even = Volume(data, "ZYX", (1.0, 1.0, 1.0), "µm")

    def kinds(volume: Volume) -> set[bool]:
        patches = Patches({"source": [volume]}, config(patch=8, dimensions="2D"))
        drawn = [
            patches.draw(np.random.default_rng(i), ["source"])["source"][0]
            for i in range(20)
        ]
        return {bool(np.ptp(d, axis=1).max() == 0) for d in drawn}

    assert kinds(wide) == {True}
    assert kinds(even) == {True, False}


def test_turning_keeps_arrays_of_a_sample_together() -> None:
    patch = np.arange(3 * 8 * 8).reshape(3, 8, 8)
    for seed in range(16):
        turn = PatchSymmetry(np.random.default_rng(seed), square=True, depth=True)
        np.testing.assert_array_equal(turn(patch)[1], turn(patch[1:2])[0])


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_indices_beyond_the_ends_are_mirrored(n: int) -> None:
    index = np.arange(-2 * n, 3 * n)
    expected = np.pad(np.arange(n), 2 * n, mode="reflect" if n > 1 else "edge")
    np.testing.assert_array_equal(mirrored(index, n), expected)


def test_the_grey_scale_is_that_of_all_finite_voxels() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(5, 2, (6, 9, 9)), rng.normal(9, 1, (3, 9, 9))
    one[0, 0, 0] = np.nan
    scale = grey_scale([Volume(one, "ZYX"), Volume(two, "ZYX")])
    every = np.concatenate([one[np.isfinite(one)], two.ravel()])
    assert scale.mean == pytest.approx(every.mean())
    assert scale.std == pytest.approx(every.std())
    assert scale.standardise(one)[0, 0, 0] == 0
    np.testing.assert_allclose(scale.restore(scale.standardise(two)), two, rtol=1e-5)


@pytest.mark.parametrize(
    ("dimensions", "block"), [("2D", (1, 4, 4)), ("3D", (4, 4, 4))]
)
def test_coarse_and_fine_voxels_are_brought_to_one_scale(
    dimensions: str, block: tuple[int, int, int]
) -> None:
    """Otherwise, generators for unpaired scans in other units would stretch the
    contrast.
    """
    fine = gaussian_filter(np.random.default_rng(0).normal(size=(96, 48, 48)), 1.2)
    coarse = 1000 + 300 * block_reduce(fine, block, np.mean)
    volumes = {"source": [Volume(coarse, "ZYX")], "target": [Volume(fine, "ZYX")]}
    values = config(dimensions=dimensions, patch=8)
    patches = Patches(volumes, values, paired=False, factors={"target": 4})
    means = block_reduce(patches.grey["target"].standardise(fine), block, np.mean)
    given = patches.grey["source"].standardise(coarse)
    slope, offset = np.polyfit(given.ravel(), means.ravel(), 1)
    assert slope == pytest.approx(1, abs=0.02)
    assert offset == pytest.approx(0, abs=0.02)
    assert means.std() < 0.9 * patches.grey["target"].standardise(fine).std()


@pytest.mark.parametrize("value", [3.0, np.nan])
def test_nothing_to_learn_is_said(value: float) -> None:
    with pytest.raises(VolumeError, match="nothing to learn|no finite"):
        grey_scale([Volume(np.full((4, 8, 8), value), "ZYX")])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1e9, 1.0, "f8"), "too far from zero"),
        ((4e9, 10.0, "u4"), "too far from zero"),
        ((1e300, 1e299, "f8"), "Divide all voxels"),
        ((1e-38, 1e-39, "f8"), "Multiply all voxels"),
    ],
)
def test_what_float32_cannot_hold_is_not_learned_from(values, message) -> None:
    mean, std, dtype = values
    grey = np.random.default_rng(0).normal(mean, std, (4, 16, 16)).astype(dtype)
    with pytest.raises(VolumeError, match=message):
        grey_scale([Volume(grey, "ZYX")])
    with pytest.raises(VolumeError, match=message):
        check_contents({"source": [Volume(grey, "ZYX")]})


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    """Noise without its high frequencies."""
    noise = np.random.default_rng(1).normal(size=shape)
    return gaussian_filter(noise, 1.5, mode="wrap")


@pytest.mark.parametrize("depth", [1, 7, 8, 40])
def test_a_shift_between_a_pair_is_measured(depth: int) -> None:
    moves = (2.0 if depth >= 8 else 0.0, 1.5, -0.7)
    whole = smooth((depth + 8, 96, 96))
    moved = shift(whole, moves, order=3, mode="grid-wrap")
    if depth == 1:
        one, two = (Volume(v[4], "YX") for v in (whole, moved))
    else:
        one, two = (Volume(v[4 : 4 + depth], "ZYX") for v in (whole, moved))
    found = check_pair(one, two)
    assert found.shift[-2:] == pytest.approx((-1.5, 0.7), abs=0.15)
    assert len(found.shift) == (3 if depth >= 8 else 2)
    if depth >= 8:
        assert found.shift[0] == pytest.approx(-2, abs=0.15 if depth == 40 else 1)
    assert ("few slices" in found.warnings[0]) is (depth == 8)
    assert "align" in found.warnings[0]
    assert ("(Z, Y, X)" if depth >= 8 else "(Y, X)") in found.warnings[0]
    assert check_pair(one, one).warnings == ()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("move", [0, 2])
def test_a_shift_of_finer_voxels_is_measured(ndim: int, move: int) -> None:
    """For a network on slices, the target has as many slices as the source."""
    fine = smooth((12 if ndim == 2 else 24, 96, 128))
    factors = (1, 2, 2) if ndim == 2 else (2, 2, 2)
    split = [
        part for n, f in zip(fine.shape, factors, strict=True) for part in (n // f, f)
    ]
    coarse = fine.reshape(split).mean(axis=(1, 3, 5))
    moved = np.roll(fine, (factors[0] * move, 0, 2 * move), axis=(0, 1, 2))
    found = check_pair(Volume(coarse, "ZYX"), Volume(moved, "ZYX"), 2, ndim)
    assert found.shift[1:] == pytest.approx((0, -move), abs=0.15)
    assert found.shift[0] == pytest.approx(-move, abs=0.3 * move)
    assert bool(found.warnings) is bool(move)


def test_shapes_that_do_not_fit_are_refused() -> None:
    one, two = (Volume(np.zeros(s), "ZYX") for s in ((8, 8, 8), (8, 8, 9)))
    with pytest.raises(VolumeError, match="8 × 8 × 9"):
        check_pair(one, two)
    check_pair(one, Volume(np.zeros((16, 16, 16)), "ZYX"), factor=2)


def test_voxel_sizes_that_differ_are_noted() -> None:
    data = np.random.default_rng(0).normal(size=(8, 16, 16))
    one = Volume(data, "ZYX", (1.0,) * 3, "µm")
    two = Volume(data, "ZYX", (0.002,) * 3, "mm")
    assert any("voxel size" in w for w in check_pair(one, two).warnings)


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    class Gone:
        shape, dtype, ndim = (16, 32, 32), np.dtype(np.float32), 3
        calls = 0

        def __getitem__(self, key: object) -> np.ndarray:
            self.calls += 1
            if self.calls > 16:
                raise OSError("stale file handle")
            return np.random.default_rng(self.calls).normal(size=self.shape)[key]

    volume = Volume(Gone(), "ZYX", source=tmp_path / "scan.tif")
    patches = Patches({"source": [volume]}, config(patch=8))
    with pytest.raises(FileError, match=r"scan\.tif"):
        patches.draw(np.random.default_rng(0), ["source"])
