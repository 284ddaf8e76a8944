"""What ``models rank`` says of noise that could not be measured."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr.cli.app import run
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.operations.restore import ranking
from napari_geosr.operations.restore.ranking import Ranking, RankingEntry
from napari_geosr.operations.restore.ranking.config import NONE


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (Noise(0.0, 100.0, interval=(0.0, 33.1)), "The noise could not be measured."),
        (
            Noise(0.0, 100.0, interval=(0.0, 0.2)),
            "Noise below 1 % of the contrast, so there is hardly anything to remove.",
        ),
        (
            Noise(3.4, 100.0, interval=(3.0, 3.9)),
            "Noise of 3.4 % of the contrast (likely between 3 % and 3.9 %).",
        ),
    ],
)
def test_a_ranking_says_in_words_what_is_known_of_the_noise(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    noise: Noise,
    words: str,
) -> None:
    row = RankingEntry(NONE, "Leave the scan as it is", 1.0, 0.0, (0.0, 0.0))

    def ranked(*_args: object, **_more: object) -> Generator[Step, None, Ranking]:
        yield StageStarted(message="Comparing models")
        return Ranking((row,), NONE, "Leave the scan as it is.", noise)

    monkeypatch.setattr(ranking, "rank_steps", ranked)
    path = str(tmp_path / "scan.tif")
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8))
    assert run(["models", "rank", path]) == 0
    shown = capsys.readouterr().out
    assert words in shown.splitlines()
    assert "0.0 %" not in shown
