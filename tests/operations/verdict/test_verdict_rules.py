"""Rules that make a verdict worse, and its accompanying messages."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr.core.noise import Noise
from napari_geosr.measure.comparison.removed import RemovalStatistics
from napari_geosr.models.zoo import find
from napari_geosr.operations.restore.upscaling.result import UpscalingVerdict
from napari_geosr.operations.restore.verdict import rules
from napari_geosr.operations.restore.verdict.known_block_test import (
    KnownBlockTest,
    count_limits,
    lost_pores,
)
from napari_geosr.operations.restore.verdict.pore_counts import PoreCounts, differ
from napari_geosr.operations.restore.verdict.pore_findings import (
    doubtful_pores,
    wrong_pores,
)
from napari_geosr.operations.restore.verdict.small_objects import SmallObjects

SIZES = (7, 19, 33, 81)
NOISE = Noise(20.0, 100.0, correlation=dict.fromkeys("zyx", 0.0), interval=(18, 22))
FEW = PoreCounts("pores", 27, 3, 3, 3)
counts = st.builds(
    PoreCounts, st.just("pores"), st.just(27), *(st.integers(0, 300),) * 3
)
shares = st.fixed_dictionaries({n: st.floats(0, 1) for n in SIZES})
tests = st.builds(
    KnownBlockTest,
    gain=st.floats(-3, 20),
    counts=st.tuples(counts),
    small_counts=st.tuples(counts),
    found=shares,
    countable=st.frozensets(st.sampled_from(SIZES)),
    kept=st.dictionaries(
        st.sampled_from(SIZES),
        st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    ),
)
removals = st.builds(
    RemovalStatistics,
    change=st.floats(0, 0.3),
    level=st.floats(0, 2),
    correlation=st.just({}),
    coarser=st.floats(-0.5, 0.5),
    follows=st.floats(-0.5, 0.5),
    strongest=st.floats(0, 10),
    limit=st.just(6.0),
)


@pytest.fixture(scope="module")
def card():
    return find("ct-denoise").card


def facts_of(card, **more) -> rules.RunAssessment:
    """A restoration without problems, unless `more` changes that."""
    found = dict.fromkeys(SIZES, 1.0)
    well = KnownBlockTest(8.0, (FEW,), (FEW,), found, frozenset(SIZES))
    plain = RemovalStatistics(0.2, 1.0, {}, 0.0, 0.0, 3.0, 6.0)
    given_facts = {"removed": plain, "gain": (8.0, 5.0, 12.0), "known_blocks": well}
    return rules.RunAssessment(card, NOISE, **{**given_facts, **more})


def causes(facts) -> set[str]:
    return {each.cause for each in (*rules.harms(facts), *rules.cautions(facts))}


def test_all_is_well_is_no_finding(card):
    facts = facts_of(card)
    assert causes(facts) == set()
    assert list(rules.notes(facts)) == []
    assert rules.all_is_well(facts).endswith("only noise would be removed.")


def test_a_restoration_that_changes_nothing_is_not_said_to_remove_noise():
    unchanged = RemovalStatistics(0.0, 0.0, {}, 0.0, 0.0, 0.0, 0.0)
    facts = facts_of(find("gaussian").card, removed=unchanged, known_blocks=None)
    words = rules.all_is_well(facts)
    assert words == "gaussian returns the scan as it is, with its noise."
    # The estimated gain has an interval even if nothing is changed.
    doubtful = (0.0, -0.2, 0.1)
    wrong = PoreCounts("pores", 27, 300, 100, 3)
    pores = KnownBlockTest(0.0, (wrong,), (wrong,), dict.fromkeys(SIZES, 0.0))
    same = facts_of(facts.card, removed=unchanged, gain=doubtful, known_blocks=pores)
    assert causes(same) == set()
    assert causes(replace(same, removed=replace(unchanged, change=0.1)))
    clean = replace(NOISE, level=0.0, levels=(0.0,), interval=(0.0, 0.0))
    tiny = replace(unchanged, change=2.3e-8)
    facts = replace(facts, noise=clean, removed=tiny, gain=None)
    assert "identical to the scan. Leave the scan as it is." in rules.all_is_well(facts)


@given(found=shares)
@settings(max_examples=40, deadline=None)
def test_what_the_scan_does_not_show_is_told_and_no_caution(found):
    facts = facts_of(find("ct-denoise").card)
    test = replace(facts.known_blocks, found=found, countable=frozenset())
    facts = replace(facts, known_blocks=test)
    assert causes(facts) == set()
    lost = list(itertools.takewhile(lambda n: found[n] < 0.7, SIZES))
    words = rules.all_is_well(facts)
    assert ("in either the scan or the result" in words) == bool(lost)
    if lost:
        assert f"Pores of up to {max(lost)} voxels" in words


@given(test=tests)
@settings(max_examples=100, deadline=None)
def test_lost_pores_are_a_caution_if_most_of_the_scan_s_own_are_lost(test):
    facts = facts_of(find("ct-denoise").card, known_blocks=test)
    lost = {
        n
        for n, (seen, kept) in test.kept.items()
        if kept < seen / 2 and seen - kept >= 5
    }
    is_said = "lost pores" in causes(facts)
    assert is_said == (max(lost, default=0) >= 33)
    if is_said:
        said = " ".join(one.sentence for one in rules.cautions(facts))
        seen, kept = test.kept[max(lost)]
        assert f"of {seen} with about {max(lost)} voxels" in said
        assert f"keeps {kept}" in said


@given(seen=st.integers(0, 40), kept=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_faint_pores_of_the_scan_are_lost_at_sizes_of_which_test_pores_are_found(
    seen, kept
):
    kept = min(seen, kept)
    facts = facts_of(find("ct-denoise").card)
    test = replace(facts.known_blocks, kept={19: (seen, kept)})
    facts = replace(facts, known_blocks=test)
    assert causes(facts) == set()
    is_lost = seen > 2 * kept and seen - kept >= 5
    assert test.limit == (38 if is_lost else None)
    assert test.lost_from_scan == test.limit
    said = "Do not count pores of up to 38 voxels in the result"
    assert (said in rules.all_is_well(facts)) == is_lost


@given(
    test=tests,
    removed=removals,
    low=st.floats(-2, 8),
    middle=st.sampled_from([0.2, 8.0]),
)
@settings(max_examples=100, deadline=None)
def test_indirect_signs_are_cautions_only_if_the_gain_is_uncertain(
    test, removed, low, middle
):
    gain = (middle, min(low, middle), 12.0)
    removed = replace(removed, change=max(removed.change, 0.01))
    facts = facts_of(
        find("ct-denoise").card, known_blocks=test, removed=removed, gain=gain
    )
    signs = (removed.level > 1.15) + (removed.coarser > 0.25)
    loss = min(1.5, max(0.5, gain[1]))
    is_certain = (low > 0 or gain[0] >= 0.5) and test.gain >= -loss
    said = [one for one in rules.cautions(facts) if one.cause == "training data"]
    assert len(said) == (0 if is_certain else signs)
    assert len(list(rules.notes(facts))) == (signs if is_certain else 0)
    # Structure in the removed part is a direct sign.
    assert ("structure" in causes(facts)) == (removed.strongest > 6)


@given(counted=counts)
@settings(max_examples=200, deadline=None)
def test_a_number_of_pores_is_doubtful_before_it_is_wrong(counted):
    test = KnownBlockTest(8.0, (counted,), (FEW,))
    facts = facts_of(find("ct-denoise").card, known_blocks=test)
    is_harm = any(one.cause == "pores" for one in rules.harms(facts))
    is_doubt = any(one.cause == "pores" for one in rules.cautions(facts))
    assert not (is_harm and is_doubt)
    assert is_harm == counted.is_off(2)
    assert (is_harm or is_doubt) == (counted.is_off(1.5) or counted.is_lossy(4 / 3))
    assert not counted.is_off(1.5) or counted.is_off(1.1)
    assert bool(wrong_pores("x", test)) == is_harm


@given(counted=counts)
@settings(max_examples=100, deadline=None)
def test_with_more_than_two_phases_no_number_of_pores_is_proof_of_harm(counted):
    """Otsu's threshold is between any two of them. The number stays doubtful."""
    test = KnownBlockTest(8.0, (counted,), (FEW,), phases=3)
    facts = facts_of(find("ct-denoise").card, known_blocks=test)
    assert all(one.cause != "pores" for one in rules.harms(facts))
    is_doubt = any(one.cause == "pores" for one in rules.cautions(facts))
    assert is_doubt == (counted.is_off(1.5) or counted.is_lossy(4 / 3))


