"""The command tree; exit codes: 0 success, 1 bug, 2 invalid input, 130 stopped."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from pydantic import ValidationError

from napari_geosr.cli.commands import COMMANDS, EXAMPLES, GROUPS, Command
from napari_geosr.cli.kit.encoding import prepare_streams
from napari_geosr.cli.kit.fractions import refuse_fractions
from napari_geosr.cli.kit.help_pages import GroupedFormatter, with_examples
from napari_geosr.cli.kit.typed_words import WORDS
from napari_geosr.cli.kit.verbosity import QUIET
from napari_geosr.core.config import explain
from napari_geosr.core.errors import ConfigError, GeoSRError, describe_system_error
from napari_geosr.core.machine.processes import let_threads_sleep
from napari_geosr.core.machine.torch_here import describe_missing_torch
from napari_geosr.core.text.spelling import did_you_mean
from napari_geosr.core.version import __version__

_HELP = """Restore microscopy and CT volumes and measure their pores, without a display.

Start with `napari-geosr demo`. In napari, the same tools are under *Plugins ▸ GeoSR*.
"""
#: Groups of commands that also take an argument themselves.
_TAKE_ARGUMENTS = ("sim", "simulate")
#: Options that every command accepts.
_QUIET = ("-q", "--quiet")
_VERBOSE = ("-v", "--verbose", "--debug")
#: Options of `profiles new` that `submit` does not have.
_PROFILE_OPTIONS = (
    "--memory-property",
    "--options",
    "--properties",
    "--python",
    "--remote-command",
    "--setup",
)
#: Hidden command of cyclopts, which completion scripts call.
_COMPLETE = "__complete"


def build_app() -> App:
    """Create the command tree; a command's module is imported when the command runs."""
    app = App(
        name="napari-geosr",
        help=_HELP,
        help_epilogue=with_examples(*EXAMPLES[""]),
        help_formatter=GroupedFormatter(),
        version=__version__,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    _add(app, COMMANDS)
    for name, (help_, commands) in GROUPS.items():
        end = with_examples(*EXAMPLES[name])
        group = App(name=name, help=help_, help_epilogue=end)
        _add(group, commands)
        app.command(group)
    app.command(
        "napari_geosr.cli.kit.completion:install_completion",
        name="--install-completion",
        help="Set up Tab completion of commands and options in this shell.",
    )
    return app


def _add(app: App, commands: Mapping[str, Command]) -> None:
    for name, command in commands.items():
        place = f"napari_geosr.cli.{command.place}"
        if command.examples:
            end = with_examples(*command.examples)
            names = (name, *command.aliases)
            app.command(place, name=names, help=command.help, help_epilogue=end)
        else:  # a sub-app; its commands have their own examples
            app.command(place, name=name, help=command.help)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; report an error in one sentence."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    WORDS.set(tuple(words))
    debug = any(word in words for word in _VERBOSE)
    quiet = any(word in words for word in _QUIET)
    # File names may contain any bytes, and a terminal may support only ASCII.
    prepare_streams()
    if any(word.partition("=")[0] == "--workers" for word in words):
        let_threads_sleep()
    words = [word for word in words if word not in (*_QUIET, *_VERBOSE)]
    QUIET.set(quiet)
    try:
        app = build_app()
        if words[:1] != [_COMPLETE]:  # completing an empty word is allowed
            _refuse_odd(words)
            refuse_fractions(app, words)
        with (
            redirect_stdout(cast("TextIO", _CheckedOutput(sys.stdout))),
            redirect_stderr(cast("TextIO", _Messages(sys.stderr))),
        ):
            code = app(words)
            sys.stdout.flush()
    except CycloptsError as error:
        _print_error(_sentence(error, words), debug)
        return 2
    except GeoSRError as error:
        if isinstance(error, _OutputError):
            _discard(sys.stdout)
        _print_error(str(error), debug)
        return error.exit_code
    except ValidationError as error:
        _print_error(explain(error), debug)
        return 2
    except KeyboardInterrupt:
        _print_error("Stopped.", debug=False)
        return 130
    except BrokenPipeError:  # e.g. ``napari-geosr … | head``
        sys.stderr.close()
        return 0
    except OSError as error:
        sentence = describe_missing_torch(error) or describe_system_error(error)
        if sentence:
            _discard(sys.stdout)
            _print_error(sentence, debug)
            return 2
        if error.errno not in _PATH_ERRORS or error.filename is None:
            return _report_bug(error, debug)
        _print_error(f"{error.filename}: {error.strerror}. Choose another path.", debug)
        return 2
    except Exception as error:  # noqa: BLE001  # any bug
        sentence = describe_missing_torch(error) or describe_system_error(error)
        if sentence:
            _print_error(sentence, debug)
            return 2
        return _report_bug(error, debug)
    return int(code or 0)


def _refuse_odd(words: Sequence[str]) -> None:
    """Reject NUL bytes and empty arguments (as a path, "" is the current folder)."""
    for before, word in zip(["", *words], words, strict=False):
        if not word.strip():
            where = f" after {before}" if before.startswith("-") else ""
            raise ConfigError(
                f"An argument{where} is empty. Check the variables in your script."
            )
        if "\0" in word:
            raise ConfigError(
                f"{word!r} contains a NUL character, which no file name or setting "
                "can have. Remove it."
            )


#: Values of ``errno`` for errors due to the path, not to a bug in this program.
_PATH_ERRORS = (
    errno.EACCES,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


class _OutputError(GeoSRError):
    """Standard output cannot be written to."""


class _CheckedOutput:
    """Standard output that raises `_OutputError` if it cannot be written to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _explained():
            return self._stream.write(text)

    def flush(self) -> None:
        with _explained():
            self._stream.flush()


class _Messages:
    """Standard error; a full disk or a closed pipe does not end the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            _discard(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _discard(self._stream)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _OutputError(
            f"Cannot write to standard output: {error.strerror}. Redirect it to "
            "another file. Files that the command has written are complete."
        ) from error


def _discard(stream: TextIO) -> None:
    """Discard unprinted text; otherwise, Python tries to print it at exit and fails."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _report_bug(error: Exception, debug: bool) -> int:
    _print_error(
        f"Something went wrong inside napari-geosr ({type(error).__name__}: {error}). "
        "This is a bug: please report it and include the output of the same command "
        "with --verbose.",
        debug,
    )
    return 1


def _sentence(error: CycloptsError, words: Sequence[str]) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ValidationError):
        return explain(cause)
    if sentence := _unknown_subcommand(words):
        return sentence
    if isinstance(error, UnusedCliTokensError):
        unused = " ".join(error.unused_tokens or ())
        return (
            f"Unexpected argument: {unused}. Separate several numbers with commas "
            "(--voxel-size 4,2,2), and put names that contain spaces in quotes."
        )
    if sentence := _profile_setting(error, words):
        return sentence
    sentence = " ".join(str(error).split())
    if isinstance(error, MissingArgumentError):
        sentence = _missing(error) or sentence
    negative = [word for word in words if re.match(r"-[0-9.]", word)]
    if isinstance(error, MissingArgumentError) and negative:
        before = words[: words.index(negative[0])][-1:]
        option = before[0] if before and before[0].startswith("--") else ""
        sentence += (
            f" Put = before a value that begins with a minus: {option}={negative[0]}"
        )
    return sentence


def _profile_setting(error: CycloptsError, words: Sequence[str]) -> str:
    """Explain that an option belongs to the profile; return "" if it does not."""
    if not isinstance(error, UnknownOptionError) or words[0] != "submit":
        return ""
    # The word may be "--setup", or include a value: "--setup=module load cuda".
    keyword = (error.token.keyword or error.token.value).partition("=")[0]
    if keyword not in _PROFILE_OPTIONS:
        return ""
    return (
        f"{keyword} is a setting of the profile, not of a single job. Save it in a "
        f"profile (napari-geosr profiles new NAME {keyword} …), and submit the job "
        "with --profile NAME."
    )


def _missing(error: MissingArgumentError) -> str:
    """Name the missing value or the misspelt option; return "" if neither is found."""
    if typo := re.search(r"Did you mean (\S+) instead of (\S+)\?", str(error)):
        return f'Unknown option: "{typo[2]}". Did you mean "{typo[1]}"?'
    argument = error.argument
    if argument is None or argument.token_count()[0] != 1:
        return ""
    about = " ".join((argument.parameter.help or "").split())
    if about[1:2].islower():  # not an abbreviation
        about = about[0].lower() + about[1:]
    ending = f": {about.rstrip('.')}." if about else "."
    if error.keyword is not None or argument.tokens:
        return f"Give a value after {error.keyword or argument.name}{ending}"
    command = " ".join(error.command_chain or ())
    return f"{command} needs {argument.name}{ending}"


def _unknown_subcommand(words: Sequence[str]) -> str:
    """Explain that the second word is not a subcommand; return "" if it is one."""
    known = _subcommands(words)
    if words and words[0] in _TAKE_ARGUMENTS:
        return ""
    if not known or len(words) < 2 or words[1].startswith("-") or words[1] in known:
        return ""
    noun = "method" if words[0] == "train" else "subcommand"
    return (
        f"{words[0]} has no {noun} {words[1]!r}.{did_you_mean(words[1], known)} "
        f"Available: {', '.join(known)}."
    )


def _subcommands(words: Sequence[str]) -> list[str]:
    """Return the subcommands of the first word, if it is a group of commands."""
    app = build_app()
    if not words or words[0] not in app:
        return []
    return sorted(name for name in app[words[0]] if not name.startswith("-"))


def _print_error(sentence: str, debug: bool) -> None:
    with redirect_stderr(cast("TextIO", _Messages(sys.stderr))):
        if debug:
            traceback.print_exc()
        print(f"napari-geosr: {sentence}", file=sys.stderr, flush=True)
