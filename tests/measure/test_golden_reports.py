"""The output of a measurement for users and programs does not change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from golden_reports import CASES, GOLDEN, WIDTH, joined, measured, write_inputs

#: The last digits of a sum may differ between machines.
_LONG_NUMBER = re.compile(r"-?\d+\.\d{7,}(?:e[+-]\d+)?")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.mark.every(2)
@pytest.mark.parametrize("case", CASES)
def test_texts_stay(case: str, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", WIDTH)
    found = joined(measured(case, inputs))
    expected = (GOLDEN / f"{case}.txt").read_text(encoding="utf-8")
    assert _LONG_NUMBER.sub("#", found) == _LONG_NUMBER.sub("#", expected)
    numbers = [
        list(map(float, _LONG_NUMBER.findall(text))) for text in (found, expected)
    ]
    # The noise of a volume without noise is rounding, which depends on the processor.
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-9, abs=1e-10)
