"""Run jobs for the commands that create or resume them, and print their results."""

from __future__ import annotations

import socket
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_geosr.cli.kit.console import print_json, run_command
from napari_geosr.cli.kit.options import Json
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.errors import ConfigError, JobError, ModelError, VolumeError
from napari_geosr.core.steps import WarningIssued
from napari_geosr.core.types import AnyDict
from napari_geosr.jobs import local
from napari_geosr.jobs.index import list_jobs, remove
from napari_geosr.jobs.kinds import result_kind
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.train.card_summary import summarise_card

if TYPE_CHECKING:
    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.jobs.folder import JobFolder

#: Flags of all commands that create a job.
RUN_FLAGS = {
    "detach": Annotated[
        bool,
        Parameter(
            negative="",
            help="Train in the background and return at once; the job waits until "
            "other jobs have finished. Follow it with `napari-geosr jobs watch`. "
            "Without --detach, training starts at once.",
        ),
    ],
    "prepare": Annotated[
        bool,
        Parameter(
            negative="",
            help="Only create the job's folder; `napari-geosr jobs resume` runs the "
            "job later.",
        ),
    ],
    "json": Json,
}


def start(folder: JobFolder, *, detach: bool, prepare: bool, json: bool) -> int:
    """Run a new job in this process or in a separate one, or only prepare it.

    Parameters
    ----------
    folder : JobFolder
    detach : bool
        Whether to run the job in the background.
    prepare : bool
        Whether to print how to run the job instead of running it.
    json : bool
        Whether to print JSON instead of sentences.

    Returns
    -------
    int
        Exit code.
    """
    if prepare:
        return _print_result(
            json,
            {"job": str(folder.path)},
            f"Run it with: napari-geosr jobs resume {folder.path}",
        )
    return _start_detached(folder, json) if detach else _run_new(folder, json)


def _run_new(folder: JobFolder, json: bool) -> int:
    """Run a new job; if it is rejected before any work is done, delete its folder."""
    try:
        return run_here(folder, json=json)
    except (ConfigError, ModelError, VolumeError):
        # Checkpoints and prepared data are in subfolders. Without them, there is
        # nothing to resume, and the corrected command can reuse the job's folder.
        if not any(path.is_dir() for path in folder.path.iterdir()):
            with suppress(JobError):
                remove(folder)
        raise


def _start_detached(folder: JobFolder, json: bool) -> int:
    pid = local.start(folder)
    return _print_result(
        json,
        {"job": str(folder.path), "pid": pid},
        f"Started training as process {pid}; follow it with: napari-geosr jobs "
        f"watch {folder.path}",
    )


def run_here(folder: JobFolder, *, json: bool) -> int:
    """Run a job in this process with a progress bar, without waiting for other jobs."""
    result: Path | None = None
    warnings: list[str] = []
    # After a second Ctrl-C, the job records the interruption; print how to resume it.
    with suppress(KeyboardInterrupt):
        result, warnings = run_command(
            lambda should_stop: _run_without_queue(folder, should_stop),
            stopping="stopping after this step (press Ctrl-C again to stop at once "
            "and lose unsaved work)",
        )
    values = {
        "job": str(folder.path),
        "state": folder.status().state,
        **_results(folder, result),
        "warnings": warnings,
    }
    if result is None:
        text = (
            f"Stopped after step {folder.status().done}. Resume with: napari-geosr "
            f"jobs resume {folder.path}"
        )
        return _print_result(json, values, text) or 130
    lines = _result_lines(values)
    model = values.get("model")
    if model and folder.path in Path(str(model)).parents:
        lines.append(summarise_card(Path(str(values["model"]))))
        if not json:
            suggest_next(f"restore SCAN -m {quoted(str(model))} -o restored.ome.tif")
    return _print_result(json, values, "\n".join(lines))


def print_done(folder: JobFolder, *, json: bool) -> int:
    """Print the results of a job that is done; return the exit code."""
    status = folder.status()
    results = _results(folder, status.result)
    values: AnyDict = {"job": str(folder.path), "state": status.state, **results}
    values["warnings"] = []
    lines = _result_lines(values)
    if status.result is None:
        lines = [status.message or f"Its folder is {folder.path}"]
    text = f"{status.name} is already done; nothing was run."
    return _print_result(json, values, "\n".join([text, *lines]))


def _result_lines(values: AnyDict) -> list[str]:
    """Return one line for each result, with its kind and path."""
    words = ("model", "volume", "report", "restored")
    return [f"{k.capitalize()}: {values[k]}" for k in words if values.get(k)]


def _results(folder: JobFolder, result: Path | None) -> dict[str, str | None]:
    """Return the paths of the results of a job, by kind."""
    values = folder.values()
    path = None if result is None else str(result)
    word = result_kind(str(values.get("operation")))
    if word != "model":
        return {word: path}
    restored = dict(values.get("scans") or {}).get("restore")
    if result is None or restored is None:
        return {"model": path}
    return {"model": path, "restored": str(restored)}


def _run_without_queue(
    folder: JobFolder, should_stop: ShouldStop
) -> Generator[Step, None, Path | None]:
    """Run a job at once; warn if another job is running on this computer."""
    for other in list_jobs():
        here = other.host == socket.gethostname() and other.path != folder.path
        if here and other.state in ("running", "finishing"):
            yield WarningIssued(
                message=f"{other.name} is also running on this computer, which slows "
                "both jobs down. With --detach, a job waits for the others to finish."
            )
    return (yield from run_steps(folder, should_stop=should_stop))


def _print_result(json: bool, values: AnyDict, text: str) -> int:
    if json:
        print_json(values)
    else:
        print(text, file=sys.stdout)
    return 0
