"""The command tree and its exit codes: 0 fine, 2 the user's input, 1 our fault."""

from __future__ import annotations

import errno
import re
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError, MissingArgumentError, UnusedCliTokensError
from pydantic import ValidationError

from napari_geosr.core.config import explain
from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.version import __version__

_HELP = """Restore microscopy and CT volumes and measure their pores, without a display.

Start with `napari-geosr demo`. In napari the same is under *Plugins ▸ GeoSR*.
"""
#: What ``--help`` says of each command without importing it.
_COMMANDS = {
    "demo": "Restore a simulated noisy foam scan; report its pores before and after.",
    "restore": "Restore (denoise, super-resolve) a volume with a model, tile by tile.",
    "measure": "Segment the pores, count and measure them; write JSON, CSV, PNG, HTML.",
    "reconstruct": "Reconstruct a volume from projections, block by block.",
    "pairs": "Build pairs to train super-resolution with, of two scans or of one.",
    "simulate": "Simulate the scan of a porous sample whose porosity is known exactly.",
    "info": "Say what the reader understands of a file: axes, voxel size, origin, …",
    "doctor": "Say what is installed, which devices and how much memory there are.",
}
_MODEL_COMMANDS = {
    "list": "List the bundled models and those in your own folder.",
    "show": "Show a model's card: what it is for and not for, and its figures.",
    "rank": "Compare models by their expected error on a scan, without a ground truth.",
    "verify": "Check a model bundle: card, weights, checksum; nothing is executed.",
    "import": "Take a model of others among your own; nothing of it is run.",
    "export": "Write a model for other programs, and compare it with ours.",
    "remove": "Delete one of your own models.",
}
_JOB_COMMANDS = {
    "list": "List the jobs that are known on this machine, the newest first.",
    "show": "Show a job: state, steps, losses, settings, result.",
    "watch": "Follow a running job until it ends.",
    "cancel": "Stop a job; its last checkpoint is kept.",
    "resume": "Go on with a job that was paused, cancelled, killed or failed.",
    "remove": "Delete a job's folder; models used elsewhere must be copied first.",
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
    for name, says in _COMMANDS.items():
        app.command(f"napari_geosr.cli.{name}:{name}", name=name, help=says)
    app.command(
        "napari_geosr.cli.train:app",
        name="train",
        help="Train a model on your own data.",
    )
    app.command(
        "napari_geosr.cli.study:app",
        name="study",
        help="Study how little of a scan gives the right pores.",
    )
    jobs = App(name="jobs", help="List, watch, stop and resume trainings.")
    for name, says in _JOB_COMMANDS.items():
        jobs.command(f"napari_geosr.cli.jobs:{name}_jobs", name=name, help=says)
    app.command(jobs)
    models = App(name="models", help="List, show, rank, import, export, remove models.")
    for name, says in _MODEL_COMMANDS.items():
        where = f"napari_geosr.cli.models:{name}_models"
        models.command(where, name=name, help=says)
    app.command(models)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors become one sentence."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = build_app()(words)
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
        if error.errno not in _PLACES or error.filename is None:
            return _our_fault(error, debug)
        _say(f"{error.filename}: {error.strerror}. Choose another path.", debug)
        return 2
    except Exception as error:  # noqa: BLE001  # the last line of defence
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
