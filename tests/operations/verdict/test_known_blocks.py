"""Experiments with known blocks: what a model does to pores of a known scan."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.removed import RemovalStatistics
from napari_geosr.measure.noise.topics import Remark
from napari_geosr.models.zoo import find
from napari_geosr.operations.restore.verdict import rules
from napari_geosr.operations.restore.verdict.known_block_test import lost_pores
from napari_geosr.operations.restore.verdict.known_blocks import (
    compared_blocks,
    draw_known_sample,
    run_known_blocks,
)
from napari_geosr.operations.restore.verdict.small_objects import small_objects


def solid_with_pores() -> Volume:
    """A bright solid with large and small dark pores and noise of 8 %."""
    rng = np.random.default_rng(3)
    data = np.full((16, 96, 96), 100.0)
    grid = np.indices(data.shape)
    for y in range(12, 90, 12):
        for x in range(12, 90, 12):
            centre = rng.uniform((6, y - 1, x - 1), (10, y + 1, x + 1))
            radius = 4.5 if (x + y) % 24 else 2.2
            distance = np.square(grid - centre[:, None, None, None]).sum(axis=0)
            data[distance < radius**2] = 0
    soft = ndimage.gaussian_filter(data, 0.8) + rng.normal(0, 8, data.shape)
    return Volume(soft.astype(np.float32), "ZYX", name="scan")


def test_the_test_tells_the_scan_from_the_model():
    """Tested with three models whose effect is known."""
    volume = solid_with_pores()
    noise = Noise(
        8.0, 100.0, correlation=dict.fromkeys("zyx", 0.0), interval=(7.5, 8.5)
    )
    sample = draw_known_sample(volume, noise)
    assert [block.valid.shape for block in sample.blocks] == [(16, 96, 96)]
    same, erasing, speckling = (
        run_known_blocks(model, sample, noise)
        for model in (keep, without_small_pores, with_specks)
    )
    # A model that returns the scan loses nothing that the scan shows.
    assert {33, 81} <= same.countable
    assert same.lost_from_scan is None
    assert same.missing is None
    assert all(seen == kept for seen, kept in same.kept.values())
    assert same.countable == erasing.countable == speckling.countable
    # One that removes small pores loses those that the scan shows.
    assert erasing.found[33] < 0.2 < 0.8 < same.found[33]
    assert erasing.lost_from_scan >= 33
    assert erasing.missing >= 33
    seen, kept = erasing.kept[33]
    assert seen >= 20
    assert kept <= seen / 10
    # Applied twice, one that returns the scan changes nothing; one that erodes does.
    assert same.counts[0].is_stable
    eroding = run_known_blocks(eroded, sample, noise)
    assert eroding.counts[0].repeated < eroding.counts[0].result < 40
    once = run_known_blocks(keep, sample, noise, repeats=False)
    assert once.counts == tuple(replace(one, repeated=None) for one in same.counts)
    # One that invents specks shows too many pores.
    assert speckling.counts[0].result > 2 * same.counts[0].result
    assert speckling.counts[0].is_off(2)


@pytest.mark.parametrize("surroundings", [0.0, np.nan])
def test_surroundings_of_the_sample_hide_no_change_of_pores(surroundings):
    """Grey values of the pores are then closer to the solid than to the padding."""
    data = 120 + 0.8 * np.asarray(solid_with_pores().data, float)
    y, x = np.indices(data.shape[1:]) - 47.5
    data[:, np.hypot(y, x) > 44] = surroundings
    noise = Noise(6.4, 80.0, correlation=dict.fromkeys("zyx", 0.0), interval=(6, 7))
    sample = draw_known_sample(Volume(data.astype(np.float32), "ZYX"), noise)
    same, erasing, speckling = (
        run_known_blocks(model, sample, noise)
        for model in (keep, without_small_pores, with_dark_specks)
    )
    assert same.counts[0].result > 20
    assert not same.counts[0].is_off(1.5)
    assert same.found[33] > 0.8
    assert erasing.found[33] < 0.2
    assert erasing.missing >= 33
    assert speckling.counts[0].is_off(2)


@pytest.mark.parametrize(("level", "is_shown"), [(12.0, True), (45.0, False)])
def test_the_scan_is_not_blamed_for_what_a_filter_removes(level, is_shown):
    """Small cavities are visible when the noise is weak; a wide filter removes them."""
    rng = np.random.default_rng(4)
    truth = np.full((20, 96, 96), 150.0)
    for z, y, x in zip(
        *(rng.integers(2, n - 4, 400) for n in truth.shape), strict=True
    ):
        truth[z : z + 2, y : y + 3, x : x + 2] = 60
    scan = truth + level * rng.standard_normal(truth.shape)
    noise = Noise(
        level,
        90.0,
        correlation=dict.fromkeys("zyx", 0.0),
        interval=(0.95 * level, 1.05 * level),
    )
    sample = draw_known_sample(Volume(scan.astype(np.float32), "ZYX"), noise)
    test = run_known_blocks(without_small_pores, sample, noise)
    assert test.limit is not None
    assert (19 in test.shown) == is_shown
    words = lost_pores(test)
    assert ("they are removed together with the noise" in words) == is_shown
    assert ",:" not in lost_pores(test, 8)


@pytest.mark.parametrize("count", [12, 900])
def test_rare_pores_are_not_to_be_counted_in_a_scan_whose_threshold_splits_noise(
    count,
):
    """The filter loses them; Otsu's threshold finds them in the scan if not rare."""
    rng = np.random.default_rng(4)
    truth = np.full((20, 96, 96), 100.0)
    for z, y, x in zip(
        *(rng.integers(2, n - 5, count) for n in truth.shape), strict=True
    ):
        truth[z : z + 3, y : y + 3, x : x + 3] = 0
    scan = truth + 15 * rng.standard_normal(truth.shape)
    noise = Noise(
        15.0, 100.0, correlation=dict.fromkeys("zyx", 0.0), interval=(14.0, 16.0)
    )
    sample = draw_known_sample(Volume(scan.astype(np.float32), "ZYX"), noise)
    test = run_known_blocks(without_small_pores, sample, noise)
    is_rare = count == 12
    assert test.is_scan_separated != is_rare
    assert test.other.is_scan_separated != is_rare
    inseparable = replace(test, is_separated=True, has_one_peak=False)
    words = lost_pores(inseparable)
    assert "they are removed together with the noise" in words
    assert ("does not separate them from the noise of the scan either" in words) == (
        is_rare
    )


