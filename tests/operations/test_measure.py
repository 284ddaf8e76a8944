"""Measuring and comparing volumes: the operation used by dock and command line."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_geosr import io, measure_porosity, plan_scan
from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    StageStarted,
    WarningIssued,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.operations.measure import (
    MeasureConfig,
    figure_rows,
    grey_levels,
    measure_several_steps,
    measure_steps,
)
from napari_geosr.operations.measure.grey_levels import (
    histogram_steps,
    preview_mask,
    threshold_steps,
)
from napari_geosr.operations.measure.mask import ResampledMask, align_mask
from napari_geosr.operations.measure.pore_size import pore_size, same_smallest_pore

#: Centres (Z, Y, X) and radii in voxels.
BALLS = (((8, 10, 10), 6), ((22, 30, 28), 7), ((8, 30, 12), 3))
SHAPE = (32, 40, 40)


def balls(factor: int = 1, dtype: type = np.float32) -> np.ndarray:
    """Dark spheres in a bright solid, with voxels `factor` times smaller."""
    grid = np.ogrid[tuple(slice(0, n * factor) for n in SHAPE)]
    data = np.full([n * factor for n in SHAPE], 180, dtype)
    for centre, radius in BALLS:
        at = [(c + 0.5) * factor - 0.5 for c in centre]
        squares = [(g - a) ** 2 for g, a in zip(grid, at, strict=True)]
        data[sum(squares) <= (radius * factor) ** 2] = 60
    return data


def noisy(rng: np.random.Generator, factor: int = 1) -> np.ndarray:
    data = balls(factor)
    return data + rng.normal(0, 8, data.shape).astype(np.float32)


def foam(rng: np.random.Generator, factor: int = 1, name: str = "foam") -> Volume:
    size = 4.0 / factor
    origin = (-(factor - 1) / 2 * size,) * 3
    return Volume(noisy(rng, factor), "ZYX", (size,) * 3, "µm", origin, name=name)


def test_balls_are_found_and_measured(rng):
    report = measure_porosity(foam(rng))
    assert report.pore_count == len(BALLS)
    volumes = np.sort(report.table["volume"])
    exact = np.sort([4 / 3 * np.pi * (r * 4.0) ** 3 for _, r in BALLS])
    assert volumes == pytest.approx(exact, rel=0.12)
    assert report.porosity == pytest.approx((balls() == 60).mean(), abs=1e-4)
    assert report.pores_per_mm3 == pytest.approx(3 / (np.prod(SHAPE) * 0.004**3))
    assert np.unique(report.labels).tolist() == [0, 1, 2, 3]


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="min voxels"):
        measure_porosity(Volume(balls(), "ZYX"), min_voxels=0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 5, 6), complex), "complex"),
        (np.zeros((0, 5, 6), np.uint8), "empty"),
        (np.full((4, 5, 6), 7.0), "one grey value"),
        (np.full((4, 5, 6), np.nan), "no finite value"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(data, message):
    volume = Volume(data, "ZYX", name="bad scan")
    for steps in (
        measure_steps(volume, MeasureConfig()),
        histogram_steps(volume),
        measure_several_steps({"a": volume}, MeasureConfig()),
    ):
        with pytest.raises(VolumeError, match=message) as caught:
            run_to_end(steps)
        assert "bad scan" in str(caught.value)


def test_comparison_uses_one_physical_smallest_pore(rng):
    volumes = {"coarse": foam(rng), "fine": foam(rng, 2)}
    reports = run_to_end(measure_several_steps(volumes, MeasureConfig(min_voxels=200)))
    assert list(reports) == ["coarse", "fine"]
    # The smallest sphere has 123 voxels in one volume and about 1000 in the other.
    assert [r.min_voxels for r in reports.values()] == [200, 1600]
    assert [r.pore_count for r in reports.values()] == [2, 2]


@given(
    n=st.integers(1, 500),
    edges=st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
)
def test_no_pore_below_the_smallest_physical_size_counts(n, edges):
    volumes = {
        str(i): Volume(np.zeros((2, 2, 2)), "ZYX", (edge,) * 3, "µm")
        for i, edge in enumerate(edges)
    }
    configs = same_smallest_pore(volumes, MeasureConfig(min_voxels=n))
    smallest = n * max(edges) ** 3
    for name, config in configs.items():
        voxel = float(name and edges[int(name)]) ** 3
        assert config.min_voxels * voxel >= smallest * (1 - 1e-5)
        assert (config.min_voxels - 1) * voxel < smallest
    assert min(c.min_voxels for c in configs.values()) == n


@pytest.mark.parametrize(("axes", "n"), [("ZYX", 64), ("YX", 32)])
@pytest.mark.parametrize("unit", ["pixel", "µm"])
def test_the_smallest_pore_is_the_same_in_every_unit(axes, n, unit):
    shape = (4,) * len(axes)
    coarse = Volume(np.zeros(shape), axes, (2.0,) * len(axes), unit)
    fine = Volume(np.zeros(shape), axes, (1.0,) * len(axes), unit)
    volumes = {"coarse": coarse, "fine": fine}
    configs = same_smallest_pore(volumes, MeasureConfig(min_voxels=8))
    assert configs["coarse"].min_voxels == 8
    assert configs["fine"].min_voxels == n


def test_images_are_not_compared_with_volumes(rng):
    volume = foam(rng, name="whole")
    plane = Volume(volume.data[4], "YX", (4.0, 4.0), "µm", name="plane")
    steps = measure_several_steps({"whole": volume, "plane": plane}, MeasureConfig())
    with pytest.raises(VolumeError, match="'plane' is a single image"):
        run_to_end(steps)


@pytest.mark.parametrize("unit", ["mm", "nm"])
def test_a_reference_in_another_unit_is_compared_in_physical_units(rng, unit):
    """The same scan in µm and in another unit, and with voxels half as wide."""
    factor = {"mm": 1e-3, "nm": 1e3}[unit]
    own = foam(rng, name="own")
    size = own.voxel_size[0] * factor
    same = Volume(own.data, "ZYX", voxel_size=(size,) * 3, unit=unit, name="same")
    fine = Volume(
        noisy(rng, factor=2),
        "ZYX",
        voxel_size=(size / 2,) * 3,
        origin=(-size / 4,) * 3,
        unit=unit,
        name="fine",
    )
    volumes = {"input": own, "reference": same, "reference_2": fine}
    config = MeasureConfig.create(
        min_voxels=8,
        statistics=("thickness", "trabecular"),
        group="diameter>40um",
    )
    reports = run_to_end(measure_several_steps(volumes, config))
    assert [r.min_voxels for r in reports.values()] == [8, 8, 64]
    assert [r.group.count for r in reports.values()] == [2, 2, 2]
    texts = {}
    for row in figure_rows(reports):
        texts[row.label] = row.texts
    assert any("Tb.Th" in label for label in texts)
    for label, (first, other, _) in texts.items():
        assert first == other, label
    first, other, finer = (r.figures["Tb.Th"] for r in reports.values())
    assert other / factor == pytest.approx(first)
    assert finer / factor == pytest.approx(first, rel=0.1)


def test_a_group_is_checked_in_all_volumes_before_the_first_is_measured(rng):
    known = foam(rng, name="known")
    unknown = Volume(known.data, "ZYX", name="unknown")
    config = MeasureConfig.create(group="diameter>20um", threshold=120.0)
    steps = measure_several_steps({"input": known, "reference": unknown}, config)
    with pytest.raises(ConfigError, match=r"unknown.*the scan has no voxel size"):
        next(step for step in steps if isinstance(step, StageStarted))


def test_comparing_with_a_volume_without_voxel_size_warns(rng):
    volumes = {"a": foam(rng), "b": Volume(noisy(rng), "ZYX", name="b")}
    steps = []
    made = measure_several_steps(volumes, MeasureConfig(), keep_labels=False)
    reports = run_to_end(made, steps.append)
    warnings = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert any("'b' has no voxel size" in message for message in warnings)
    assert reports["b"].min_voxels == reports["a"].min_voxels


def test_warnings_name_the_file_and_not_its_role(rng, tmp_path):
    path = io.write(Volume(noisy(rng), "ZYX"), tmp_path / "core.ome.zarr")
    volumes = {"input": io.read(path), "reference": foam(rng, name="whole")}
    said = []
    run_to_end(measure_several_steps(volumes, MeasureConfig()), said.append)
    texts = [s.message for s in said if isinstance(s, WarningIssued | StageStarted)]
    assert any("core.ome.zarr has no voxel size" in text for text in texts)
    assert "Measuring 'whole'" in texts
    assert not any("input" in text for text in texts)


def test_progress_rises_over_all_volumes(rng, monkeypatch):
    volumes = {"a": foam(rng), "b": foam(rng)}
    steps = list(measure_several_steps(volumes, MeasureConfig()))
    done = [s.done / s.total for s in steps if isinstance(s, BlockDone) and s.total]
    assert done == sorted(done)
    assert done[-1] == 1


def test_stopping_ends_at_the_next_block(rng):
    asked = iter([False, False, True])
    steps = measure_steps(
        foam(rng), MeasureConfig(), should_stop=lambda: next(asked, True)
    )
    with pytest.raises(Cancelled):
        list(steps)


def test_lazy_and_in_memory_give_the_same(rng):
    import dask.array as da

    volume = foam(rng)
    lazy = volume.replace(data=da.from_array(volume.data, chunks=(5, 17, 40)))
    one, other = measure_porosity(volume), measure_porosity(lazy)
    assert one.to_json_dict() == other.to_json_dict()
    assert np.array_equal(one.labels, other.labels)


def test_labels_too_large_for_memory_go_to_disk(rng, monkeypatch, tmp_path):
    from napari_geosr.operations import storage

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(storage, "_RESULT_SHARE", 0.0)
    volume = foam(rng)
    report = measure_porosity(volume)
    assert type(report.labels) is not np.ndarray
    monkeypatch.undo()
    assert np.array_equal(report.labels[:], measure_porosity(volume).labels)


def test_a_mask_of_other_voxels_is_looked_up_by_position(rng):
    volume = foam(rng)
    half = np.zeros(SHAPE, np.uint8)
    half[:16] = 1
    mask = volume.replace(data=half)
    same = measure_porosity(volume, mask)
    assert same.sample_voxels == half.sum()
    assert same.pore_count == 2
    fine = foam(rng, 2)
    looked_up = align_mask(mask, fine)
    assert isinstance(looked_up, ResampledMask)
    expected = half.repeat(2, 0).repeat(2, 1).repeat(2, 2) != 0
    assert np.array_equal(looked_up[:], expected)
    assert np.array_equal(looked_up[30:34, 3], expected[30:34, 3])


def test_a_mask_elsewhere_is_refused(rng):
    volume = foam(rng)
    for wrong in (
        volume.replace(data=np.ones((8, 40, 40))),
        volume.replace(origin=(400.0, 0.0, 0.0)),
        volume.replace(data=np.ones((40, 40)), axes="YX", voxel_size=(), origin=()),
    ):
        with pytest.raises(VolumeError, match="mask"):
            measure_porosity(volume, wrong)


def test_a_smaller_mask_is_refused_with_both_extents():
    volume = Volume.from_array(np.ones((4, 6, 6)), voxel_size=10.0, unit="µm")
    mask = volume.replace(data=np.ones((4, 4, 6)))
    said = "along Y: the mask extends from -5 to 35 µm, the volume from -5 to 55 µm"
    with pytest.raises(VolumeError, match=said):
        measure_porosity(volume, mask)


def test_a_larger_mask_needs_an_origin():
    volume = Volume.from_array(np.ones((4, 6, 6)), voxel_size=2.0, unit="µm")
    grey = volume.data.copy()
    grey[1:3, 2:4, 2:4] = 0
    volume = volume.replace(data=grey)
    large = volume.replace(data=np.pad(np.ones((4, 6, 6)), ((0, 0), (3, 3), (3, 3))))
    with pytest.raises(VolumeError, match="beyond 'array' by 12 µm along Y, X, and"):
        measure_porosity(volume, large)
    with pytest.raises(VolumeError, match="neither has an origin"):
        plan_scan(volume, large)
    placed = large.replace(origin=(0.0, -6.0, -6.0))
    assert measure_porosity(volume, placed).porosity == pytest.approx(8 / 144)
    coarse = large.replace(data=np.ones((2, 4, 4)), voxel_size=(4.0, 4.0, 4.0))
    assert measure_porosity(volume, coarse).sample_voxels == 144


@pytest.mark.parametrize("unit", ["nm", "m"])
def test_a_coarser_mask_is_looked_up_in_any_unit(rng, unit):
    edge = {"nm": 5.0, "m": 5e-9}[unit]
    volume = Volume.from_array(noisy(rng), voxel_size=edge, unit=unit)
    mask = np.zeros(SHAPE, np.uint8)
    mask[:8] = 1
    coarse = Volume.from_array(mask, voxel_size=2 * edge, unit=unit)
    coarse = coarse.replace(origin=(edge / 2,) * 3)  # the same corner
    assert measure_porosity(volume, coarse).sample_voxels == 16 * 40 * 40
    deviation = coarse.replace(data=np.ones(SHAPE, np.float32))
    with pytest.raises(VolumeError, match="different voxel grid"):
        measure_porosity(volume, deviation=deviation)


@pytest.mark.parametrize("shift", [1, 3])
def test_a_shifted_mask_far_from_zero_is_refused(rng, shift):
    place = {"voxel_size": (5.0,) * 3, "unit": "nm"}
    volume = Volume(noisy(rng), "ZYX", origin=(3e7,) * 3, **place)
    origin = (3e7 + shift * 5, 3e7, 3e7)
    mask = Volume(np.ones(SHAPE, np.uint8), "ZYX", origin=origin, **place)
    with pytest.raises(VolumeError, match=f"from 300000{shift * 5 - 2.5:04.1f} to"):
        measure_porosity(volume, mask)


def test_a_larger_mask_without_voxel_sizes_is_refused():
    volume = Volume.from_array(np.ones((4, 6, 6)))
    mask = volume.replace(data=np.ones((6, 6, 6)))
    with pytest.raises(VolumeError, match="neither has a voxel size"):
        measure_porosity(volume, mask)


@pytest.mark.parametrize("rule", ["otsu", "multi-otsu", "li", "triangle", 100.0])
def test_the_preview_shows_the_threshold_of_the_measurement(rng, rule):
    volume = foam(rng)
    config = MeasureConfig(threshold=rule)
    levels = run_to_end(histogram_steps(volume))
    assert not levels.sampled
    value = levels.threshold(config)
    report = measure_porosity(volume, threshold=rule)
    assert value == report.threshold
    assert run_to_end(threshold_steps(volume, config)) == value
    pores = sum(preview_mask(plane, value, config).sum() for plane in volume.data)
    assert pores == report.pore_voxels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_histogram_shows_nearly_every_voxel(rng, dtype):
    data = np.clip(noisy(rng), 0, 255)
    data[0, 0, :5] = 250
    levels = run_to_end(histogram_steps(Volume(data.astype(dtype), "ZYX")))
    counts, edges = levels.bars()
    assert len(edges) == len(counts) + 1
    assert len(counts) <= 160
    assert 0.999 * data.size <= counts.sum() <= data.size
    assert np.all(np.diff(edges) > 0)


def test_huge_volumes_are_sampled_for_the_preview(rng, monkeypatch):
    volume = foam(rng)
    monkeypatch.setattr(grey_levels, "_MAX_COUNTED", volume.nbytes // 2)
    levels = run_to_end(histogram_steps(volume))
    assert levels.sampled
    assert levels.histogram.n == volume.data.size // 2
    exact = measure_porosity(volume).threshold
    assert levels.threshold(MeasureConfig()) == pytest.approx(exact, abs=5)


def test_images_are_measured_too(rng):
    image = Volume(noisy(rng)[8], "YX", (4.0, 4.0), "µm")
    report = measure_porosity(image)
    assert report.pore_count == 2
    assert report.labels.shape == image.shape
    assert run_to_end(histogram_steps(image)).bars()[0].sum() > 0


def test_pore_size_is_physical():
    cube = Volume(np.zeros((2, 2, 2)), "ZYX", (2, 3, 4), "µm")
    size = pore_size(10, cube)
    assert size.volume == 240
    assert np.pi / 6 * size.diameter**3 == pytest.approx(240)
    flat = pore_size(10, Volume(np.zeros((2, 2)), "YX", (3, 4), "nm"))
    assert (flat.volume, flat.ndim, flat.unit) == (120, 2, "nm")
    assert np.pi / 4 * flat.diameter**2 == pytest.approx(120)


@pytest.mark.parametrize(
    "make_steps",
    [
        lambda volume: measure_several_steps({"a": volume}, MeasureConfig()),
        histogram_steps,
    ],
    ids=["measure", "histogram"],
)
def test_closing_the_generator_releases_the_voxels_and_threads(rng, make_steps):
    volume = foam(rng)
    array = np.array(volume.data)
    released = weakref.ref(array)
    volume = volume.replace(data=array)
    threads = set(threading.enumerate())
    steps = make_steps(volume)
    next(steps)
    del array, volume
    assert released() is not None
    steps.close()
    del steps
    gc.collect()
    assert released() is None
    assert set(threading.enumerate()) <= threads
