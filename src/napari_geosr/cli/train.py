"""``napari-geosr train METHOD``: one command per learning method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

from cyclopts import App, Parameter

from napari_geosr.cli.commands import EXAMPLES
from napari_geosr.cli.kit.console import print_json, print_notes
from napari_geosr.cli.kit.help_pages import GroupedFormatter, with_examples
from napari_geosr.cli.kit.options import AS_FLAGS, Json, SettingsPath
from napari_geosr.cli.kit.run_jobs import RUN_FLAGS, start
from napari_geosr.core.config import Config
from napari_geosr.core.documents import load_yaml, read_document
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import register
from napari_geosr.jobs.naming import taken_names
from napari_geosr.operations.ganrec import NEEDS as GANREC_NEEDS
from napari_geosr.operations.ganrec import PURPOSE as GANREC_PURPOSE
from napari_geosr.operations.ganrec import GanrecConfig, GanrecJob
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.pinn_sim import NEEDS as PINN_SIM_NEEDS
from napari_geosr.operations.pinn_sim import PURPOSE as PINN_SIM_PURPOSE
from napari_geosr.operations.pinn_sim import PinnSimConfig, PinnSimJob
from napari_geosr.operations.shapes import (
    ShapeTrainJob,
    shape_config_class,
    shape_needs,
    shape_purposes,
)
from napari_geosr.operations.train import (
    TrainingConfig,
    TrainJob,
    config_class,
    needs,
    purposes,
)
from napari_geosr.operations.train.fine_tune import NETWORK_FIELDS, fine_tune_settings
from napari_geosr.operations.train.from_projections import (
    METHODS_FROM_PROJECTIONS,
    ProjectionsTrainJob,
    ScansConfig,
)
from napari_geosr.operations.train.name import proposed_name, without_default_name
from napari_geosr.operations.train.noise import noise_warnings

#: Examples in the help of a method, after ``train METHOD``.
_EXAMPLES = {
    "adapt": (
        "-m ct-denoise --source scan.tif -o job",
        "-m ct-denoise --source scan1.tif --second scan2.tif -o job",
    ),
    "cyclegan": (
        "--source noisy.tif --target clean_elsewhere.tif -o job",
        "--source coarse.tif --target fine.tif --upscale-factor 4 -o job",
    ),
    "ddpm": (
        "--source scan1.tif,scan2.tif -o prior",
        "--source scan.tif -o prior --dimensions 3D --steps 20000 --detach",
    ),
    "srdiff": (
        "--source low.ome.tif --target high.ome.tif --upscale-factor 2 -o job",
        "--source noisy.tif --target clean.tif -o job --steps 20000 --detach",
    ),
    "ganrec": (
        "--projections few.h5 --rows 100,110 -o job",
        "--projections few.h5 --rows 100,110 -o job --detach",
    ),
    "neighbor2neighbor": (
        "--source scan.tif -o job",
        "--source scan.tif -o job --steps 5000 --detach",
    ),
    "noise2inverse": (
        "--projections scan.h5 -o job --restore clean.ome.tif",
        "--source odd.tif,even.tif -o job",
    ),
    "noise2noise": (
        "--source scan1.tif --target scan2.tif -o job",
        "--source scan1.tif --target scan2.tif -o job --steps 3000 --detach",
    ),
    "noise2void": (
        "--source scan.tif -o job",
        "--source scan.tif -o job --steps 5000 --detach",
    ),
    "pinn-sim": (
        "--frames raw.ome.tif -o job",
        "--frames raw.ome.tif --apply-to second.ome.tif -o job --detach",
    ),
    "pix2pix": (
        "--source low.ome.tif --target high.ome.tif -o job",
        "--source low.ome.tif --target high.ome.tif -o job --steps 5000 --detach",
    ),
    "ptdr": (
        "--source scan.tif --target painted.tif --start-from prior -o job",
        "--source scan.tif --target painted.tif --classes 3 -o job",
    ),
    "shape-completion": (
        "--source skulls/complete_*.tif --name skulls -o job",
        "--simulated skulls --steps 800 --name simulated -o job",
    ),
    "shape-sr": (
        "--source fine1.tif,fine2.tif --name mine -o job",
        "--simulated mixed --name simulated -o job --detach",
    ),
    "shell-completion": (
        "--source skulls/complete_*.tif --name skulls -o job",
        "--simulated skulls --number 150 --name simulated -o job",
    ),
    "sparse-segmentation": (
        "--source scan.tif --target labels.tif --n-labels 2 --name phases -o job",
        "--source a.tif,b.tif --target a_labels.tif,b_labels.tif --n-labels 3 -o job",
    ),
    "supervised": (
        "--source noisy.tif --target clean.tif -o job",
        "--projections whole.h5 --counts 100 -o job",
    ),
    "tomogan": (
        "--projections whole.h5 --exposure 0.1 -o job",
        "--source noisy.tif --target clean.tif -o job",
    ),
}


def examples_of(method: str) -> tuple[str, ...]:
    """Return the examples for a method, without the program's name."""
    return tuple(f"train {method} {line}" for line in _EXAMPLES[method])


