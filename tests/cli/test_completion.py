"""Tab completion in bash and zsh: commands, options, choices and names of models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import docstring_parser
import pytest
from cyclopts import App
from cyclopts.completion.detect import ShellDetectionError

from napari_geosr.cli.app import build_app, run
from napari_geosr.cli.kit import completion
from napari_geosr.models.names import complete_model
from napari_geosr.operations.restore.config import RestoreConfig

PROGRAM = "napari-geosr"

_BASH = """
source "$HOME/script"
f=$(complete -p napari-geosr | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$f
printf '%s\\n' "${COMPREPLY[@]}"
"""
#: Types a line into an interactive zsh, presses Tab, and prints the screen.
_ZSH = """
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1='> '; stty cols 200; fpath=($HOME/functions \\$fpath)"
zpty -w z "autoload -U compinit; compinit -u -D; bindkey '^I' complete-word"
zpty -w z "LISTMAX=1000; echo 'REA''DY'"
while zpty -r z line; do [[ $line == *READY* ]] && break; done
zpty -w -n z "$1"$'\\t'
for i in {1..300}; do
  zpty -r -t z part && shown+=$part
  [[ $shown == *$2* ]] && break
  sleep 0.1
done
print -r -- $shown
zpty -d z
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Environment with the program on the path and no files of the user."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / PROGRAM
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m napari_geosr "$@"\n')
    program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"HOME": str(tmp_path), "PATH": path}


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    """The scripts that ``--install-completion`` writes."""
    app = build_app()
    return {shell: app.generate_completion(shell=shell) for shell in ("bash", "zsh")}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["res"], ["restore"]),
        (["restore", "scan.tif", "--mod"], ["--model"]),
        (["restore", "s", "-m", "foam"], ["foam-denoise", "foam-sr-x2", "foam-sr-x4"]),
        (["models", "show", "ct"], ["ct-denoise", "ct-sr-x2", "ct-sr-x4"]),
        (["restore", "s", "--nonfinite", ""], ["mean", "zero", "refuse"]),
    ],
)
def test_bash_completes_a_word(home, scripts, words, expected):
    (Path(home["HOME"]) / "script").write_text(scripts["bash"])
    command = ["bash", "-c", _BASH, "bash", PROGRAM, *words]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("typed", "shown"),
    [("restore s -m ct-d", "ct-denoise"), ("restore s --mod", "--model")],
)
def test_zsh_completes_a_word(home, scripts, typed, shown):
    folder = Path(home["HOME"]) / "functions"
    folder.mkdir()
    (folder / f"_cyclopts_{PROGRAM}").write_text(scripts["zsh"])
    command = ["zsh", "-f", "-c", _ZSH, "zsh", f"{PROGRAM} {typed}", shown]
    done = subprocess.run(
        command, env=home, capture_output=True, text=True, timeout=60, check=True
    )
    assert shown in done.stdout


@pytest.fixture
def install(home, scripts, monkeypatch, capsys) -> Callable[[str], str]:
    """A function that installs the completion of a shell; it returns the output.

    The scripts are made once, because each takes seconds.
    """
    monkeypatch.setenv("HOME", home["HOME"])
    monkeypatch.setenv("PATH", home["PATH"])
    made = staticmethod(lambda shell: scripts[shell])
    monkeypatch.setattr(App, "generate_completion", made)

    def install_in(shell: str) -> str:
        assert run(["--install-completion", "--shell", shell]) == 0
        return capsys.readouterr().out

    return install_in


def test_the_script_is_written_without_reading_a_class_twice(
    scripts, monkeypatch, tmp_path
):
    """Parsing the source code of the settings of every command took 12 s."""
    read: list[object] = []
    parse = docstring_parser.parse_from_object

    def note(thing, *more):
        read.append(thing)
        return parse(thing, *more)

    monkeypatch.setattr(docstring_parser, "parse_from_object", note)
    out = tmp_path / "script"
    monkeypatch.setattr(completion, "_zsh_loads_completions", lambda: True)
    assert run(["--install-completion", "--shell", "zsh", "-o", str(out)]) == 0
    assert RestoreConfig in read
    assert len(read) == len(set(read))
    assert out.read_text() == scripts["zsh"]
    assert docstring_parser.parse_from_object is note


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_new_bash_completes_after_the_installation(home, install):
    assert "source ~/.bashrc" in install("bash")
    asked = "source ~/.bashrc; complete -p napari-geosr"
    command = ["bash", "--norc", "-c", asked]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert "-F" in done.stdout


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_is_told_the_line_without_which_it_completes_nothing(home, install):
    settings = Path(home["HOME"]) / ".zshrc"
    # As if an administrator's settings did not load completions.
    settings.write_text("(( $+functions[compdef] )) && unfunction compdef\n")
    said = install("zsh")
    (line,) = [text.strip() for text in said.splitlines() if "compinit" in text]
    assert "exec zsh" in said
    with settings.open("a") as file:
        file.write(f"{line}\n")
    assert "compinit" not in install("zsh")
    command = ["zsh", "-i", "-c", "print -r -- $_comps[napari-geosr]"]
    done = subprocess.run(
        command,
        env=home | {"ZDOTDIR": home["HOME"]},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    assert "napari-geosr" in done.stdout


def test_a_shell_that_is_not_detected_has_to_be_named(monkeypatch, capsys):
    def unknown() -> str:
        raise ShellDetectionError("no shell")

    monkeypatch.setattr(completion, "detect_shell", unknown)
    assert run(["--install-completion"]) == 2
    assert "--shell bash" in capsys.readouterr().err


def test_names_of_models_are_completed_without_torch(home):
    code = (
        "import sys; from napari_geosr.cli.app import run;"
        "run(['__complete', 'restore', 's', '--model', '']);"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert {"ct-denoise", "tv"} <= set(done.stdout.split())


def test_folders_and_zips_are_completed_as_models(tmp_path, monkeypatch):
    (tmp_path / "job").mkdir()
    (tmp_path / "join.zip").touch()
    (tmp_path / "joke.txt").touch()
    monkeypatch.chdir(tmp_path)

    class Typed:
        incomplete = "jo"

    offered = complete_model(Typed())
    assert offered[-2:] == ["job", "join.zip"]
    assert "joke.txt" not in offered


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["models", "show", "ct-d"], "Did you mean 'ct-denoise'?"),
        (
            ["models", "show", "foam"],
            "Did you mean 'foam-denoise', 'foam-sr-x2' or 'foam-sr-x4'?",
        ),
    ],
)
def test_the_beginning_of_a_name_is_enough_for_a_suggestion(words, suggestion, capsys):
    assert run(words) == 2
    assert suggestion in capsys.readouterr().err
