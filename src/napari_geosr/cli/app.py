"""The command tree and its exit codes: 0 fine, 2 the user's input, 1 our fault."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper

from cyclopts import App, CycloptsError, MissingArgumentError, UnusedCliTokensError
from pydantic import ValidationError

from napari_geosr.core.config import explain
from napari_geosr.core.errors import GeoSRError, system_sentence
from napari_geosr.core.version import __version__

_HELP = """Restore microscopy and CT volumes and measure their pores, without a display.

Start with `napari-geosr demo`. In napari the same is under *Plugins ▸ GeoSR*.
"""
#: Each command: where it is, and its help. The only place of the latter, as nothing is
#: imported to show it.
_COMMANDS = {
    "demo": (
        "demo:demo",
        "Restore a simulated noisy foam scan; report its pores before and after.",
    ),
    "restore": (
        "restore:restore",
        "Restore (denoise, super-resolve) a volume with a model, tile by tile.",
    ),
    "measure": (
        "measure:measure",
        "Segment the pores, count and measure them; write JSON, CSV, PNG, HTML.",
    ),
    "reconstruct": (
        "reconstruct:reconstruct",
        "Reconstruct a volume from projections, block by block.",
    ),
    "pairs": (
        "pairs:pairs",
        "Build pairs to train super-resolution with, of two scans or of one.",
    ),
    "simulate": (
        "simulate:simulate",
        "Simulate the scan of a porous sample whose porosity is known exactly.",
    ),
    "info": (
        "info:info",
        "Say what the reader understands of a file: axes, voxel size, origin, …",
    ),
    "doctor": (
        "doctor:doctor",
        "Say what is installed, which devices and how much memory there are.",
    ),
    "train": ("train:app", "Train a model on your own data."),
    "study": ("study:app", "Study how little of a scan gives the right pores."),
}
#: Commands in groups: the group's help, and the same of its commands.
_GROUPS = {
    "jobs": (
        "List, watch, stop and resume trainings.",
        {
            "list": (
                "jobs:list_jobs",
                "List the jobs that are known on this machine, the newest first.",
            ),
            "show": (
                "jobs:show_jobs",
                "Show a job: state, steps, losses, settings, result.",
            ),
            "watch": ("jobs:watch_jobs", "Follow a running job until it ends."),
            "cancel": ("jobs:cancel_jobs", "Stop a job; its last checkpoint is kept."),
            "resume": (
                "jobs:resume_jobs",
                "Go on with a job that was paused, cancelled, killed or failed.",
            ),
            "remove": (
                "jobs:remove_jobs",
                "Delete a job's folder; models used elsewhere must be copied first.",
            ),
        },
    ),
    "models": (
        "List, show, rank, import, export, remove models.",
        {
            "list": (
                "models:list_models",
                "List the bundled models and those in your own folder.",
            ),
            "show": (
                "models:show_models",
                "Show a model's card: what it is for and not for, and its figures.",
            ),
            "rank": (
                "models:rank_models",
                "Compare models by their expected error on a scan, without a ground "
                "truth.",
            ),
            "verify": (
                "models:verify_models",
                "Check a model bundle: card, weights, checksum; nothing is executed.",
            ),
            "import": (
                "models:import_models",
                "Take a model of others among your own; nothing of it is run.",
            ),
            "export": (
                "models:export_models",
                "Write a model for other programs, and compare it with ours.",
            ),
            "remove": ("models:remove_models", "Delete one of your own models."),
        },
    ),
}
_EPILOGUE = (
    "Exit codes: 0 fine, 2 something in the input or settings, 1 our fault. "
    "`--debug` after a command shows where an error came from."
)


def build_app() -> App:
    """Make the command tree; a command's module is imported when it is called."""
    app = App(
        name="napari-geosr",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        version=__version__,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    _add(app, _COMMANDS)
    for name, (help_, commands) in _GROUPS.items():
        group = App(name=name, help=help_)
        _add(group, commands)
        app.command(group)
    return app


def _add(app: App, commands: Mapping[str, tuple[str, str]]) -> None:
    for name, (place, help_) in commands.items():
        app.command(f"napari_geosr.cli.{place}", name=name, help=help_)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors become one sentence."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    # Names of files may have any bytes, and a terminal may know ASCII alone.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = [word for word in words if word != "--debug"]
    try:
        code = build_app()(words)
        sys.stdout.flush()
    except CycloptsError as error:
        _say(_sentence(error, words), debug)
        return 2
    except GeoSRError as error:
        _say(str(error), debug)
        return error.exit_code
    except ValidationError as error:
        _say(explain(error), debug)
        return 2
    except KeyboardInterrupt:
        _say("Stopped.", debug=False)
        return 130
    except BrokenPipeError:  # ``napari-geosr … | head``
        sys.stderr.close()
        return 0
    except OSError as error:
        if said := system_sentence(error):
            _forget_output()
            _say(said, debug)
            return 2
        if error.errno not in _PLACES or error.filename is None:
            return _our_fault(error, debug)
        _say(f"{error.filename}: {error.strerror}. Choose another path.", debug)
        return 2
    except Exception as error:  # noqa: BLE001  # the last line of defence
        if said := system_sentence(error):
            _say(said, debug)
            return 2
        return _our_fault(error, debug)
    return int(code or 0)


#: What is wrong with a path, and not with this program.
_PLACES = (
    errno.EACCES,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


def _forget_output() -> None:
    """Drop what could not be printed: Python would try again, and complain, at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _our_fault(error: Exception, debug: bool) -> int:
    _say(
        f"Something went wrong inside napari-geosr ({type(error).__name__}: "
        f"{error}). This is our fault: please report it with the output of the same "
        "command with --debug.",
        debug,
    )
    return 1


def _sentence(error: CycloptsError, words: Sequence[str]) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ValidationError):
        return explain(cause)
    if isinstance(error, UnusedCliTokensError):
        unused = " ".join(error.unused_tokens or ())
        return (
            f"{unused}: nothing is expected there. Write several numbers with commas "
            "between (--voxel-size 4,2,2), and names with spaces in quotes."
        )
    sentence = " ".join(str(error).split())
    negative = [word for word in words if re.match(r"-[0-9.]", word)]
    if isinstance(error, MissingArgumentError) and negative:
        sentence += f" Write a value that begins with a minus after =: ={negative[0]}"
    return sentence


def _say(sentence: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"napari-geosr: {sentence}", file=sys.stderr)
