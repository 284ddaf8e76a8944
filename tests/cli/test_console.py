"""What people see of a run: names as they are, whatever is in them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from napari_geosr.cli import console
from napari_geosr.core.steps import (
    BlockDone,
    StageStarted,
    WarningIssued,
)

NAME = "scan[1][/b][red]"


def steps(should_stop):
    yield StageStarted(message=f"Measuring {NAME}")
    yield BlockDone(1, 2)
    yield WarningIssued(message=f"{NAME} is odd.")
    return 3


@pytest.mark.parametrize("terminal", [False, True])
def test_brackets_in_names_are_no_markup(monkeypatch, terminal):
    shown = io.StringIO()

    def make(**options):
        options.pop("stderr")
        return Console(file=shown, force_terminal=terminal, width=120, **options)

    monkeypatch.setattr(console, "Console", make)
    result, warnings = console.run_command(steps)
    assert result == 3
    assert warnings == [f"{NAME} is odd."]
    assert f"Measuring {NAME}" in shown.getvalue()
    assert f"note: {NAME} is odd." in shown.getvalue()
