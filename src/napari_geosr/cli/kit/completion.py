"""``napari-geosr --install-completion``."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import docstring_parser
from cyclopts import Parameter
from cyclopts.completion import bash, fish, zsh
from cyclopts.completion.detect import ShellDetectionError, detect_shell

from napari_geosr.cli.app import build_app
from napari_geosr.core.errors import ConfigError

#: Line of ``.zshrc`` that loads completions.
_LOAD_ZSH = "autoload -Uz compinit && compinit"
#: Command that exits with 0 if an interactive zsh has loaded completions.
_ASK_ZSH = ("zsh", "-i", "-c", "(( $+functions[compdef] ))")
#: Maximum time, in seconds, to wait for the answer of an interactive zsh.
_ZSH_SECONDS = 20
#: Commands that restart a shell or reload its settings.
_RESTART = {"bash": "source ~/.bashrc", "zsh": "exec zsh", "fish": "exec fish"}


def install_completion(
    *,
    shell: Annotated[
        Literal["bash", "zsh", "fish", "powershell"] | None,
        Parameter(help="Shell; by default, the one that runs this command."),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            name=("--out", "--output", "-o"),
            help="File for the completion script; by default, where the shell looks "
            "for it.",
        ),
    ] = None,
) -> int:
    """Write the completion script of a shell, and state what remains to be done."""
    try:
        name = shell or detect_shell()
    except ShellDetectionError as error:
        raise ConfigError(
            "The shell could not be detected. Name it, for example with --shell bash."
        ) from error
    with texts_read_once():
        print(f"Wrote {build_app().install_completion(shell=name, output=out)}")
    if name == "zsh" and not _zsh_loads_completions():
        print(
            "zsh does not load completions yet. Add this line at the end of ~/.zshrc:\n"
            f"\n    {_LOAD_ZSH}\n"
        )
    again = f", or run: {_RESTART[name]}" if name in _RESTART else ""
    print(f"Start a new {name} session{again}. The Tab key then completes commands.")
    return 0


@contextmanager
def texts_read_once() -> Iterator[None]:
    """Make cyclopts read each docstring and help text only once while writing a script.

    By default, cyclopts reads them again for each command that has the same settings,
    and finds the docstring of a class by parsing its source code, which takes most of
    the time.
    """
    places = [(docstring_parser, "parse_from_object")]
    places += [(shell, "strip_markup") for shell in (bash, fish, zsh)]
    before = [(place, name, getattr(place, name, None)) for place, name in places]
    known = [(place, name, read) for place, name, read in before if read is not None]
    for place, name, read in known:
        setattr(place, name, cache(read))
    try:
        yield
    finally:
        for place, name, read in known:
            setattr(place, name, read)


def _zsh_loads_completions() -> bool:
    """Return whether an interactive zsh loads completions, with the user's settings."""
    try:
        asked = subprocess.run(
            _ASK_ZSH,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ZSH_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return asked.returncode == 0
