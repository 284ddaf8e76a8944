"""Help that can be read: groups, examples that work, 80 columns, guesses at typos."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cyclopts import App

from napari_geosr.cli.app import build_app, run
from napari_geosr.cli.commands import COMMANDS, GROUPS
from napari_geosr.cli.help_pages import _GROUPS
from napari_geosr.cli.train import _EXAMPLES
from napari_geosr.cli.verbosity import QUIET, suggest_next

EXAMPLES = [
    line
    for commands in (COMMANDS, *(group for _, group in GROUPS.values()))
    for command in commands.values()
    for line in command.examples
] + [f"train {method} {line}" for method, lines in _EXAMPLES.items() for line in lines]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Help of some commands on a terminal of 80 columns, all from one process."""
    code = (
        "from napari_geosr.cli.app import run\n"
        "for words in (['restore'], ['train', 'noise2inverse'], ['study',"
        " 'projections'], ['pairs']):\n"
        "    print('@@', *words); run([*words, '--help'])\n"
    )
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment
    )
    parts = done.stdout.decode().split("@@ ")[1:]
    return dict(part.split("\n", 1) for part in parts)


@pytest.fixture(scope="module")
def app() -> App:
    return build_app()


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_example_is_understood(app: App, line: str) -> None:
    _, bound, unused, *_ = app.parse_known_args(line.split())
    assert not unused
    assert bound.arguments or line.endswith(("list", "doctor"))


def test_every_command_has_an_example() -> None:
    from napari_geosr.operations.train import needs

    assert {"train", "study"} == {k for k, v in COMMANDS.items() if not v.examples}
    without = {
        f"{name} {k}"
        for name, (_, group) in GROUPS.items()
        for k, command in group.items()
        if not command.examples
    }
    assert without == {"submit train", "submit study"}
    assert {*needs(), "ganrec"} == set(_EXAMPLES)


def test_an_option_is_in_one_group_and_exists(pages: dict[str, str]) -> None:
    named = [name for names in _GROUPS.values() for name in names.split()]
    assert len(named) == len(set(named))
    restore = pages["restore"]
    order = ["Arguments", "Input", "Method", "Compute", "Output", "Advanced", "Example"]
    places = [restore.index(f"─ {t} ─") if t != "Example" else restore.index(t)
              for t in order]  # fmt: skip
    assert places == sorted(places)
    assert restore.index("─ Output ─") < restore.index("--out -o PATH")


def test_pages_fit_80_columns_and_defaults_can_be_typed(pages: dict[str, str]) -> None:
    for words, text in pages.items():
        assert max(map(len, text.splitlines())) <= 80, words
        assert "[default: (" not in text
        assert "[default: False]" not in text
    study = " ".join(pages["study projections"].replace("│", " ").split())
    assert "[default: fbp,sirt,tv]" in study


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("train noise2voi", "'noise2void'"),
        ("train noise2voi --source x.tif", "'noise2void'"),
        ("models lst", "'list'"),
        ("restor", '"restore"'),
        ("models show foam-denois", "'foam-denoise'"),
        ("restore scan.tif --modelx x -o y.tif", "--model"),
    ],
)
def test_typos_are_guessed(
    words: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err


def test_train_alone_says_what_each_method_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["train"]) == 2
    said = capsys.readouterr().err
    assert "noise2noise        two aligned noisy scans of the same object" in said
    assert "train METHOD --help" in said


@pytest.mark.parametrize(
    ("command", "earlier", "name"),
    [
        ("measure", "--sample-mask", "--sample"),
        ("measure", "--band-factor", "--interval-factor"),
        ("measure", "--uncertainty", "--deviation"),
        ("measure", "--labels", "--write-labels"),
        ("train supervised", "--labels", "--n-labels"),
        ("train noise2inverse", "--scan-dataset", "--projections-dataset"),
        ("pairs", "--noise", "--noise-level"),
        ("reconstruct", "--centre", "--center"),
        ("simulate", "--centre-offset", "--center-offset"),
    ],
)
def test_earlier_names_work_and_help_leaves_them_out(
    app: App, capsys: pytest.CaptureFixture[str], command: str, earlier: str, name: str
) -> None:
    for word in command.split():
        app = app[word]
    [argument] = [a for a in app.assemble_argument_collection() if name in a.names]
    assert earlier in argument.names
    assert run([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out.split()
    assert name in shown
    assert earlier not in shown


def test_quiet_leaves_out_progress_and_hints(
    tmp_path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    line = f"simulate blobs --size 24 --rows 4 --projections 6 -o {tmp_path}/scan"
    assert run(line.split()) == 0
    said = capsys.readouterr()
    hint = f"Next: napari-geosr reconstruct {tmp_path}/scan/projections.h5"
    assert hint in said.err
    assert run([*line.split(), "--overwrite", "-q"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "Wrote" in said.out
    QUIET.set(False)
    suggest_next("doctor")
    assert capsys.readouterr().err == "Next: napari-geosr doctor\n"


def test_verbose_shows_where_an_error_came_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["models", "show", "nothing", "-v"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.every(3)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_tab_key_knows_commands_and_options(app: App, shell: str) -> None:
    script = app.generate_completion(shell=shell)
    for word in ("restore", "noise2void", "check-consistency"):
        assert word in script, word


def test_the_list_of_models_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = (line for line in lines if " ct-denoise " in line)
    assert line.split()[:3] == ["ct-denoise", "denoise", "ct"]
