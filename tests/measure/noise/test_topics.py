"""Remarks with a topic."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from napari_geosr.measure.noise.topics import PARTIAL, Remark, is_about

REMARK = Remark("Slice 3 is noisy.", "slices")


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
def test_a_copy_has_the_same_sentence_and_topic(copied):
    again = copied(REMARK)
    assert again == "Slice 3 is noisy."
    assert is_about(again, *PARTIAL)
    assert not is_about(again, "rounding")


def test_it_is_written_like_any_sentence():
    assert json.loads(json.dumps([REMARK])) == ["Slice 3 is noisy."]
    assert not is_about(f"Channel 1: {REMARK}", *PARTIAL)
