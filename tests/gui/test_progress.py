"""Display of the steps of an operation: stage, bar, remaining time, warnings."""

from __future__ import annotations

import pytest

from napari_geosr.core.steps import BlockDone, StageStarted, Step, WarningIssued
from napari_geosr.gui.kit import progress as durations
from napari_geosr.gui.kit.progress import OperationProgress


@pytest.fixture
def clock(monkeypatch):
    """Elapsed seconds; a test sets the first element."""
    seconds = [0.0]
    monkeypatch.setattr(durations.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_stage_makes_the_bar_busy_until_an_amount_is_known():
    """Steps without a total leave the bar as it is."""
    texts, amounts = [], []
    progress = OperationProgress(
        texts.append, show_bar=lambda *amount: amounts.append(amount)
    )
    progress.show_step(StageStarted(message="Reading"))
    progress.show_step(Step())
    progress.show_step(BlockDone(1, 4))
    assert texts == ["Reading…"]
    assert amounts == [(0, 0), (1, 4)]


def test_warnings_are_shown_and_kept_until_the_next_operation():
    """A dock may show them again with the result."""
    shown = []
    progress = OperationProgress(lambda _text: None, show_warning=shown.append)
    for text in ("noisy", "tilted"):
        progress.show_step(WarningIssued(message=text))
    assert progress.warnings == ["noisy", "tilted"]
    assert shown == ["noisy", "noisy tilted"]
    progress.restart()
    assert progress.warnings == []


@pytest.mark.parametrize(
    ("spans_stages", "text"), [(False, "B: 75 %"), (True, "B: 75 %, 4 s left")]
)
def test_remaining_time_starts_again_with_a_stage_that_counts_anew(
    clock, spans_stages, text
):
    """If the amount counts over all stages, the speed of earlier ones counts."""
    texts, amounts = [], []
    progress = OperationProgress(
        texts.append,
        show_bar=lambda *amount: amounts.append(amount),
        shows_time_left=True,
        spans_stages=spans_stages,
    )
    progress.show_step(StageStarted(message="A"))
    for second, done in ((0, 1), (4, 2)):
        clock[0] = second
        progress.show_step(BlockDone(done, 4))
    assert texts[-1] == "A: 50 %, 8 s left"
    progress.show_step(StageStarted(message="B"))
    clock[0] = 8
    progress.show_step(BlockDone(3, 4))
    assert texts[-1] == text
    assert ((0, 0) in amounts[1:]) is not spans_stages