@given(counted=counts, seen=st.integers(0, 30), kept=st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_few_pores_are_only_doubtful_where_the_objects_of_the_scan_remain(
    counted, seen, kept
):
    kept = min(seen, kept)
    objects = (SmallObjects(33, seen, kept),)
    test = KnownBlockTest(8.0, (counted,), (FEW,), objects_by_size=objects)
    remain = seen >= 5 and kept >= 0.9 * seen and counted.objects == test.objects
    is_few = counted.result < counted.expected
    assert bool(wrong_pores("x", test)) == (
        counted.is_off(2) and not (is_few and remain)
    )
    if counted.is_off(2) and not wrong_pores("x", test):
        assert doubtful_pores("x", test)


@given(counted=counts, repeated=st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_a_stable_number_of_pores_is_not_doubtful_but_may_be_wrong(counted, repeated):
    stable = replace(counted, repeated=repeated)
    causes_of = []
    for each in (stable, replace(stable, repeated=None)):
        test = KnownBlockTest(8.0, (each,), (FEW,))
        facts = facts_of(find("ct-denoise").card, known_blocks=test)
        found = [*rules.harms(facts), *rules.cautions(facts)]
        causes_of.append([one.level for one in found if one.cause == "pores"])
    if stable.is_stable:
        assert min(stable.result, repeated) >= 8
        assert abs(stable.result - repeated) <= max(stable.result, repeated) / 9
        kept = [one for one in causes_of[1] if one == "harmful"]
        if counted.is_lossy(4 / 3):  # the expected number plays no part
            kept = causes_of[1]
        assert causes_of[0] == kept
    else:
        assert causes_of[0] == causes_of[1]


@pytest.mark.parametrize(
    ("found", "is_doubted"),
    [({19: 0.1, 81: 0.2, 147: 0.3}, True), ({19: 0.1, 81: 0.2, 147: 0.9}, False)],
)
def test_a_stable_number_is_doubted_if_pores_of_all_sizes_are_lost(found, is_doubted):
    stable = PoreCounts("pores", 27, 40, 40, 15, repeated=15)
    assert stable.is_stable
    test = KnownBlockTest(8.0, (stable,), (FEW,), found=found)
    facts = facts_of(find("ct-denoise").card, known_blocks=test)
    causes = {one.cause for one in rules.cautions(facts)}
    assert ("pores" in causes) == is_doubted
    # Those of other objects do not matter.
    dark = KnownBlockTest(8.0, (), (), found={19: 0.1, 81: 0.2})
    bright = replace(
        test,
        counts=(replace(stable, objects="bright spots"),),
        found={19: 1.0, 147: 1.0},
        are_bright=True,
        other=dark,
    )
    facts = facts_of(find("ct-denoise").card, known_blocks=bright)
    assert "pores" not in {one.cause for one in rules.cautions(facts)}


@pytest.mark.parametrize("divided", [True, False])
def test_a_threshold_within_a_single_peak_is_said(divided):
    """As with rare pores in a solid that is darker in the centre."""
    test = KnownBlockTest(
        8.0, (FEW,), (FEW,), found={19: 1.0, 81: 1.0}, has_one_peak=divided
    )
    assert ("does not separate pores" in lost_pores(test)) == divided


@pytest.mark.parametrize(("result", "repeated"), [(40, 45), (45, 40), (8, 9)])
def test_a_change_of_an_eighth_is_stable(result, repeated):
    counted = PoreCounts("pores", 27, 30, 20, result, repeated=repeated)
    assert counted.is_stable
    assert not replace(counted, repeated=repeated * 2).is_stable
    assert not replace(counted, result=7, repeated=7).is_stable
    assert not replace(counted, repeated=None).is_stable


@given(n=st.integers(1, 500), a=st.integers(1, 500), b=st.integers(1, 500))
def test_the_expected_number_lies_between_both_estimates(n, a, b):
    counted = PoreCounts("pores", 27, smoothed=n, simulated=a, result=b)
    by_simulation, by_smoothing = b * n / a, n
    low, high = sorted((by_simulation, by_smoothing))
    assert low * (1 - 1e-9) <= counted.expected <= high * (1 + 1e-9)
    assert not PoreCounts("pores", 27, n, n, n).is_off(1.0)
    assert not (counted.is_lossy(1.2) and a >= n)


@given(st.integers(0, 200), st.integers(0, 200), st.floats(1, 4))
def test_two_counts_differ_in_both_directions_and_by_five(first, second, ratio):
    assert differ(first, second, ratio) == differ(second, first, ratio)
    assert not (differ(first, second, ratio) and abs(first - second) < 5)


def test_a_gain_that_a_simulation_contradicts_is_said(card):
    facts = facts_of(card)
    assert facts.gain is not None
    assert facts.gain[1] > 1.5
    test = replace(facts.known_blocks, gain=-1.6)
    (said,) = rules.cautions(facts_of(card, known_blocks=test))
    assert said.cause == "doubtful gain"
    assert "made a simulated scan of this kind worse by 1.6 dB" in said.sentence


def test_nothing_is_said_of_the_spectrum_of_nothing(card):
    facts = facts_of(card)
    coarse = replace(facts.removed, change=1e-9, level=2.0, coarser=0.9)
    assert "training data" not in causes(
        facts_of(card, removed=coarse, gain=(0, -1, 1))
    )


def test_a_smaller_loss_does_not_contradict_a_certain_gain(card):
    facts = facts_of(card)
    test = replace(facts.known_blocks, gain=-1.2)
    assert not list(rules.cautions(facts_of(card, known_blocks=test)))
    uncertain = (facts.gain[0], 1.0, facts.gain[2])
    (said,) = rules.cautions(facts_of(card, known_blocks=test, gain=uncertain))
    assert said.cause == "doubtful gain"


def test_a_scan_given_back_is_no_harm_though_its_noise_is_unknown(card):
    unknown = Noise(0.0, 100.0, correlation={}, interval=(0.0, 30.0))
    nothing = {"gain": None, "known_blocks": None}
    facts = replace(facts_of(card, **nothing), noise=unknown)
    same, little = (replace(facts.removed, change=each) for each in (0.0, 0.005))
    bounded = replace(facts, removed=same, bound=4.0)
    assert causes(bounded) == set()
    assert "returns the scan as it is" in rules.all_is_well(bounded)
    assert causes(replace(facts, removed=little)) == {"noise"}
    assert causes(replace(facts, removed=replace(facts.removed, change=0.2))) == {
        "noise"
    }
    more = replace(facts, removed=replace(facts.removed, change=0.4))
    assert causes(more) >= {"change"}


def test_the_default_minimum_size_of_measurements_is_looked_at(card):
    many = PoreCounts("pores", 8, smoothed=10, simulated=40, result=60)
    test = replace(facts_of(card).known_blocks, small_counts=(many,))
    (said,) = rules.cautions(facts_of(card, known_blocks=test))
    assert said.cause == "small pores"
    assert "of 8 to 26 voxels, it would show 60 in the examined part" in said.sentence


@pytest.mark.parametrize(
    ("gain", "low", "high", "cause"),
    [
        (2.0, 0.3, 6.0, set()),
        (1.5, -0.5, 5.0, set()),
        (0.6, -1.6, 4.7, {"doubtful gain"}),
        (-0.5, -2.5, 3.5, {"doubtful gain"}),
        (-5.0, -7.0, -0.9, {"gain"}),
    ],
)
def test_a_small_gain_over_interpolation_is_doubted(gain, low, high, cause):
    finer = UpscalingVerdict(gain, (low, high), 0.3, None, 4)
    facts = facts_of(find("foam-sr-x2").card, finer=finer, gain=None, known_blocks=None)
    assert causes(facts) == cause


@given(tests)
def test_pores_that_are_lost_are_not_said_to_be_too_many(test: KnownBlockTest):
    """The expected number lacks the small ones as well, so it may be too small."""
    sentence = wrong_pores("x", test)
    (counted,) = test.counts
    lost = test.is_from_scan and (test.limit or 0) >= counted.smallest
    is_invented = counted.simulated > 2 * counted.smoothed
    assert ("wrong: the result would show" in sentence) == (
        bool(sentence) and lost and not is_invented
    )
    assert not (lost and "far more" in sentence) or is_invented


def limited(limit: int, *, shown: bool, **more) -> KnownBlockTest:
    """A test that loses objects of up to `limit` voxels, which the scan may show."""
    found = {n: float(n > limit) for n in SIZES}
    seen = frozenset(SIZES) if shown else frozenset()
    return KnownBlockTest(8.0, (), (), found, seen, **more)


@pytest.mark.parametrize(
    ("bright", "dark", "words"),
    [
        (
            True,
            True,
            "Do not count bright spots of up to 19 voxels or pores of up to 7 voxels "
            "in the result: they are removed together with the noise.",
        ),
        (
            False,
            False,
            "Bright spots of up to 19 voxels and pores of up to 7 voxels cannot be "
            "counted in either the scan or the result, because noise hides them. The "
            "number of larger ones is uncertain: some may be joined or divided.",
        ),
        (
            False,
            True,
            "Do not count pores of up to 7 voxels in the result: they are removed "
            "together with the noise. Bright spots of up to 19 voxels cannot be "
            "counted in either the scan or the result, because noise hides them. The "
            "number of larger ones is uncertain: some may be joined or divided.",
        ),
    ],
)
def test_one_reason_is_stated_in_one_sentence(bright, dark, words):
    test = limited(
        19, shown=bright, are_bright=True, other=limited(7, shown=dark, large=33)
    )
    assert lost_pores(test) == words
    alone = [limit.sentence for limit in count_limits(test)]
    assert [one.objects for one in count_limits(test)] == [
        "bright spots",
        "pores",
    ]
    assert alone[1] == lost_pores(test.other)


def test_noise_that_is_unknown_is_stated_once():
    cubic = find("cubic-x2").card
    unknown = replace(NOISE, level=0.0, interval=(0.0, NOISE.contrast))
    assert not unknown.is_measured
    facts = replace(facts_of(cubic, gain=None, known_blocks=None), noise=unknown)
    assert facts.interpolates
    assert rules.all_is_well(facts).startswith("cubic-x2 interpolates: it adds no ")
    assert rules.headline(facts) == "The noise could not be measured"


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((-9.3, -10.1, -8.4), "between 8.4 and 10.1 dB"),
        ((-9.3, -math.inf, -8.4), "at least 8.4 dB"),
        ((-0.5, -2.0, 0.3), "between 2.0 dB worse and 0.3 dB better"),
    ],
)
def test_a_loss_has_an_interval_of_losses(gain, words):
    assert rules._loss_interval(gain) == words


