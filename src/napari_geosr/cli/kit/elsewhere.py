"""``--host user@login``: the same command, run by napari-geosr on a login node."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, get_type_hints

from cyclopts import Parameter

from napari_geosr.cli.kit.typed_words import WORDS
from napari_geosr.jobs.cluster.login_node import check_host, profile_for, run_on

_OPTION = "--host"
Host = Annotated[
    str | None,
    Parameter(
        help="Run this command on another computer, over your own SSH connection: "
        "user@login or a name from ~/.ssh/config. Paths and profiles refer to that "
        "computer."
    ),
]


def on_any_host(command: Callable[..., int]) -> Callable[..., int]:
    """Add the option ``--host`` to a command.

    With this option, only the syntax of the command line is checked on this computer,
    because files, jobs and profiles are on the other computer.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()

    @wraps(command)
    def run_anywhere(*args: object, host: str | None = None, **kwargs: object) -> int:
        if host is None:
            return command(*args, **kwargs)
        words = WORDS.get()
        profile = profile_for(check_host(host), _value_of("--profile", words))
        return run_on(host, _without_host(words), profile)

    extra = inspect.Parameter("host", inspect.Parameter.KEYWORD_ONLY, default=None)
    run_anywhere.__signature__ = inspect.Signature([*parameters, extra])  # type: ignore[attr-defined]
    run_anywhere.__annotations__ = hints | {"host": Host}
    return run_anywhere


def _without_host(words: Sequence[str]) -> list[str]:
    """Remove the option and its value from the words of the command line."""
    kept, left = list[str](), list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            return [*kept, word, *left]
        if word == _OPTION:
            left[:1] = []
        elif not word.startswith(f"{_OPTION}="):
            kept.append(word)
    return kept


def _value_of(option: str, words: Sequence[str]) -> str | None:
    """Find an option's value in the words of the command line; None if absent."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--":
            break
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None
