"""The chosen model loses pores of all tested sizes: another model may be named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.models.zoo import find
from napari_geosr.operations.restore.ranking.config import NONE
from napari_geosr.operations.restore.ranking.pore_tests import lost_sizes
from napari_geosr.operations.restore.ranking.result import RankingEntry
from napari_geosr.operations.restore.verdict.known_block_test import (
    KnownBlockTest,
    lost_pores,
)

SIZES = (33, 81, 147)


def lost_up_to(limit: int, *, shown: bool = True) -> KnownBlockTest:
    found = {n: 0.0 if n <= limit else 1.0 for n in SIZES}
    seen = frozenset(SIZES) if shown else frozenset()
    return KnownBlockTest(17.0, (), (), found, countable=seen)


TESTS = {"fluo-denoise": lost_up_to(147), "ct-denoise": lost_up_to(81)}


def row(name: str, gain: float, low: float = 5.0) -> RankingEntry:
    return RankingEntry(name, "", 10 - gain, gain, (low, gain), model=find(name))


ROWS = [
    row("fluo-denoise", 17.3),
    row("ct-denoise", 16.4),
    row("gaussian", 13.9),
    RankingEntry(NONE, "", 10.0, 0.0, (0.0, 0.0)),
]


def test_a_model_that_keeps_smaller_pores_is_named():
    lost, other = lost_sizes(ROWS, "fluo-denoise", lambda row: TESTS.get(row.name), 1.0)
    assert lost == (
        "fluo-denoise may lose pores of all tested sizes (up to 147 voxels)."
    )
    assert other == (
        "ct-denoise is expected to gain 0.9 dB less, but keeps pores of more than 81 "
        "voxels."
    )


@pytest.mark.parametrize(
    ("gain", "low", "limit"), [(16.2, 5.0, 81), (16.4, -1.0, 81), (16.4, 5.0, 147)]
)
def test_no_model_is_named_that_is_worse_or_keeps_no_more(gain, low, limit):
    rows = [ROWS[0], row("ct-denoise", gain, low), ROWS[3]]
    tests = {**TESTS, "ct-denoise": lost_up_to(limit)}
    lost, other = lost_sizes(rows, "fluo-denoise", lambda row: tests[row.name], 1.0)
    assert lost
    assert other == ""


@pytest.mark.parametrize("test", [lost_up_to(81), lost_up_to(147, shown=False), None])
def test_other_models_are_not_tested_without_need(test):
    asked = []

    def test_of(row):
        asked.append(row.name)
        return test

    assert lost_sizes(ROWS, "fluo-denoise", test_of, 1.0) == ("", "")
    assert lost_sizes(ROWS, NONE, test_of, 1.0) == ("", "")
    assert asked == ["fluo-denoise"]


def test_a_model_that_cannot_be_tested_is_not_named():
    def test_of(row, error=VolumeError):
        if row.name == "ct-denoise":
            raise error("no memory")
        return TESTS.get(row.name)

    assert lost_sizes(ROWS, "fluo-denoise", test_of, 1.0)[1] == ""
    with pytest.raises(Cancelled):
        lost_sizes(ROWS, "fluo-denoise", lambda row: test_of(row, Cancelled), 1.0)


def test_the_verdict_states_that_no_larger_pores_were_tested():
    words = lost_pores(lost_up_to(147))
    assert words.startswith(
        "Do not count pores of up to 147 voxels, the largest size tested, in the result"
    )
    assert "the largest size" not in lost_pores(lost_up_to(81))
    unseparated = replace(lost_up_to(81), is_scan_separated=False)
    assert lost_pores(unseparated).endswith("set the threshold for the scan by hand.")
