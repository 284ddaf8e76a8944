"""Terminal output of a run: names are shown unchanged, whatever they contain."""

from __future__ import annotations

import io
import os
import re
import signal

import pytest
from rich.console import Console

from napari_geosr.cli.kit import console
from napari_geosr.core.steps import (
    BlockDone,
    StageStarted,
    VerdictReached,
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


VERDICT = (
    "Noise 31 % of the contrast, expected gain +6.1 dB: what is removed is noise. "
    "Pores of up to 19 voxels may be lost in the result."
)


def examined(should_stop):
    yield StageStarted(message="Checking what the model does")
    yield VerdictReached(message=VERDICT)
    yield StageStarted(message="Restoring scan")
    yield BlockDone(1, 2)


def test_the_verdict_stays_on_a_terminal_in_full(monkeypatch):
    screen = io.StringIO()

    def make(**options):
        options.pop("stderr")
        return Console(file=screen, force_terminal=True, width=80, **options)

    monkeypatch.setattr(console, "Console", make)
    monkeypatch.setenv("TERM", "xterm")
    console.run_command(examined)
    shown = screen.getvalue()
    lines = lines_that_stay(shown)
    assert VERDICT in " ".join(lines)
    assert max(map(len, lines)) <= 80
    assert "Restoring scan" in shown  # the bar, which is removed
    assert "Restoring scan" not in " ".join(lines)


def lines_that_stay(shown: str) -> list[str]:
    """Lines on the screen after everything that a run has printed and erased."""
    lines, row = [""], 0
    for word in re.findall(r"\x1b\[\??\d*[A-Za-z]|\n|[^\x1b\n]+", shown):
        if word == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif word.endswith("A") and word.startswith("\x1b"):  # cursor up
            row -= int(word[2:-1])
        elif word == "\x1b[2K":
            lines[row] = ""
        elif not word.startswith("\x1b"):
            lines[row] += word.replace("\r", "")
    return [line.strip() for line in lines if line.strip()]


@pytest.mark.parametrize("has_limits", [False, True])
def test_quiet_still_tells_what_cannot_be_measured(monkeypatch, capsys, has_limits):
    def steps(should_stop):
        yield StageStarted(message="Checking what the model does")
        yield VerdictReached(message=VERDICT, has_limits=has_limits)

    token = console.QUIET.set(True)
    try:
        console.run_command(steps)
    finally:
        console.QUIET.reset(token)
    shown = " ".join(capsys.readouterr().err.split())
    assert shown == (f"note: {VERDICT}" if has_limits else "")


@pytest.mark.parametrize("terminal", [False, True])
def test_notes_are_wrapped_on_a_terminal_only(monkeypatch, terminal):
    shown = io.StringIO()

    def make(**options):
        options.pop("stderr")
        return Console(file=shown, force_terminal=terminal, width=60, **options)

    monkeypatch.setattr(console, "Console", make)
    console.print_notes([VERDICT, f"{NAME} is odd."])
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue()).splitlines()
    if terminal:
        assert max(map(len, lines)) <= 60
        shown_text = " ".join(" ".join(lines).split())
        assert shown_text == f"note: {VERDICT} note: {NAME} is odd."
    else:
        assert lines == [f"note: {VERDICT}", f"note: {NAME} is odd."]


@pytest.mark.parametrize("done", [2, 1])
def test_a_note_is_on_a_line_of_its_own_beside_a_bar(monkeypatch, done):
    screen = io.StringIO()

    def make(**options):
        options.pop("stderr")
        return Console(file=screen, force_terminal=True, width=80, **options)

    def noted(should_stop):
        yield StageStarted(message="Restoring scan")
        yield BlockDone(done, 2)
        yield WarningIssued(message="The scan is odd.")

    monkeypatch.setattr(console, "Console", make)
    monkeypatch.setenv("TERM", "xterm")
    console.run_command(noted)
    assert lines_that_stay(screen.getvalue()) == ["note: The scan is odd."]


def test_a_long_message_leaves_room_for_the_bar_and_the_per_cent(monkeypatch):
    screen = io.StringIO()

    def make(**options):
        options.pop("stderr")
        return Console(file=screen, force_terminal=True, width=80, **options)

    def long(should_stop):
        yield StageStarted(
            message="Reconstructing with the axis at column 295.81: " * 2
        )
        yield BlockDone(1, 4)

    monkeypatch.setattr(console, "Console", make)
    console.run_command(long)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    lines = [line for line in shown.splitlines() if "25%" in line]
    assert lines
    assert all("━━━━━━━━" in line and len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    ("name", "said"),
    [("SIGINT", console.STOPPING), ("SIGTERM", "stopping")],
)
def test_the_advice_to_press_keys_is_for_keys_only(name, said, capsys):
    """A batch system sends SIGTERM."""
    with console._stop_on_signal(console.STOPPING) as should_stop:
        os.kill(os.getpid(), getattr(signal, name))
        assert should_stop()
    assert capsys.readouterr().err == f"{said}\n"
