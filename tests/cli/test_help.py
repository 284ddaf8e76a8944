"""Readable help: groups, working examples, 80 columns, suggestions for typos."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import tifffile
from cyclopts import App

from napari_geosr.cli.app import build_app, run
from napari_geosr.cli.commands import COMMANDS, GROUPS
from napari_geosr.cli.commands import EXAMPLES as OF_GROUPS
from napari_geosr.cli.kit.help_pages import _GROUPS
from napari_geosr.cli.kit.verbosity import QUIET, suggest_next
from napari_geosr.cli.train import _EXAMPLES
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.shapes import shape_needs

EXAMPLES = [
    line
    for commands in (COMMANDS, *(group for _, group in GROUPS.values()))
    for command in commands.values()
    for line in command.examples
] + [f"train {method} {line}" for method, lines in _EXAMPLES.items() for line in lines]
EXAMPLES += [line for lines in OF_GROUPS.values() for line in lines]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Help of all commands on a terminal with 80 columns, all from one process."""
    code = (
        "from napari_geosr.cli.app import build_app, run\n"
        "from napari_geosr.cli.kit.completion import texts_read_once\n"
        "def show(app, words):\n"
        "    print('@@', *words, flush=True); run([*words, '--help'])\n"
        "    for name in app:\n"
        "        if not name.startswith('-'):\n"
        "            show(app[name], [*words, name])\n"
        "with texts_read_once():\n"
        "    show(build_app(), [])\n"
    )
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment
    )
    parts = re.split(r"^@@ ?", done.stdout.decode(), flags=re.MULTILINE)[1:]
    return dict(part.split("\n", 1) for part in parts)


@pytest.fixture(scope="module")
def app() -> App:
    return build_app()


@pytest.mark.parametrize("line", list(dict.fromkeys(EXAMPLES)))
def test_every_example_is_understood(app: App, line: str) -> None:
    _, bound, unused, *_ = app.parse_known_args(line.split())
    assert not unused
    assert bound.arguments or line.endswith(("list", "doctor"))


def test_every_command_has_examples() -> None:
    from napari_geosr.operations.train import needs

    grouped = {k for k, v in COMMANDS.items() if not v.examples}
    assert grouped == {"sim", "simulate", "study", "train"}
    shapes = {name.replace("_", "-") for name in shape_needs()}
    assert {*needs(), *shapes, "ganrec", "pinn-sim"} == set(_EXAMPLES)
    within = {
        "sim check",
        "simulate sim",
        "simulate radiographs",
        "simulate skulls",
        "study projections",
        "study labels",
    }  # subcommands of the commands in `grouped`
    assert set(OF_GROUPS) == {"", *GROUPS, *grouped, *within}
    given = {k: c.examples for k, c in COMMANDS.items() if k not in grouped}
    for group, (_, commands) in GROUPS.items():
        given |= {f"{group} {name}": c.examples for name, c in commands.items()}
    for group in (
        "submit train",
        "submit study",
        "submit shapes",
    ):  # the methods have examples
        assert not given.pop(group)
    for name, lines in [*given.items(), *_EXAMPLES.items(), *OF_GROUPS.items()]:
        assert 2 <= len(set(lines)) <= 4, name


