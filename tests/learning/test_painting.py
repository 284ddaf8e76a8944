"""Learning from strokes: features, forest, and the slices to paint next."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.painting import (
    Segmenter,
    banded_features,
    entropy,
    features,
    filter_features,
    grow_forest,
    read_strokes,
)

SHAPE = (12, 96, 104)
CLASSES = (1, 2, 4)


def three_phases(seed: int, shape=SHAPE) -> np.ndarray:
    """Pores (1), matrix (2) and small grains (4), as in a rock."""
    rng = np.random.default_rng(seed)
    large, small = (
        ndimage.gaussian_filter(rng.standard_normal(shape), s) for s in (5, 3)
    )
    pores = large < -0.4 * large.std()
    grains = ~pores & (small > small.std())
    return np.where(pores, 1, np.where(grains, 4, 2)).astype(np.uint8)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return three_phases(0)


@pytest.fixture(scope="module")
def scan(truth: np.ndarray) -> Volume:
    rng = np.random.default_rng(1)
    greys = np.array([0, 60, 100, 0, 140.0])[truth]
    values = ndimage.gaussian_filter(greys, 0.8) + rng.normal(0, 25, SHAPE)
    return Volume(values.astype(np.float32), "ZYX", (2.0, 1.0, 1.0), "µm")


def painted(truth: np.ndarray, slices: tuple[int, ...], n: int = 5) -> np.ndarray:
    """Short strokes, three voxels wide, inside each class; 0 elsewhere."""
    rng = np.random.default_rng(2)
    labels = np.zeros_like(truth)
    for z in slices:
        for number in CLASSES:
            inside = truth[z] == number
            for y, x in rng.permutation(np.argwhere(inside))[:n]:
                stroke = np.zeros_like(inside)
                stroke[max(0, y - 1) : y + 2, max(0, x - 6) : x + 7] = True
                labels[z][stroke & inside] = number
    return labels


@pytest.fixture(scope="module")
def labels(truth: np.ndarray) -> Volume:
    return Volume(painted(truth, (2, 8)), "ZYX", name="strokes")


@pytest.fixture(scope="module")
def segmenter(scan: Volume, labels: Volume) -> Segmenter:
    made = Segmenter(scan)
    run_to_end(made.learn_steps(read_strokes(labels, scan)))
    return made


def mean_dice(found: np.ndarray, truth: np.ndarray) -> float:
    pairs = [(found == k, truth == k) for k in CLASSES]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))


def test_a_few_strokes_are_better_than_a_threshold(
    segmenter: Segmenter, scan: Volume, truth: np.ndarray
) -> None:
    unseen = [0, 5, 11]
    found = np.stack([segmenter.segment(z).labels for z in unseen])
    assert found.dtype == np.uint8
    dice = mean_dice(found, truth[unseen])
    assert dice > 0.88
    for width, gain in ((0, 0.3), (1, -0.04)):  # unfiltered, and after the best filter
        smooth = ndimage.gaussian_filter(scan[:], width)
        values = np.digitize(smooth, threshold_multiotsu(smooth, 3))[unseen]
        assert dice > mean_dice(np.array(CLASSES)[values], truth[unseen]) + gain


def test_probabilities_and_entropy_belong_together(
    segmenter: Segmenter, truth: np.ndarray
) -> None:
    found = segmenter.segment(5)
    assert found.probabilities.shape == (3, *SHAPE[1:])
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    best = np.array(CLASSES)[found.probabilities.argmax(axis=0)]
    np.testing.assert_array_equal(best, found.labels)
    wrong = found.labels != truth[5]
    assert found.entropy[wrong].mean() > 1.5 * found.entropy[~wrong].mean()


def test_entropy_is_zero_if_sure_and_one_for_a_guess() -> None:
    shares = np.array([[1, 0.25], [0, 0.25], [0, 0.25], [0, 0.25]], np.float32)
    np.testing.assert_allclose(entropy(shares), [0, 1], atol=1e-6)


def test_the_same_strokes_and_seed_give_the_same_result(
    scan: Volume, labels: Volume, segmenter: Segmenter
) -> None:
    strokes = read_strokes(labels, scan)
    expected = segmenter.segment(4).probabilities
    # Not via the earlier strokes.
    other = Segmenter(scan)
    first = np.array(labels.data)
    first[8] = 0
    run_to_end(other.learn_steps(read_strokes(labels.replace(data=first), scan)))
    other.segment(8)
    run_to_end(other.learn_steps(strokes))
    np.testing.assert_array_equal(other.segment(4).probabilities, expected)
    seeded = Segmenter(scan, seed=1)
    run_to_end(seeded.learn_steps(strokes))
    assert (seeded.segment(4).probabilities != expected).any()


def test_a_removed_class_is_forgotten(scan: Volume, labels: Volume) -> None:
    made = Segmenter(scan)
    run_to_end(made.learn_steps(read_strokes(labels, scan)))
    without = np.where(labels.data == 4, 0, labels.data)
    run_to_end(made.learn_steps(read_strokes(labels.replace(data=without), scan)))
    found = made.segment(3)
    assert set(np.unique(found.labels)) == {1, 2}
    assert len(found.probabilities) == 2


def test_bands_give_the_features_of_the_whole_slice(monkeypatch) -> None:
    plane = np.random.default_rng(0).standard_normal((150, 40)).astype(np.float32)
    whole = filter_features(plane, plane[::-1])
    assert whole.shape == (features.N_FEATURES, 150, 40)
    monkeypatch.setattr(features, "_BAND_VOXELS", 37 * 40)
    parts = list(banded_features(plane, plane[::-1]))
    assert len(parts) == 5
    np.testing.assert_allclose(
        np.concatenate([found for _, found in parts], axis=1), whole, atol=1e-6
    )


def test_features_of_an_edge() -> None:
    """On the edge, the gradient is largest and the curvature changes its sign."""
    plane = np.zeros((40, 40), np.float32)
    plane[:, 20:] = 1
    _, mean, gradient, high, low = filter_features(plane, plane)[:5, 20]
    assert 0.45 < mean[19:21].mean() < 0.55
    assert gradient.argmax() in (19, 20)
    assert high[18] > 0.05 > abs(low[18])
    assert low[21] < -0.05
    assert abs(high[21]) < 0.05


def test_a_forest_separates_what_can_be_separated() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(at, 1, (200, 5)).astype(np.float32) for at in (0, 4)]
    forest = grow_forest(samples, (3, 9), seed=0)
    new = rng.normal(4, 1, (5, 100)).astype(np.float32)
    shares = forest.probabilities(new)
    assert shares.shape == (2, 100)
    assert (shares[1] > 0.5).mean() > 0.97
    # Features without contrast do not cause a failure.
    flat = [np.zeros((3, 5), np.float32)] * 2
    shares = grow_forest(flat, (0, 1), seed=0).probabilities(new)
    np.testing.assert_allclose(shares, 0.5)


def test_few_features_are_kept(scan: Volume, monkeypatch) -> None:
    from napari_geosr.learning.painting import segmenter as module

    nbytes = features.N_FEATURES * SHAPE[1] * SHAPE[2] * 4
    monkeypatch.setattr(module, "_CACHE_BYTES", 2 * nbytes)
    made = Segmenter(scan)
    for z in (0, 1, 2, 1):
        list(made.features(z))
    assert list(made._features) == [2, 1]
    monkeypatch.setattr(module, "_CACHE_BYTES", nbytes - 1)
    list(made.features(5))
    assert 5 not in made._features


# Strokes


def test_255_stands_for_unpainted_where_it_occurs(scan: Volume) -> None:
    data = np.full(SHAPE, 255, np.uint8)
    data[3, :4] = 0
    data[3, 10:14] = 1
    found = read_strokes(Volume(data, "ZYX"), scan)
    assert found.unpainted == 255
    assert found.classes == (0, 1)
    assert found.counts == {0: 4 * 104, 1: 4 * 104}
    assert list(found.slices) == [3]
    assert read_strokes(Volume(data, "ZYX"), scan, 0).classes == (1, 255)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((2, 3, 4), np.uint8), "12 × 96 × 104"),
        (np.zeros(SHAPE, np.uint8), "Nothing is painted"),
        (np.eye(96, 104, dtype=np.uint8)[None].repeat(12, 0), "Only class 1"),
        (np.full(SHAPE, 0.5), "0.5, which is not a whole number"),
        (np.full(SHAPE, np.nan), "not a whole number"),
        (np.full(SHAPE, -1, np.int16), "the value -1"),
        (np.arange(12 * 96 * 104).reshape(SHAPE), "object numbers"),
    ],
)
def test_unsuitable_labels_are_refused(scan: Volume, data, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        read_strokes(Volume(data, "ZYX", name="strokes"), scan)


def test_a_class_on_missing_voxels_alone_is_refused(
    scan: Volume, labels: Volume
) -> None:
    values = np.array(scan.data)
    values[labels.data == 4] = np.nan
    made = Segmenter(scan.replace(data=values))
    with pytest.raises(VolumeError, match="Class 4 is painted only where"):
        run_to_end(made.learn_steps(read_strokes(labels, scan)))


def test_missing_voxels_stay_unpainted(scan: Volume, labels: Volume) -> None:
    values = np.array(scan.data)
    values[5, :10] = np.nan
    made = Segmenter(scan.replace(data=values))
    run_to_end(made.learn_steps(read_strokes(labels, scan)))
    found = made.segment(5).labels
    assert (found[:10] == 0).all()
    assert (found[10:] != 0).all()


def test_learning_can_be_stopped(scan: Volume, labels: Volume) -> None:
    with pytest.raises(Cancelled):
        read_strokes(labels, scan, should_stop=lambda: True)
    with pytest.raises(Cancelled):
        run_to_end(
            Segmenter(scan).learn_steps(read_strokes(labels, scan), lambda: True)
        )


# Slices to paint next


def test_first_the_slices_that_differ_most(scan: Volume) -> None:
    values = np.array(scan.data)
    values[9] += 80  # of another kind
    found = run_to_end(Segmenter(scan.replace(data=values)).suggest_steps(3))
    slices = [each.z for each in found]
    assert len(set(slices)) == 3
    assert slices[0] != 9  # the most typical one is first
    assert 9 in slices


def test_then_the_most_uncertain_ones(scan: Volume, labels: Volume) -> None:
    values = np.array(scan.data)
    values[10] = 0.3 * (values[10] - 100) + 80  # poor contrast
    made = Segmenter(scan.replace(data=values))
    run_to_end(made.learn_steps(read_strokes(labels, scan)))
    found = run_to_end(made.suggest_steps(3))
    assert found[0].z == 10
    assert "uncertainty" in found[0].reason
    assert not {2, 8} & {each.z for each in found}