def _list_methods(
    *,
    list: Annotated[  # noqa: A002  # the name shown in the help
        bool,
        Parameter(negative="", help="List the methods and the data that each needs."),
    ] = False,
    json: Json = False,
) -> int:
    """Train a model on your own data: choose a method, or list them with --list."""
    known = {
        **needs(),
        **_needs_of_shapes(),
        "ganrec": GANREC_NEEDS,
        "pinn-sim": PINN_SIM_NEEDS,
    }
    if not list:
        lines = "\n".join(_need_lines(known, indent=2))
        raise ConfigError(
            f"Choose a method that suits your data:\n{lines}\nThen run: napari-geosr "
            "train METHOD --help"
        )
    if json:
        print_json({"methods": known})
        return 0
    print("\n".join(_need_lines(known)))
    return 0


def _need_lines(known: Mapping[str, str], indent: int = 0) -> Iterator[str]:
    """Yield lines of up to 79 columns that state which data each method needs."""
    for name in sorted(known):
        summary = summary_of(name, known[name])
        first, *more = wrap(summary, 79 - indent - 21, break_on_hyphens=False)
        yield f"{'':{indent}}{name:<19}  {first}"
        yield from (f"{'':{indent + 21}}{part}" for part in more)


def summary_of(method: str, need: str) -> str:
    """Describe in one sentence what a method's models do and which data are needed."""
    known = {
        **purposes(),
        **{name.replace("_", "-"): text for name, text in shape_purposes().items()},
        "ganrec": GANREC_PURPOSE,
        "pinn-sim": PINN_SIM_PURPOSE,
    }
    purpose = known.get(method, "")
    return f"{purpose}: needs {need}." if purpose else f"Needs {need}."


def formatter_of(kind: type[TrainingConfig]) -> GroupedFormatter:
    """Create the formatter of a method's help, which omits settings without effect."""
    unused = (f"--{name.replace('_', '-')}" for name in kind.unused_settings)
    return GroupedFormatter(omitted=unused)


def command_of(method: str) -> Callable[..., int]:
    """Create the command of a method; its flags are the fields of its config."""
    kind = config_class(method)

    def train(
        *,
        out: Path,
        config: Any = None,
        reading: InputConfig | None = None,
        scans: ScansConfig | None = None,
        settings: Path | None = None,
        detach: bool = False,
        prepare: bool = False,
        json: bool = False,
    ) -> int:
        job = training_job(method, config, reading, scans, settings)
        if (prepare or detach) and isinstance(job, TrainJob):
            sources = job.check()["source"]
            print_notes(noise_warnings(method, job.training, sources))
        return start(_create(out, job), detach=detach, prepare=prepare, json=json)

    train.__doc__ = summary_of(method, needs()[method])
    # Annotations are set here because the method's config class is known only at run
    # time.
    train.__annotations__ = {
        "out": Annotated[
            Path, Parameter(alias="-o", help="Folder for the job; must not exist yet.")
        ],
        "config": Annotated[kind | None, AS_FLAGS],
        "reading": Annotated[InputConfig | None, AS_FLAGS],
        "settings": SettingsPath,
        **RUN_FLAGS,
        "return": int,
    }
    if method in METHODS_FROM_PROJECTIONS:
        train.__annotations__["scans"] = Annotated[ScansConfig | None, AS_FLAGS]
    else:
        train.__annotations__["scans"] = Annotated[None, Parameter(parse=False)]
    return train


