"""``napari-geosr train METHOD``: one command for each learning method."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from napari_geosr.cli.options import AS_FLAGS, Json, SettingsPath
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import Warned
from napari_geosr.operations.fine_tune import OF_THE_NETWORK, fine_tune_settings
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.train import TrainJob, config_class, needs

if TYPE_CHECKING:
    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.jobs.folder import JobFolder


def _list_or_ask(
    *,
    list: Annotated[  # noqa: A002  # the name that people see
        bool, Parameter(negative="", help="List the methods and what data each needs.")
    ] = False,
    json: Json = False,
) -> int:
    """Train a model on your own data: choose a method, or list them with --list."""
    from napari_geosr.cli.console import print_json

    if not list:
        raise ConfigError(
            f"Choose a method: {', '.join(needs())}. `napari-geosr train --list` says "
            "what data each needs."
        )
    if json:
        print_json({"methods": needs()})
        return 0
    for name, need in needs().items():
        print(f"{name:<20} {need}")
    return 0


def _command(method: str) -> Callable[..., int]:
    """Make the command of a method; its flags are its config's fields."""
    kind = config_class(method)

    def train(
        *,
        out: Path,
        config: Any = None,
        reading: InputConfig | None = None,
        settings: Path | None = None,
        detach: bool = False,
        prepare: bool = False,
        json: bool = False,
    ) -> int:
        folder = _new_job(method, out, config, reading, settings)
        if prepare:
            return _say(
                json,
                {"job": str(folder.path)},
                f"Run it with: napari-geosr jobs resume {folder.path}",
            )
        return _detached(folder, json) if detach else run_here(folder, json=json)

    train.__doc__ = f"Needs {needs()[method]}."
    # The annotations are made here: a method's config is known only now.
    train.__annotations__ = {
        "out": Annotated[Path, Parameter(help="Folder of the job; must be new.")],
        "config": Annotated[kind | None, AS_FLAGS],
        "reading": Annotated[InputConfig | None, AS_FLAGS],
        "settings": SettingsPath,
        "detach": Annotated[
            bool,
            Parameter(
                negative="",
                help="Train in a process of its own and return at once; it waits for "
                "its turn where other jobs run, and `napari-geosr jobs watch` follows "
                "it. Without this it begins at once.",
            ),
        ],
        "prepare": Annotated[
            bool,
            Parameter(
                negative="",
                help="Make the job's folder and stop: to run it on a cluster.",
            ),
        ],
        "json": Json,
        "return": int,
    }
    return train


def _new_job(
    method: str,
    out: Path,
    config: Any,
    reading: InputConfig | None,
    settings: Path | None,
) -> JobFolder:
    """Make the folder of a job from flags and a file of settings."""
    from napari_geosr.jobs.folder import JobFolder
    from napari_geosr.jobs.index import register

    kind = config_class(method)
    given = {} if config is None else config.model_dump(exclude_unset=True)
    kept: dict[str, Any] = {}
    if settings is not None:
        saved = TrainJob.from_yaml_file(settings, method)
        kept = saved.training.model_dump(exclude_unset=True)
        reading = reading or saved.reading
    values = kept | given
    if values.get("from_model") and not values.keys() & OF_THE_NETWORK:
        values = fine_tune_settings(values["from_model"], method) | values
    job = TrainJob(
        method=method,
        training=kind.create(**values),
        reading=reading or InputConfig(),
    ).with_absolute_paths()
    job.check()
    folder = JobFolder.create(out, job.to_values(), name=job.training.name)
    register(folder)
    return folder


def _detached(folder: JobFolder, json: bool) -> int:
    from napari_geosr.jobs import local

    pid = local.start(folder)
    return _say(
        json,
        {"job": str(folder.path), "pid": pid},
        f"Training as process {pid}; follow it with: napari-geosr jobs watch "
        f"{folder.path}",
    )


def run_here(folder: JobFolder, *, json: bool) -> int:
    """Run a job in this process, with a bar; at once, whatever else runs."""
    from napari_geosr.cli.console import run_command

    result: Path | None = None
    warnings: list[str] = []
    # Twice Ctrl-C: the job notes that it was interrupted; here is said how to go on.
    with suppress(KeyboardInterrupt):
        result, warnings = run_command(
            lambda should_stop: _at_once(folder, should_stop),
            stopping="stopping after this step … (once more: at once, to go on from "
            "the last checkpoint)",
        )
    values = {
        "job": str(folder.path),
        "state": folder.status().state,
        "model": None if result is None else str(result),
        "warnings": warnings,
    }
    if result is None:
        text = (
            f"Stopped after step {folder.status().done}; go on with: napari-geosr jobs "
            f"resume {folder.path}"
        )
        return _say(json, values, text) or 130
    return _say(json, values, f"Model: {result}")


def _at_once(folder: JobFolder, should_stop: ShouldStop) -> Generator[Step, None, None]:
    """Run a job without waiting for its turn, as a person in a terminal expects."""
    from napari_geosr.jobs.index import list_jobs
    from napari_geosr.jobs.run import run_steps

    for other in list_jobs():
        here = other.host == socket.gethostname() and other.path != folder.path
        if here and other.state in ("running", "finishing"):
            yield Warned(
                message=f"{other.name} runs on this machine as well, so both are "
                "slower; with --detach a job waits for its turn."
            )
    yield from run_steps(folder, should_stop=should_stop)


def _say(json: bool, values: dict[str, Any], text: str) -> int:
    from napari_geosr.cli.console import print_json

    if json:
        print_json(values)
    else:
        print(text, file=sys.stdout)
    return 0


def _build() -> App:
    app = App(
        name="train",
        help="Train a model on your own data.",
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    app.default(_list_or_ask)
    for method, need in needs().items():
        app.command(_command(method), name=method, help=f"Needs {need}.")
    return app


app = _build()
