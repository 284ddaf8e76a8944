"""Chord lengths in volumes that cut many of the chords."""

import math

import numpy as np
import pytest
from pore_shapes import measure, scan

from napari_geosr.measure.phases.findings import Morphometry


def two_point(pores: np.ndarray, **settings) -> Morphometry:
    edges = (1.0,) * pores.ndim
    settings = {"voxel_size": edges, "unit": "µm", "threshold": 120.0} | settings
    report = measure(
        scan(pores), "ZYX"[-pores.ndim :], statistics=("two_point",), **settings
    )
    return report.morphometry["two_point"]


def remarks(found: Morphometry, name: str) -> str:
    return " ".join(text for text in found.remarks if text.startswith(name))


@pytest.mark.parametrize("sigma", [4, 8])
def test_small_volumes_give_the_mean_chord_of_a_random_field(sigma: int) -> None:
    """Half of the space is pores: the mean distance between zeros of the field (Rice).

    Whole chords alone would give 14 instead of 18, and 21 instead of 36 voxels.
    """
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(sigma).standard_normal((160,) * 3, np.float32)
    pores = gaussian_filter(noise, sigma, mode="wrap") < 0
    expected = math.pi * math.sqrt(2) * sigma
    parts = [
        two_point(pores[z : z + 64, y : y + 64, x : x + 64])
        for z in (0, 80)
        for y in (0, 80)
        for x in (0, 80)
    ]
    for name in ("Chord.pore", "Chord.solid"):
        found = [part.values[name] for part in parts]
        assert np.mean(found) == pytest.approx(expected, rel=0.12)
    deviations = [part.values["Chord.pore.SD"] for part in parts]
    given = [sd for sd in deviations if sd is not None]
    assert bool(given) is (sigma == 4)  # at 8, many chords are longer than the volume
    if given:
        assert np.mean(given) == pytest.approx(13.6, rel=0.12)  # 512³ voxels: 13.6


def test_the_mean_chord_agrees_with_the_surface() -> None:
    """4 φ / S_v, the mean chord over all orientations."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(1).standard_normal((96,) * 3, np.float32)
    found = two_point(gaussian_filter(noise, 6) < 0)
    share = found.curves["two_point"]["S2"][0]
    by_surface = 4 * share / found.values["S_v"]
    assert found.values["Chord.pore"] == pytest.approx(by_surface, rel=0.04)


def test_remarks_tell_that_the_border_cuts_most_chords() -> None:
    tubes = np.zeros((40, 40, 40), bool)
    tubes[:, 10:20, 10:20] = True
    found = two_point(tubes)
    # Chords of 10 voxels along Y and X; those along Z have no ends.
    assert found.values["Chord.pore"] == pytest.approx(15, rel=0.03)
    assert found.values["Chord.pore.SD"] is None
    assert "cut by the border of the sample" in remarks(found, "Chord.pore.SD")
    assert "are cut by the border" in remarks(found, "Chord.solid is uncertain")
    assert "Chord.pore is uncertain" not in " ".join(found.remarks)  # a third is cut


def test_whole_chords_alone_give_their_own_mean_and_deviation() -> None:
    block = np.zeros((200, 200), bool)
    block[50:60, 50:70] = True  # 20 chords of 10 and 10 chords of 20 pixels
    found = two_point(block)
    assert not remarks(found, "Chord.pore")
    mean = 40 / 3
    assert found.values["Chord.pore"] == pytest.approx(mean, rel=0.006)  # 199 pairs
    sd = math.sqrt((20 * (10 - mean) ** 2 + 10 * (20 - mean) ** 2) / 30)
    assert found.values["Chord.pore.SD"] == pytest.approx(sd)


def test_no_phase_changes_and_a_single_chord() -> None:
    everything = two_point(np.zeros((20, 20), bool))
    assert everything.values["Chord.pore"] is None
    assert "no phase changes" in remarks(everything, "Chord.solid cannot")
    line = np.zeros((60, 1, 1), bool)
    line[20:30] = True
    one = two_point(line)
    assert one.values["Chord.pore"] == pytest.approx(10, rel=0.02)
    assert one.values["Chord.pore.SD"] is None
    assert "only one chord" in remarks(one, "Chord.pore.SD")


def test_one_chord_with_a_sample_mask() -> None:
    """The border of the mask cuts chords; voxels outside do not count."""
    pores = np.zeros((30, 60), bool)
    pores[:, ::2] = True
    mask = np.zeros_like(pores)
    mask[:, 11:30] = True
    found = two_point(pores, mask=mask)
    # 9 of 19 pixels of a line are pores; 18 phase changes in 18 pairs of pixels.
    assert found.values["Chord.pore"] == pytest.approx(2 * 2 * 9 / 19)