def training_job(
    method: str,
    config: Config | None,
    reading: InputConfig | None,
    scans: ScansConfig | None,
    settings: Path | None,
) -> TrainJob | ProjectionsTrainJob:
    """Create a job from flags and a settings file, and validate it.

    Raises
    ------
    GeoSRError
        If a setting is invalid or the data cannot be used.
    """
    if scans is None:
        return _job_from_volumes(method, config, reading, settings)
    if scans.projections is None:
        scans.check_for(method)
    return _job_from_scans(method, config, scans, settings)


def _needs_of_shapes() -> dict[str, str]:
    """Return which data each method for shapes needs, keyed by its command's name."""
    return {name.replace("_", "-"): need for name, need in shape_needs().items()}


def shape_command_of(method: str) -> Callable[..., int]:
    """Create the command of a method for shapes."""
    kind = shape_config_class(method)

    def train(
        *,
        out: Path,
        config: Config | None = None,
        detach: bool = False,
        prepare: bool = False,
        json: bool = False,
    ) -> int:
        job = shape_job(method, config)
        return start(_create(out, job), detach=detach, prepare=prepare, json=json)

    name = method.replace("_", "-")
    train.__doc__ = summary_of(name, shape_needs()[method])
    train.__annotations__ = {
        "out": Annotated[
            Path, Parameter(alias="-o", help="Folder for the job; must not exist yet.")
        ],
        "config": Annotated[kind | None, AS_FLAGS],
        **RUN_FLAGS,
        "return": int,
    }
    return train


def shape_job(method: str, config: Config | None) -> ShapeTrainJob:
    """Create a job of a method for shapes from flags, and validate it.

    Raises
    ------
    GeoSRError
        If a setting is invalid or the data cannot be used.
    """
    given = {} if config is None else config.model_dump(exclude_unset=True)
    job = ShapeTrainJob.from_values({"method": method, "training": given})
    job = job.with_absolute_paths()
    job.check()
    return job


def _create(
    out: Path,
    job: TrainJob | ProjectionsTrainJob | GanrecJob | PinnSimJob | ShapeTrainJob,
) -> JobFolder:
    """Create the folder of a job and add the job to the list."""
    folder = JobFolder.create(out, job.to_values(), name=job.training.name)
    register(folder)
    return folder


def _job_from_volumes(
    method: str,
    config: Config | None,
    reading: InputConfig | None,
    settings: Path | None,
) -> TrainJob:
    kind = config_class(method)
    given = {} if config is None else config.model_dump(exclude_unset=True)
    stored: AnyDict = {}
    if settings is not None:
        saved = TrainJob.from_yaml_file(settings, method)
        stored = without_default_name(saved.training.model_dump(exclude_unset=True))
        reading = reading or saved.reading
    values = stored | given
    if values.get("from_model") and not values.keys() & NETWORK_FIELDS:
        values = fine_tune_settings(values["from_model"], method) | values
    if "name" not in values:
        sources = values.get("source") or ()
        values["name"] = proposed_name(method, sources, taken_names())
    job = TrainJob(
        method=method,
        training=kind.create(**values),
        reading=reading or InputConfig(),
    ).with_absolute_paths()
    job.check()
    return job


def ganrec(
    *,
    out: Path,
    config: GanrecConfig | None = None,
    settings: Path | None = None,
    detach: bool = False,
    prepare: bool = False,
    json: bool = False,
) -> int:
    """Fit networks to the projections of one object; the result is a volume."""
    folder = _create(out, ganrec_job(config, settings))
    return start(folder, detach=detach, prepare=prepare, json=json)


ganrec.__annotations__ = {
    "out": Annotated[
        Path, Parameter(alias="-o", help="Folder for the job; must not exist yet.")
    ],
    "config": Annotated[GanrecConfig | None, AS_FLAGS],
    "settings": SettingsPath,
    **RUN_FLAGS,
    "return": int,
}