@pytest.mark.parametrize("ball_level", [0.0, 100.0])
def test_specks_of_stronger_noise_in_a_part_of_the_scan_are_no_objects(ball_level):
    """The stated level is that of the least noisy part; real objects are still seen."""
    rng = np.random.default_rng(4)
    truth = np.full((32, 96, 96), 50.0)
    grid = np.indices(truth.shape)
    for y, x in itertools.product((20, 44, 68), repeat=2):
        near = np.square(grid - np.array([8, y, x]).reshape(3, 1, 1, 1)).sum(0)
        truth[near < 9] += ball_level
    levels = np.where(np.arange(32) < 16, 5.0, 30.0)[:, None, None]
    scan = truth + levels * rng.standard_normal(truth.shape)
    remark = Remark("The noise depends on the position: 6 times as strong.", "position")
    stated = Noise(
        5.0, 100.0, correlation=dict.fromkeys("zyx", 0.0), interval=(4.8, 30.0)
    )
    smooth = ndimage.gaussian_filter(scan, 1.5)
    part = np.ones(truth.shape, bool)

    def seen(noise):
        blocks = compared_blocks([scan], [smooth], [part], noise)
        return sum(each.seen for kind in small_objects(blocks) for each in kind)

    assert seen(stated) > 50
    objects = 9 if ball_level else 0
    assert objects <= seen(replace(stated, doubts=(remark,))) <= objects + 2


def test_an_image_is_tested_alike_with_and_without_a_z_axis():
    image = np.asarray(solid_with_pores().data)[8]
    noise = Noise(8.0, 100.0, correlation={"y": 0.0, "x": 0.0}, interval=(7, 9))
    tests = []
    for data, axes in ((image, "YX"), (image[None], "ZYX")):
        sample = draw_known_sample(Volume(data, axes), noise)
        tests.append(run_known_blocks(keep, sample, noise))
    first, second = tests
    assert first == second
    assert first.counts[0].smallest == 9
    assert first.found


def test_pores_clipped_to_black_are_no_padding():
    data = np.asarray(solid_with_pores().data).clip(15, None)
    noise = Noise(8.0, 100.0, correlation=dict.fromkeys("zyx", 0.0), interval=(7, 9))
    sample = draw_known_sample(Volume(data, "ZYX"), noise)
    assert run_known_blocks(keep, sample, noise).counts[0].result > 40


def keep(window, core):
    return window[core]


def without_small_pores(window, core):
    return ndimage.median_filter(ndimage.gaussian_filter(window, 0.7), 7)[core]


def eroded(window, core):
    """Every pore two voxels smaller on all sides."""
    smooth = ndimage.gaussian_filter(window, 0.7)
    return ndimage.grey_dilation(smooth, size=5)[core]


def with_dark_specks(window, core):
    return 120 + 0.8 * with_specks((window - 120) / 0.8, core)


def with_specks(window, core):
    result = ndimage.gaussian_filter(window, 0.7)[core].copy()
    for y in range(3, 92, 6):
        for x in range(3, 92, 6):
            result[2:6, y : y + 4, x : x + 4] = 0
    return result


def test_dark_pores_in_the_struts_of_a_mostly_dark_scan_are_tested():
    """Struts with pores, next to a large dark space."""
    data = np.asarray(solid_with_pores().data, float)
    rng = np.random.default_rng(4)
    data[..., 42:] = rng.normal(0, 8, data[..., 42:].shape)
    noise = Noise(
        8.0, 100.0, correlation=dict.fromkeys("zyx", 0.0), interval=(7.5, 8.5)
    )
    sample = draw_known_sample(Volume(data.astype(np.float32), "ZYX"), noise)
    same, erasing = (
        run_known_blocks(model, sample, noise) for model in (keep, without_small_pores)
    )
    assert same.are_bright
    assert not same.other.are_bright
    assert same.other.found[33] > 0.8
    assert same.other.missing is None
    assert erasing.other.found[33] < 0.2
    assert erasing.other.missing >= 33
    removed = RemovalStatistics(0.2, 1.0, {}, 0.0, 0.0, 3.0, 6.0)
    facts = rules.RunAssessment(
        find("ct-denoise").card, noise, removed, (8.0, 5.0, 12.0), erasing
    )
    assert any("Small pores that" in each.sentence for each in rules.cautions(facts))
    assert "count bright spots or pores of up to" in lost_pores(erasing)
