"""A small gain is taken at the lowest strength that costs almost nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.models import zoo
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.ranking.config import RankConfig
from napari_geosr.operations.restore.ranking.gentler import with_gentler_strength
from napari_geosr.operations.restore.ranking.pore_tests import PoreTests
from napari_geosr.operations.restore.ranking.rank import rank_steps
from napari_geosr.operations.restore.ranking.result import RankingEntry, decide
from napari_geosr.operations.restore.steps import restore_steps

NOISE = Noise(10.0, 100.0, correlation={"x": 0.6}, interval=(9, 11))
NONE = RankingEntry("none", "", 10.0, 0.0, (0.0, 0.0))


def entry(name: str, gain: float, **more: Any) -> RankingEntry:
    model = zoo.find(more.pop("model", "ct-denoise"))
    error = 10 / 10 ** (gain / 20)
    return RankingEntry(name, "", error, gain, (0.6, 30), None, model, **more)


class GivenGains(PoreTests):
    """Gains at other strengths, and the strengths at which pores are wrong."""

    def __init__(self, gains: dict[float, float], wrong: tuple[float, ...] = ()):
        super().__init__(None, None, self._row)  # type: ignore[arg-type]
        self.gains, self.wrong = gains, wrong
        self.tried: list[float] = []

    def _row(self, row: RankingEntry, strength: float) -> RankingEntry:
        self.tried.append(strength)
        return replace(entry(row.name, self.gains[strength]), run_strength=strength)

    def wrong_pores(self, row: RankingEntry) -> str:
        return "far more pores" if row.run_strength in self.wrong else ""


@pytest.mark.parametrize(
    ("gain", "lower", "wrong", "expected"),
    [
        (1.65, {0.9: 1.58, 0.8: 1.41}, (), 0.9),  # bone with 2 % noise
        (1.65, {0.9: 1.70, 0.8: 1.60}, (), 0.8),
        (1.65, {0.9: 1.50, 0.8: 1.60}, (), 1.0),
        (1.65, {0.9: 1.60, 0.8: 1.60}, (0.8,), 0.9),
        (1.65, {0.9: 1.60, 0.8: 1.60}, (0.9,), 1.0),
        (2.6, {0.9: 2.60, 0.8: 2.60}, (), 1.0),  # the gain is not small
    ],
)
def test_the_lowest_strength_with_almost_the_same_gain(gain, lower, wrong, expected):
    rows = [entry("a", gain), NONE]
    found = with_gentler_strength(rows, NOISE, GivenGains(lower, wrong))
    assert found[0].run_strength == expected
    assert found[0].gain == {1.0: gain, **lower}[expected]
    choice, reason = decide(found, NOISE)
    assert choice == "a"
    assert ("almost the same as at strength 1" in reason) == (expected != 1)


def test_the_choice_remains():
    """Even if another candidate is between the two strengths."""
    patches = entry("nlm", 1.99, model="nlm", compares_patches=True)
    rows = [patches, entry("a", 1.65), NONE]
    assert decide(rows, NOISE)[0] == "a"
    found = with_gentler_strength(rows, NOISE, GivenGains({0.9: 1.58, 0.8: 1.3}))
    assert decide(found, NOISE)[0] == "a"
    assert next(row for row in found if row.name == "a").run_strength == 0.9
    assert [row.error for row in found] == sorted(row.error for row in found)


@given(
    gains=st.lists(st.floats(0.1, 6), min_size=1, max_size=4),
    lower=st.tuples(st.floats(0, 6), st.floats(0, 6)),
)
def test_little_is_given_up_and_the_choice_is_kept(gains, lower):
    rows = [entry(f"m{i}", gain) for i, gain in enumerate(gains)] + [NONE]
    rows.sort(key=lambda row: row.error)
    found = with_gentler_strength(
        rows, NOISE, GivenGains({0.9: lower[0], 0.8: lower[1]})
    )
    choice, _ = decide(rows, NOISE)
    assert decide(found, NOISE)[0] == choice
    before, after = (
        next(row for row in each if row.name == choice) for each in (rows, found)
    )
    assert after.gain >= before.gain - 0.1
    assert after.run_strength in (1.0, 0.9, 0.8)
    assert [r for r in found if r is not after] == [r for r in rows if r is not before]


def test_what_has_no_lower_strength_keeps_it():
    unbounded = replace(entry("tv", 1.5, model="tv"))
    already = entry("a", 1.5, run_strength=0.8)
    for row in (unbounded, already):
        tests = GivenGains({0.9: 1.5, 0.8: 1.5})
        assert with_gentler_strength([row, NONE], NOISE, tests) == [row, NONE]
        assert not tests.tried
    own = GivenGains({})
    own.at_strength = None  # the user has set a strength
    assert with_gentler_strength([entry("a", 1.5)], NOISE, own)[0].run_strength == 1


@pytest.mark.parametrize("error", [Cancelled("stop"), VolumeError("no blocks")])
def test_failures(error):
    tests = GivenGains({0.9: 1.5, 0.8: 1.5})

    def fail(_row: RankingEntry) -> str:
        raise error

    tests.wrong_pores = fail  # type: ignore[method-assign]
    rows = [entry("a", 1.5), NONE]
    if isinstance(error, Cancelled):
        with pytest.raises(Cancelled, match="nothing was written"):
            with_gentler_strength(rows, NOISE, tests)
    else:
        assert with_gentler_strength(rows, NOISE, tests) == rows


@pytest.mark.slow
def test_bone_with_weak_noise_is_restored_gently(shared_data):
    """The gentler result is closer to the scan without added noise."""
    path = shared_data / "ct_volumes" / "bone_128x128x128.tif"
    clean = tifffile.imread(path)[48:72, 16:112, 16:112].astype(np.float32)
    low, high = np.percentile(clean, (2, 98))
    noise = gaussian_filter(np.random.default_rng(3).normal(size=clean.shape), 0.8)
    noisy = (clean + 0.02 * (high - low) * noise / noise.std()).astype(np.float32)
    scan = Volume(noisy, "ZYX")
    ranking = run_to_end(rank_steps(scan, RankConfig(threads=1)))
    assert ranking.choice == "ct-denoise"
    assert ranking.chosen.is_gentler
    errors = {}
    for strength in (1.0, ranking.chosen.run_strength):
        config = RestoreConfig(model="ct-denoise", strength=strength, threads=1)
        made = run_to_end(restore_steps(scan, config)).volume.data
        errors[strength] = float(np.square(np.asarray(made) - clean).mean())
    assert min(errors, key=lambda s: errors[s]) < 1
