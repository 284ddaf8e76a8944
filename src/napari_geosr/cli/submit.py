"""``napari-geosr submit VERB …``: run a command with its arguments in a queue."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

from cyclopts import App

from napari_geosr import io
from napari_geosr.cli import train as train_commands
from napari_geosr.cli.kit.console import print_json
from napari_geosr.cli.kit.elsewhere import on_any_host
from napari_geosr.cli.kit.help_pages import with_examples
from napari_geosr.cli.kit.options import AS_FLAGS, settings_from
from napari_geosr.cli.kit.queue_options import SubmitOptions
from napari_geosr.cli.kit.run_plan import rows_for_job
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.cli.measure import measure as measure_command
from napari_geosr.cli.reconstruct import merge_settings
from napari_geosr.cli.reconstruct import reconstruct as reconstruct_command
from napari_geosr.cli.restore import restore as restore_command
from napari_geosr.cli.study import study_projections as study_command
from napari_geosr.core.addresses import as_address, has_secrets, without_secrets
from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError, FileError, JobError
from napari_geosr.core.types import AnyDict
from napari_geosr.io.suffixes import stem_of
from napari_geosr.jobs import index, submission
from napari_geosr.jobs.data import removed_on_failure
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import Job
from napari_geosr.jobs.profiles import Profile
from napari_geosr.jobs.queues import load_queue
from napari_geosr.jobs.queues._scripts import plain_name
from napari_geosr.operations.ganrec import GanrecConfig
from napari_geosr.operations.inputs import InputConfig, check_not_source
from napari_geosr.operations.measure import MeasureConfig
from napari_geosr.operations.measure import files as report_files
from napari_geosr.operations.measure.job import MeasureInput, MeasureJob
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.reconstruct.config import ReconstructFields
from napari_geosr.operations.reconstruct.inputs import ProjectionsInput
from napari_geosr.operations.reconstruct.job import ReconstructJob
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.job import RestoreInput, RestoreJob
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.job import StudyInput, StudyJob
from napari_geosr.operations.train import needs
from napari_geosr.operations.train.from_projections import ScansConfig

AnyConfig = TypeVar("AnyConfig", bound=Config)

#: Arguments of the commands that do not apply to jobs or cannot be done in parts.
#: Jobs that measure always write labels, because the dock shows them.
_LEFT_OUT = (
    "average",
    "check_consistency",
    "detach",
    "dry_run",
    "labels",
    "others",
    "prepare",
)
#: Settings that give a file, or something inside a file, as text.
_FILES_AS_TEXT = ("angles", "flats", "darks")


@dataclass(frozen=True)
class SubmitRequest:
    """A job to be run elsewhere.

    Attributes
    ----------
    job : Job
        Its settings, already checked.
    name : str
        Name of the job.
    out : Path
        Path of the output; for training, the folder of the job.
    folder : Path or None
        Folder of the job, if the kind of job determines it.
    overwrite, resume : bool
        Whether a complete or partial file may already exist at `out`.
    """

    job: Job
    name: str
    out: Path
    folder: Path | None = None
    is_volume: bool = False
    overwrite: bool = False
    resume: bool = False


def _command(
    verb: Callable[..., int], request: Callable[..., SubmitRequest]
) -> Callable[..., int]:
    """Create a command with the arguments of `verb` and the options of a queue.

    Parameters
    ----------
    verb : callable
        The command that runs on this computer.
    request : callable
        Turns the same arguments into a job.
    """
    hints = get_type_hints(verb, include_extras=True)
    known = inspect.signature(verb).parameters.values()
    parameters = [p for p in known if p.name not in _LEFT_OUT]

    def command(
        *args: object,
        where: SubmitOptions | None = None,
        json: bool = False,
        **kwargs: object,
    ) -> int:
        return _submit(request(*args, **kwargs), where or SubmitOptions(), json=json)

    extra = inspect.Parameter("where", inspect.Parameter.KEYWORD_ONLY, default=None)
    command.__signature__ = inspect.Signature([*parameters, extra])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: hints[p.name] for p in parameters} | {
        "where": Annotated[SubmitOptions | None, AS_FLAGS],
        "return": int,
    }
    command.__doc__ = verb.__doc__
    return on_any_host(command)


def _submit(request: SubmitRequest, where: SubmitOptions, *, json: bool) -> int:
    """Create the job and submit it, or print what would be done."""
    profile = where.resolve()
    _check_output(request, where.dry_run)
    folder = _folder_of(request, where)
    script = submission.script_of(request.name, folder, profile)
    title = load_queue(profile.queue).title
    if where.dry_run:
        plan = _plan(request, folder, profile, title)
        if isinstance(request.job, RestoreJob):
            plan |= rows_for_job(request.job, profile)
        if json:
            print_json({**plan, "script": script})
        else:
            print("\n".join(f"{name:<10} {value}" for name, value in plan.items()))
            print(f"\n{script}", end="")
        return 0
    job = JobFolder.create(folder, request.job.to_values(), name=request.name)
    try:
        with removed_on_failure(job.path):
            number = submission.submit(job, profile)
    except BaseException:
        index.forget(job.path)
        raise
    if json:
        print_json(
            {
                "job": str(job.path),
                "queue": profile.queue,
                "number": number,
                "output": str(request.out),
            }
        )
        return 0
    if profile.queue == submission.LOCAL:
        print(f"Started {request.name} as process {number}: {job.path}")
    else:
        print(f"Submitted {request.name} as {title} job {number}: {job.path}")
    suggest_next(f"jobs watch {quoted(job.path)}")
    return 0


def _plan(
    request: SubmitRequest, folder: Path, profile: Profile, title: str
) -> dict[str, str]:
    """Describe what would be done, as text for users."""
    values = request.job.to_values()
    resources = [f"{profile.nodes} node{'s' if profile.nodes > 1 else ''}"]
    resources.append(f"{profile.cores} cores")
    if profile.gpus:
        resources.append(f"{profile.gpus} GPU{'s' if profile.gpus > 1 else ''}")
    resources.append(profile.memory or "the cluster's default memory")
    plan = {
        "job": f"{values['operation']}: {request.name}",
        "folder": str(folder),
        "output": str(request.out),
        "queue": title,
    }
    if profile.queue == submission.LOCAL:
        return plan
    plan["resources"] = ", ".join(resources)
    plan["walltime"] = (
        f"{profile.walltime}; {profile.warning_seconds} s before its end the job saves "
        "its finished work, is resubmitted and resumes"
    )
    return plan


def _check_output(request: SubmitRequest, dry_run: bool) -> None:
    """Refuse an output that cannot be written or that another job is writing."""
    if request.is_volume:
        # A dry run removes nothing.
        continues = request.resume or dry_run
        nbytes = 0
        if isinstance(request.job, RestoreJob) and not request.resume:
            nbytes = request.job.output_bytes()
        io.check_output(request.out, request.overwrite, nbytes, continues=continues)
    elif request.folder is None and not request.out.parent.is_dir():
        raise FileError(
            f"{request.out.parent} does not exist, so {request.out.name} cannot be "
            "written there. Create the folder first, or choose another one."
        )
    for other in index.list_jobs():
        if not other.is_alive or other.path == request.folder:
            continue
        if JobFolder(other.path).values().get("out") == str(request.out):
            raise JobError(
                f"{other.name} ({other.path}) already writes {request.out}. Stop it "
                "first, or choose another output."
            )


def _folder_of(request: SubmitRequest, where: SubmitOptions) -> Path:
    """Choose a new folder for the job, by default next to its output."""
    if request.folder is not None:
        if where.job_folder is not None:
            raise ConfigError(
                "The output of training is the folder of its job. Omit --job-folder."
            )
        return request.folder
    if where.job_folder is not None:
        return absolute_path(where.job_folder)
    first = path = request.out.with_name(f"{request.name}.job")
    number = 1
    while path.exists():
        number += 1
        path = first.with_name(f"{request.name}-{number}.job")
    return path


# Absolute paths, because a job runs in another folder


def absolute_path(path: Path) -> Path:
    """Make a path absolute; keep links, which nodes may resolve differently.

    URLs are not changed.

    Raises
    ------
    ConfigError
        If a URL contains credentials, which would be visible in the job's settings.
    """
    if (address := as_address(path)) is not None:
        if has_secrets(address):
            raise ConfigError(
                f"{without_secrets(address)} was given with a user name, a password or "
                "a query, which would be visible in the job's settings. Omit them and "
                "store them where the library reads them (~/.aws, ~/.config/fsspec)."
            )
        return path
    return path.expanduser().absolute()


def _absolute(config: AnyConfig) -> AnyConfig:
    """Make the paths in settings absolute."""
    changes: AnyDict = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Path):
            changes[name] = absolute_path(value)
        elif name in _FILES_AS_TEXT and isinstance(value, str) and Path(value).exists():
            changes[name] = str(absolute_path(Path(value)))
    return config.model_copy(update=changes)


def _absolute_model(name: str) -> str:
    """Make a path absolute; the name of a model in the catalogue is kept."""
    if name in {entry.name for entry in catalogue.list_models()}:
        return name
    path = Path(name).expanduser()
    return str(absolute_path(path)) if path.exists() else name


# One function for each verb


def _restore(
    input: Path,  # noqa: A002  # as in the command
    *,
    out: Path,
    config: RestoreConfig | None = None,
    reading: InputConfig | None = None,
    settings: Path | None = None,
    resume: bool = False,
    strict: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    merged = settings_from(RestoreConfig, config, settings)
    models = {"model": _absolute_model(merged.model)}
    ensemble = tuple(map(_absolute_model, merged.ensemble_with))
    merged = merged.model_copy(update={**models, "ensemble_with": ensemble})
    out = absolute_path(out)
    data = RestoreInput(
        volume=absolute_path(input), reading=reading or InputConfig(), whole=True
    )
    check_not_source(data.open(), out)
    name = plain_name(stem_of(out))
    job = RestoreJob(
        name=name,
        data=data,
        settings=merged,
        out=out,
        replaces=_modified(out) if overwrite else 0,
        look=True,
        strict=strict,
        workers=workers,
    )
    job.check()
    return SubmitRequest(
        job, name, out, is_volume=True, overwrite=overwrite, resume=resume
    )


def _modified(out: Path) -> int:
    try:
        return out.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _reconstruct(
    projections: Path,
    *,
    out: Path,
    config: ReconstructFields | None = None,
    special: Config | None = None,
    reading: ProjectionsInput | None = None,
    settings: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> SubmitRequest:
    out = absolute_path(out)
    name = plain_name(stem_of(out))
    job = ReconstructJob(
        name=name,
        projections=absolute_path(projections),
        reading=_absolute(reading or ProjectionsInput()),
        settings=merge_settings(config, special, settings),
        out=out,
        replaces=_modified(out) if overwrite else 0,
    )
    job.check()
    return SubmitRequest(
        job, name, out, is_volume=True, overwrite=overwrite, resume=resume
    )


def _measure(
    input: Path,  # noqa: A002  # as in the command
    *,
    out: Path,
    reference: Path | None = None,
    mask: Path | None = None,
    deviation: Path | None = None,
    graph_distance: float | None = None,
    config: MeasureConfig | None = None,
    reading: InputConfig | None = None,
    settings: Path | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    out = absolute_path(out)
    names = ["input"] if reference is None else ["input", "reference"]
    files = report_files.plan(out, names, labels=True)
    report_files.check(files, overwrite=overwrite)
    given = {"reference": reference, "mask": mask, "deviation": deviation}
    inputs = {
        role: MeasureInput(volume=absolute_path(path), belongs_to_data=True)
        for role, path in given.items()
        if path is not None
    }
    name = plain_name(out.name)
    data = MeasureInput(volume=absolute_path(input), reading=reading or InputConfig())
    job = MeasureJob(
        name=name,
        data=data,
        settings=settings_from(MeasureConfig, config, settings),
        out=out,
        graph_distance=graph_distance,
        **inputs,
    )
    job.check()
    report_files.check_space(files, data.open())
    return SubmitRequest(job, name, out, overwrite=overwrite)


def _study(
    projections: Path,
    *,
    out: Path,
    reference: Path | None = None,
    mask: Path | None = None,
    config: StudyConfig | None = None,
    reading: ProjectionsInput | None = None,
    settings: Path | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    if overwrite:
        raise ConfigError(
            "A submitted study resumes the study in its folder, so it cannot start by "
            "deleting it. Omit --overwrite and choose a new folder."
        )
    out = absolute_path(out)
    data = StudyInput(
        projections=absolute_path(projections),
        reading=_absolute(reading or ProjectionsInput()),
        reference=None if reference is None else absolute_path(reference),
        mask=None if mask is None else absolute_path(mask),
    )
    merged = settings_from(StudyConfig, config, settings)
    job = StudyJob(data=data, settings=merged, out=out)
    job.check()
    return SubmitRequest(job, plain_name(out.name), out)


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


restore = _command(restore_command, _restore)
reconstruct = _command(reconstruct_command, _reconstruct)
measure = _command(measure_command, _measure)


def _build_study() -> App:
    line = "submit study projections scan.h5 -o study"
    end = with_examples(f"{line} --queue slurm", f"{line} --profile gricad")
    app = App(name="study", help_epilogue=end)
    command = _command(study_command, _study)
    app.command(command, name="projections", help_epilogue=end)
    return app


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
            _command(train_commands.command_of(method), _train(method)),
            name=method,
            help=f"Needs {need}.",
            help_epilogue=_on_a_queue(method),
        )
    app.command(
        _command(train_commands.ganrec, _ganrec),
        name="ganrec",
        help="Fit networks to the projections of one object.",
        help_epilogue=_on_a_queue("ganrec"),
    )
    return app


def _on_a_queue(method: str) -> str:
    """Examples of a training on a cluster, for the help."""
    line = f"submit {train_commands.examples_of(method)[0]}"
    return with_examples(f"{line} --queue slurm", f"{line} --profile mine")


study = _build_study()
train = _build_train()