@pytest.mark.parametrize(("high", "level"), [(0.4, "harmful"), (16.9, "caution")])
def test_a_loss_is_no_harm_if_a_clear_gain_is_possible(high, level):
    """As where the noise depends on the position, and may be much stronger."""
    facts = facts_of(find("ct-denoise").card, gain=(-2.1, -3.4, high))
    found = [*rules.harms(facts), *rules.cautions(facts)]
    assert {one.level for one in found if "gain" in one.cause} == {level}


def test_pores_that_the_scan_shows_as_well_are_not_invented():
    """In a scan that shows its pores, their number there is a better estimate."""
    counts = PoreCounts("pores", 27, 9, 17, 29, noisy=12, scan=24, repeated=30)
    test = KnownBlockTest(8.0, (counts,), (FEW,), kept={81: (13, 13)})
    assert not wrong_pores("foam-denoise", test)
    hidden = replace(test, kept={})
    assert "far more" in wrong_pores("foam-denoise", hidden)
    specks = replace(test, counts=(replace(counts, noisy=21),))
    assert "far more" in wrong_pores("foam-denoise", specks)


@pytest.mark.parametrize(
    ("shows", "is_harm"),
    [
        ({}, False),
        ({"countable": frozenset({147})}, True),
        ({"shown": frozenset({81})}, True),
        ({"objects_by_size": (SmallObjects(65, 5, 1),)}, True),
        ({"found": {}}, True),
    ],
)
def test_pores_that_noise_hides_in_the_scan_cannot_be_lost(shows, is_harm):
    """Most of the pores that the smoothed scan then shows are specks of noise."""
    counts = PoreCounts("pores", 27, smoothed=27, simulated=5, result=2)
    test = KnownBlockTest(8.0, (counts,), (FEW,), found={81: 0.2, 147: 0.8})
    test = replace(test, **shows)
    assert bool(wrong_pores("ct-denoise", test)) == is_harm
    if not is_harm:
        assert "may lose pores" in doubtful_pores("ct-denoise", test)
    invented = replace(counts, smoothed=5, simulated=27, result=30)
    assert wrong_pores("ct-denoise", replace(test, counts=(invented,)))


def test_a_porosity_that_depends_on_the_method_is_a_caution():
    finer = UpscalingVerdict(3.0, (1.0, 6.0), 0.3, None, 4)
    card = find("ct-sr-x2").card
    for porosities, expected in (((0.2, 0.2), set()), ((0.155, 0.174), {"porosity"})):
        told = replace(finer, porosities=porosities)
        facts = facts_of(card, finer=told, gain=None, known_blocks=None)
        assert causes(facts) == expected
