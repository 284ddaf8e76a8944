"""``napari-geosr submit train METHOD``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cyclopts import App

from napari_geosr.cli import train as train_commands
from napari_geosr.cli.kit.help_pages import with_examples
from napari_geosr.cli.submit.command import SubmitRequest, submitted
from napari_geosr.cli.submit.paths import absolute_path
from napari_geosr.core.config import Config
from napari_geosr.operations.ganrec import NEEDS as GANREC_NEEDS
from napari_geosr.operations.ganrec import GanrecConfig
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.pinn_sim import NEEDS as PINN_SIM_NEEDS
from napari_geosr.operations.pinn_sim import PinnSimConfig
from napari_geosr.operations.shapes import shape_config_class, shape_needs
from napari_geosr.operations.train import config_class, needs
from napari_geosr.operations.train.from_projections import ScansConfig


def _train(method: str) -> Callable[..., SubmitRequest]:
    def request(
        *,
        out: Path,
        config: Config | None = None,
        reading: InputConfig | None = None,
        scans: ScansConfig | None = None,
        settings: Path | None = None,
    ) -> SubmitRequest:
        job = train_commands.training_job(method, config, reading, scans, settings)
        path = absolute_path(out)
        return SubmitRequest(job, job.training.name, path, folder=path)

    return request


def _ganrec(
    *, out: Path, config: GanrecConfig | None = None, settings: Path | None = None
) -> SubmitRequest:
    job = train_commands.ganrec_job(config, settings)
    path = absolute_path(out)
    return SubmitRequest(job, job.training.name, path, folder=path)


def _pinn_sim(
    *,
    out: Path,
    config: PinnSimConfig | None = None,
    reading: InputConfig | None = None,
    settings: Path | None = None,
) -> SubmitRequest:
    job = train_commands.pinn_sim_job(config, reading, settings)
    path = absolute_path(out)
    return SubmitRequest(job, job.training.name, path, folder=path)


def _shapes(method: str) -> Callable[..., SubmitRequest]:
    def request(*, out: Path, config: Config | None = None) -> SubmitRequest:
        job = train_commands.shape_job(method, config)
        path = absolute_path(out)
        return SubmitRequest(job, job.training.name, path, folder=path)

    return request


def _on_a_queue(method: str) -> str:
    """Return examples of training on a cluster, for the help page."""
    line = f"submit {train_commands.examples_of(method)[0]}"
    return with_examples(f"{line} --queue slurm", f"{line} --profile mine")


def _build_train() -> App:
    app = App(
        name="train",
        help_epilogue=_on_a_queue("noise2inverse"),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    for method, need in needs().items():
        app.command(
            submitted(train_commands.command_of(method), _train(method)),
            name=method,
            help=train_commands.summary_of(method, need),
            help_epilogue=_on_a_queue(method),
            help_formatter=train_commands.formatter_of(config_class(method)),
        )
    for method, need in shape_needs().items():
        name = method.replace("_", "-")
        app.command(
            submitted(train_commands.shape_command_of(method), _shapes(method)),
            name=name,
            help=train_commands.summary_of(name, need),
            help_epilogue=_on_a_queue(name),
            help_formatter=train_commands.formatter_of(shape_config_class(method)),
        )
    for name, verb, request, need in (
        ("ganrec", train_commands.ganrec, _ganrec, GANREC_NEEDS),
        ("pinn-sim", train_commands.pinn_sim, _pinn_sim, PINN_SIM_NEEDS),
    ):
        app.command(
            submitted(verb, request),
            name=name,
            help=train_commands.summary_of(name, need),
            help_epilogue=_on_a_queue(name),
        )
    return app


train = _build_train()
