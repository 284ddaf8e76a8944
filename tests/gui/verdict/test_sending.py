"""A run is sent elsewhere only after its check."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_geosr.gui.restore.verdict import panel
from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("checked", [True, False])
def test_a_run_is_sent_only_after_its_check(qtbot, monkeypatch, ready, checked):
    board = panel.VerdictPanel(ViewerModel())
    qtbot.addWidget(board)
    asked = []
    monkeypatch.setattr(board.activity, "find_verdict", lambda: asked.append(1))
    board.activity._has_verdict = checked
    board.show()
    assert board.confirm_sending("model", "model", ready=ready) == (ready and checked)
    assert bool(asked) != (ready and checked)
    if asked:
        assert "still being checked" in board.message.text
        with qtbot.waitSignal(board.sendable):
            board.activity.verdictEnded.emit()
    with qtbot.assertNotEmitted(board.sendable):
        board.activity.verdictEnded.emit()


def test_nothing_is_sent_if_the_run_changes_during_its_check(qtbot, monkeypatch):
    board = panel.VerdictPanel(ViewerModel())
    qtbot.addWidget(board)
    board.show()
    monkeypatch.setattr(board.activity, "find_verdict", lambda: None)
    assert not board.confirm_sending("model", "model", ready=False)
    board.set_not_ready()
    with qtbot.assertNotEmitted(board.sendable):
        board.activity.verdictEnded.emit()


def test_a_harmful_run_is_asked_about_before_it_is_sent(qtbot, monkeypatch):
    board = panel.VerdictPanel(ViewerModel())
    qtbot.addWidget(board)
    layer = ViewerModel().add_image(np.zeros((2, 2)))
    board._source = lambda: layer
    board._run_verdict = RunVerdict("harmful", "It loses all.")
    monkeypatch.setattr(panel, "confirm_harmful_run", lambda *_: False)
    assert not board.confirm_sending("model", "model", ready=True)