@pytest.mark.parametrize("words", [[], ["jobs"], ["models"], ["study"], ["train"]])
def test_groups_show_their_own_examples(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for line in OF_GROUPS[" ".join(words)]:
        assert f"napari-geosr {line}" in shown
    assert shown.count("Exit codes:") == 1


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
    assert {"", "restore", "models list", "submit train noise2void"} <= set(pages)
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
    assert "noise2noise          Denoise: needs two aligned noisy scans" in said
    assert max(map(len, said.splitlines())) <= 80
    assert "train METHOD --help" in said


def test_what_is_missing_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line, sentence in (
        ("measure x.tif", "measure needs --out: folder for the report."),
        ("compare a.tif b.tif", "compare needs --out: folder for"),
        ("models export ct-denoise", "models export needs --format: "),
        ("info", "info needs INPUT: TIFF, folder or pattern of slices"),
        ("info x.tif --voxel-size", "Give a value after --voxel-size: voxel size"),
        ("measure x.tif --outt r", 'Unknown option: "--outt". Did you mean "--out"?'),
    ):
        assert run(line.split()) == 2
        assert capsys.readouterr().err.startswith(f"napari-geosr: {sentence}"), line
    scan = tmp_path / "scan.tif"
    tifffile.imwrite(scan, np.zeros((8, 8, 8), np.uint8))
    assert run(["info", str(scan), "--voxel-size", "1,2"]) == 2
    assert "3 finite numbers for the voxel size (Z, Y, X)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "earlier", "name"),
    [
        ("measure", "--sample-mask", "--sample"),
        ("measure", "--band-factor", "--interval-factor"),
        ("measure", "--uncertainty", "--deviation"),
        ("measure", "--labels", "--write-labels"),
        ("train supervised", "--labels", "--n-labels"),
        ("train sparse-segmentation", "--labels", "--n-labels"),
        ("train shape-sr", "--noise", "--noise-level"),
        ("study projections", "--sample-mask", "--sample"),
        ("shapes segment", "--inside", "--mask"),
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


#: What an option is in every command that has it: the type of its value, and other
#: spellings that work as well.
VOCABULARY: dict[str, tuple[tuple[object, ...], set[str]]] = {
    "--out": ((Path, Path | None), {"-o"}),
    "--model": ((str, str | None), {"-m"}),
    "--mask": ((Path, Path | None), set()),
    "--sample": (("a choice",), {"--sample-mask"}),
    "--labels": ((Path,), set()),
    "--noise": ((bool,), set()),
    "--noise-level": ((float, float | None), {"--noise"}),
    "--n-labels": ((int,), {"--labels"}),
    "--write-labels": ((bool,), {"--labels"}),
    "--blur": ((float, float | None), set()),
    "--dataset": ((str | None,), set()),
    "--projections-dataset": ((str | None,), {"--scan-dataset"}),
    "--center": (("a choice", float), {"--centre"}),
    "--threads": ((int | None,), set()),
    "--device": ((str,), set()),
    "--overwrite": ((bool,), set()),
    "--workers": ((int | None,), set()),
    "--json": ((bool,), set()),
}


def all_arguments(app: App, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Names of all commands with each of their arguments."""
    names = [name for name in app if not name.startswith("-")]
    for name in names:
        yield from all_arguments(app[name], (*words, name))
    if not names or app.default_command is not None:
        for argument in app.assemble_argument_collection():
            yield " ".join(words), argument


def test_an_option_means_the_same_in_all_commands(app: App) -> None:
    met: set[str] = set()
    for command, argument in all_arguments(app):
        first = argument.names[0] if argument.names else ""
        if first not in VOCABULARY:
            continue
        met.add(first)
        kinds, spellings = VOCABULARY[first]
        kind = "a choice" if get_origin(argument.hint) is Literal else argument.hint
        if kind not in kinds:
            parts = [
                "a choice" if get_origin(p) is Literal else p
                for p in get_args(argument.hint)
            ]
            assert set(parts) <= set(kinds), (command, first, argument.hint)
        assert spellings <= set(argument.names), (command, argument.names)
    assert met == set(VOCABULARY)


#: Commands that compute with a network or on projections.
COMPUTING = (
    "explain",
    "generate",
    "models rank",
    "reconstruct",
    "restore",
    "shapes complete",
    "shapes refine",
    "shapes segment",
    "sim",
    "study labels",
    "study projections",
    "submit reconstruct",
    "submit restore",
    "submit shapes complete",
    "submit shapes refine",
    "submit shapes segment",
    "submit sim",
    *(f"train {method}" for method in _EXAMPLES),
)


def test_what_computes_can_be_limited_and_what_writes_can_overwrite(app: App) -> None:
    options: dict[str, set[str]] = {}
    for command, argument in all_arguments(app):
        options.setdefault(command, set()).update(argument.names)
    for command in COMPUTING:
        assert {"--device", "--threads"} <= options[command], command
    # A training run resumes in its folder instead, and so do its jobs.
    resumed = {n for n in options if n.removeprefix("submit ").startswith("train ")}
    for command, names in options.items():
        if "--out" in names and command not in resumed:
            assert "--overwrite" in names, command


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


def test_every_report_says_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index, "index_folder", lambda: tmp_path / "jobs")
    rng = np.random.default_rng(0)
    solid = np.full((24, 24, 24), 200, np.uint8)
    solid[8:14, 8:14, 8:14] = 50
    y, x = np.mgrid[:24, :24] - 11.5
    in_air = np.where(np.hypot(y, x) > 9, 20, solid)
    for name, data in (("a.tif", solid), ("b.tif", solid), ("air.tif", in_air)):
        noise = rng.integers(0, 30, solid.shape, np.uint8)
        tifffile.imwrite(name, (data + noise).astype(np.uint8))
    scan = "simulate blobs --size 24 --rows 4 --projections 6 -o scan"
    assert run(scan.split()) == 0
    capsys.readouterr()
    for line, hint in (
        ("measure a.tif -o one", "models rank a.tif"),
        ("measure air.tif -o air", "measure air.tif --sample auto -o air_auto"),
        ("measure b.tif --reference a.tif -o two", "compare a.tif b.tif -o comparison"),
        ("compare a.tif b.tif -o three", "measure b.tif --reference a.tif -o report"),
        (
            "restore a.tif -m gaussian -o clean.tif",
            "measure clean.tif --reference a.tif -o report",
        ),
        (
            "restore a.tif -m gaussian -o clean.ome.tif",
            "measure clean.ome.tif --reference a.tif -o report",
        ),
        (
            "measure clean.ome.tif -o four",
            "compare a.tif clean.ome.tif -o comparison",
        ),
        ("models list --task denoise", "models show ct-denoise"),
        ("models show ct-denoise", "restore scan.tif -m ct-denoise -o restored.ome"),
        ("info scan/projections.h5", "reconstruct scan/projections.h5 -o volume.ome"),
        ("jobs list", "train --list"),
    ):
        assert run(line.split()) == 0, line
        said = capsys.readouterr()
        assert f"Next: napari-geosr {hint}" in said.err, line
    assert said.out == (
        "No jobs yet: training runs, studies and submitted runs are listed here.\n"
    )
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    job = JobFolder.create(tmp_path / "job", values, name="mine")
    index.register(job)
    assert run(["jobs", "list"]) == 0
    hint = f"Next: napari-geosr jobs show {tmp_path / 'job'}"
    assert hint in capsys.readouterr().err


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