def ganrec_job(config: GanrecConfig | None, settings: Path | None) -> GanrecJob:
    """Create a job from flags and a settings file, and validate it.

    Raises
    ------
    GeoSRError
        If a setting is invalid or the data cannot be used.
    """
    given = {} if config is None else config.model_dump(exclude_unset=True)
    stored: AnyDict = {} if settings is None else _training_section(settings)
    job = GanrecJob.from_values({"training": stored | given})
    job.check()
    return job


def pinn_sim(
    *,
    out: Path,
    config: PinnSimConfig | None = None,
    reading: InputConfig | None = None,
    settings: Path | None = None,
    detach: bool = False,
    prepare: bool = False,
    json: bool = False,
) -> int:
    """Fit a network to frames of structured illumination, for use on other frames."""
    folder = _create(out, pinn_sim_job(config, reading, settings))
    return start(folder, detach=detach, prepare=prepare, json=json)


pinn_sim.__annotations__ = {
    **ganrec.__annotations__,
    "config": Annotated[PinnSimConfig | None, AS_FLAGS],
    "reading": Annotated[InputConfig | None, AS_FLAGS],
}


def pinn_sim_job(
    config: PinnSimConfig | None, reading: InputConfig | None, settings: Path | None
) -> PinnSimJob:
    """Create a job from flags and a settings file, and validate it.

    Raises
    ------
    GeoSRError
        If a setting is invalid or the frames cannot be used.
    """
    given = {} if config is None else config.model_dump(exclude_unset=True)
    stored: AnyDict = {} if settings is None else _training_section(settings)
    job = PinnSimJob.from_values({"training": stored | given})
    job = job.model_copy(update={"reading": reading or InputConfig()})
    job.check()
    return job


def _training_section(settings: Path) -> AnyDict:
    """Read the training settings from a job's ``config.yaml``."""
    try:
        values = load_yaml(read_document(settings))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(
            f"{settings} is not a readable YAML config: {error}"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{settings} contains no settings: lines such as 'name: value' were "
            "expected."
        )
    training = values.get("training", values)
    if not isinstance(training, dict):
        raise ConfigError(
            f"{settings}: the section 'training' must contain lines such as "
            "'name: value'."
        )
    return {k: v for k, v in training.items() if k != "schema_version"}


def _job_from_scans(
    method: str, config: Config | None, scans: ScansConfig, settings: Path | None
) -> ProjectionsTrainJob:
    """Create a job that trains on projections."""
    given = {} if config is None else config.model_dump(exclude_unset=True)
    stored = (
        {} if settings is None else without_default_name(_training_section(settings))
    )
    values = {k: v for k, v in stored.items() if k not in ("source", "target")} | given
    if values.get("from_model") and not values.keys() & NETWORK_FIELDS:
        values = fine_tune_settings(values["from_model"], method) | values
    if "name" not in values and scans.projections is not None:
        values["name"] = proposed_name(method, [scans.projections], taken_names())
    job = ProjectionsTrainJob.create_for(method, scans, values)
    job.check()
    return job


def _build() -> App:
    app = App(
        name="train",
        help_epilogue=with_examples(*EXAMPLES["train"]),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    app.default(_list_methods)
    for method, need in needs().items():
        app.command(
            command_of(method),
            name=method,
            help=summary_of(method, need),
            help_epilogue=with_examples(*examples_of(method)),
            help_formatter=formatter_of(config_class(method)),
        )
    for method, need in shape_needs().items():
        app.command(
            shape_command_of(method),
            name=(name := method.replace("_", "-")),
            help=summary_of(name, need),
            help_epilogue=with_examples(*examples_of(name)),
            help_formatter=formatter_of(shape_config_class(method)),
        )
    app.command(
        ganrec,
        name="ganrec",
        help=summary_of("ganrec", GANREC_NEEDS),
        help_epilogue=with_examples(*examples_of("ganrec")),
        # These options apply only to back-projection.
        help_formatter=GroupedFormatter(omitted=("--filter", "--padding")),
    )
    app.command(
        pinn_sim,
        name="pinn-sim",
        help=summary_of("pinn-sim", PINN_SIM_NEEDS),
        help_epilogue=with_examples(*examples_of("pinn-sim")),
    )
    return app


app = _build()
