"""``napari-geosr submit shapes complete | refine | segment``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cyclopts import App

from napari_geosr.cli import shapes as commands
from napari_geosr.cli.kit.help_pages import with_examples
from napari_geosr.cli.kit.options import settings_from
from napari_geosr.cli.submit.command import SubmitRequest, submitted
from napari_geosr.cli.submit.paths import absolute_path, modified_time
from napari_geosr.io.meshes import check_mesh_path
from napari_geosr.io.suffixes import stem_of
from napari_geosr.jobs.queues._scripts import plain_name
from napari_geosr.operations.inputs import InputConfig, check_not_source
from napari_geosr.operations.inputs.job_input import JobInput
from napari_geosr.operations.shapes import (
    CompleteShapeConfig,
    RefineShapeConfig,
    SegmentInsideConfig,
)
from napari_geosr.operations.shapes.models import absolute_shape_model
from napari_geosr.operations.shapes.runs import ShapeJob, ShapeRunConfig


def _refine(
    input: Path,  # noqa: A002  # as in the command
    *,
    out: Path,
    config: RefineShapeConfig | None = None,
    reading: InputConfig | None = None,
    settings: Path | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    merged = settings_from(RefineShapeConfig, config, settings)
    data = _input(input, reading)
    return _request("refine", data, merged, out, overwrite=overwrite)


def _complete(
    input: Path,  # noqa: A002  # as in the command
    *,
    out: Path,
    implant: Path | None = None,
    mesh: Path | None = None,
    config: CompleteShapeConfig | None = None,
    reading: InputConfig | None = None,
    settings: Path | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    merged = settings_from(CompleteShapeConfig, config, settings)
    refiner = absolute_shape_model(merged.refine_model)
    if mesh is not None:
        mesh = absolute_path(mesh)
        check_mesh_path(mesh, overwrite=overwrite)
    return _request(
        "complete",
        _input(input, reading),
        merged.model_copy(update={"refine_model": refiner}),
        out,
        implant=None if implant is None else absolute_path(implant),
        mesh=mesh,
        overwrite=overwrite,
    )


def _segment(
    input: Path,  # noqa: A002  # as in the command
    *,
    inside: Path | None = None,
    out: Path,
    config: SegmentInsideConfig,
    reading: InputConfig | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    mask = None if inside is None else _input(inside, reading)
    data = _input(input, reading)
    return _request("segment", data, config, out, mask=mask, overwrite=overwrite)


def _input(path: Path, reading: InputConfig | None) -> JobInput:
    return JobInput(volume=absolute_path(path), reading=reading or InputConfig())


def _request(
    method: str,
    data: JobInput,
    settings: ShapeRunConfig,
    out: Path,
    *,
    mask: JobInput | None = None,
    implant: Path | None = None,
    mesh: Path | None = None,
    overwrite: bool,
) -> SubmitRequest:
    """Create the job of a task, and validate it."""
    out = absolute_path(out)
    name = plain_name(stem_of(out))
    model = absolute_shape_model(settings.model)
    job = ShapeJob.create(
        name=name,
        method=method,
        data=data,
        mask=mask,
        settings=settings.model_copy(update={"model": model}),
        out=out,
        implant=implant,
        mesh=mesh,
        replaces=modified_time(out) if overwrite else 0,
        implant_replaces=modified_time(implant) if overwrite and implant else 0,
        mesh_replaces=modified_time(mesh) if overwrite and mesh else 0,
    )
    job.check()
    for volume in filter(None, job.open()):
        check_not_source(volume, out, *job.companions())
    return SubmitRequest(
        job,
        name,
        out,
        is_volume=True,
        companions=() if implant is None else (implant,),
        overwrite=overwrite,
    )


def _build_shapes() -> App:
    lines = {
        "complete": "submit shapes complete skull.nii.gz -o whole.ome.tif",
        "refine": "submit shapes refine coarse.tif -o fine.ome.tif",
        "segment": "submit shapes segment scan.tif --mask mask.tif --model job "
        "-o labels.ome.tif",
    }
    tasks: dict[str, tuple[Callable[..., int], Callable[..., SubmitRequest], str]] = {
        "complete": (commands.complete, _complete, "Complete a shape on a cluster."),
        "refine": (
            commands.refine,
            _refine,
            "Increase the resolution of a shape on a cluster.",
        ),
        "segment": (
            commands.segment,
            _segment,
            "Segment a scan inside a mask, or by a threshold, on a cluster.",
        ),
    }
    examples = {
        name: with_examples(f"{line} --queue slurm", f"{line} --profile mine")
        for name, line in lines.items()
    }
    app = App(name="shapes", help_epilogue=examples["refine"])
    for name, (verb, request, text) in tasks.items():
        app.command(
            submitted(verb, request),
            name=name,
            help=text,
            help_epilogue=examples[name],
        )
    return app


shapes = _build_shapes()
