"""Train a network by a learning method and write it as a model bundle."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_geosr.core.config import Config, load_yaml
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    FileError,
    ModelError,
    VolumeError,
)
from napari_geosr.core.steps import (
    JudgingStarted,
    ShouldStop,
    StageStarted,
    Step,
    Warned,
    never_stop,
    run_to_end,
)
from napari_geosr.learning import checkpoint
from napari_geosr.learning.architecture import remark_on
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.labels import check_labels
from napari_geosr.learning.loss_titles import loss_title
from napari_geosr.learning.methods import METHODS, config_class, needs
from napari_geosr.operations.inputs import InputConfig, open_to_learn, to_learn
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.train.checks import (
    check_contents,
    check_country,
    check_different,
    check_slices,
    doubts_of_reading,
)
from napari_geosr.operations.train.correlated_noise import correlated_noise
from napari_geosr.operations.train.fine_tune import OF_THE_NETWORK, fine_tune_settings
from napari_geosr.operations.train.finer import finer_targets
from napari_geosr.operations.train.in_memory import is_in_memory, name_in_memory
from napari_geosr.operations.train.inputs import note_inputs, refuse_other_inputs
from napari_geosr.operations.train.name import proposed_name
from napari_geosr.operations.train.noise import measured_steps
from napari_geosr.physics.simulated import is_simulated, open_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.method import Method
    from napari_geosr.learning.patches import Patches
    from napari_geosr.learning.preview import SlicePreview
    from napari_geosr.models.bundle import Model as BundledModel
    from napari_geosr.operations.train.adapt.run import Adaptation


__all__ = [
    "TrainJob",
    "TrainingConfig",
    "config_class",
    "loss_title",
    "needs",
    "networks",
    "open_roles",
    "roles",
    "train",
    "train_steps",
]


_CHECKPOINTS = "checkpoints"
#: Sources of which the noise is measured before a training that depends on it.
_NOISE_MEASURED = 4


class TrainJob(Config):
    """All that a training job needs to be done, here or elsewhere."""

    method: str
    """Name of the learning method."""
    training: TrainingConfig
    """Settings of the method."""
    reading: InputConfig = InputConfig()
    """How the files are opened."""

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> TrainJob:
        """Validate what ``config.yaml`` held, with the method's own settings."""
        values = dict(values)
        kind = config_class(str(values.get("method", "")))
        training = kind.from_mapping(values.get("training") or {})
        reading = InputConfig.from_mapping(values.get("reading") or {})
        return cls(method=values["method"], training=training, reading=reading)

    @classmethod
    def from_yaml_file(cls, path: Path, method: str) -> TrainJob:
        """Read a job's ``config.yaml``, or settings of `method` alone.

        Raises
        ------
        ConfigError
            If the file is bad, or made for another method.
        """
        try:
            values = load_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise ConfigError(
                f"{path} is not a readable YAML config: {error}"
            ) from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} holds no settings: a mapping was expected.")
        values.pop("schema_version", None)
        if "training" not in values:
            values = {"method": method, "training": values}
        if values.get("method") != method:
            raise ConfigError(
                f"{path} holds settings of {values.get('method')!r}, not of {method!r}."
            )
        return cls.from_values(values)

    def with_absolute_paths(self) -> TrainJob:
        """Return the job with paths that hold in any working folder."""
        roles = {
            name: tuple(
                path
                if is_simulated(path) or is_in_memory(path)
                else path.expanduser().resolve()
                for path in value
            )
            for name in type(self.training).model_fields
            if isinstance(value := getattr(self.training, name), tuple)
            and value
            and all(isinstance(path, Path) for path in value)
        }
        start = {"from_model": _found_anywhere(self.training.from_model)}
        training = self.training.model_copy(update=roles | start)
        return self.model_copy(update={"training": training})

    def check_settings(self) -> None:
        """Refuse settings that are wrong whatever is in the files; opens none.

        Raises
        ------
        ConfigError
            With one sentence.
        """
        METHODS.load(self.method).Method.check(self.training)
        check_country(self.training.country)

    def check(
        self, in_memory: Mapping[Path, Volume] | None = None
    ) -> dict[str, list[Volume]]:
        """Refuse what can be seen to be wrong before a process is started.

        Parameters
        ----------
        in_memory : mapping of Path to Volume, optional
            Volumes that were given themselves, by their entry in the settings.

        Returns
        -------
        dict of str to list of Volume
            What was opened for it, by role, for :func:`train_steps`.

        Raises
        ------
        GeoSRError
            With one sentence.
        """
        self.check_settings()
        method = METHODS.load(self.method).Method(self.training)
        method.network_kwargs()  # settings that the network has not got
        volumes = open_roles(self, method, in_memory)
        if method.one_object:
            check_different(volumes["source"])
        check_slices(self.training, volumes["source"])
        if method.paired and "target" in volumes:
            self._check_pairs(method, volumes)
        check_contents(volumes)
        if method.labels > 1:
            check_labels(volumes["target"], method.labels)
        return volumes

    def _check_pairs(
        self, method: Method, volumes: Mapping[str, Sequence[Volume]]
    ) -> None:
        from napari_geosr.learning.pairs import check_shapes

        for source, target in zip(volumes["source"], volumes["target"], strict=True):
            if source.source is not None and source.source == target.source:
                raise ConfigError(
                    f"{source.title} is source and target: the same file has the same "
                    "noise, so there is nothing to learn from it."
                )
            ndim = self.training.ndim
            try:
                check_shapes(source, target, method.upscale_factor, ndim)
            except VolumeError as error:
                how = finer_targets(self.method, self.training, source, target)
                raise VolumeError(f"{error} {how}".strip()) from error

    def to_values(self) -> dict[str, Any]:
        """What :meth:`from_values` reads."""
        return {
            "operation": "train",
            "method": self.method,
            "training": self.training.model_dump(mode="json"),
            "reading": self.reading.model_dump(mode="json"),
        }


def _found_anywhere(model: str | None) -> str | None:
    """The name of a known model as it is, the path of another one made absolute."""
    if not model or model in {entry.name for entry in catalogue.list_models()}:
        return model
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def roles(method: str) -> tuple[str, ...]:
    """Return the sets of volumes that a method reads, such as ``source``."""
    names: tuple[str, ...] = METHODS.load(method).Method.roles
    return names


def networks() -> list[str]:
    """Return the names of the networks that can be trained."""
    from napari_geosr.networks import NETWORKS

    return NETWORKS.names()


def train_steps(
    job: TrainJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
    opened: Mapping[str, list[Volume]] | None = None,
) -> Generator[Step, None, Path | None]:
    """Train, with checkpoints and the result in `folder`, or go on where it stopped.

    Parameters
    ----------
    folder : Path
        Gets ``checkpoints/`` and, at the end, ``result/NAME`` with the bundle.
    keep_unfinished : callable
        Asked when `should_stop` ended it: whether to judge the model and write the
        bundle all the same.
    opened : mapping of str to list of Volume, optional
        What :meth:`TrainJob.check` has opened, so that it is not opened twice.

    Returns
    -------
    Path or None
        Of the bundle; None if `should_stop` ended it before the last step, or while the
        model was judged: the same call then trains to the last step, if that was not
        done, and judges anew.

    Raises
    ------
    GeoSRError
        With one sentence; what was learned up to then is in the last checkpoint.
    """
    from napari_geosr.inference.device import pick_device

    device = pick_device(job.training.device)
    yield StageStarted(message="Opening the data")
    method: Method = METHODS.load(job.method).Method(job.training)
    method.check(job.training)
    opened = opened or open_roles(job, method)
    patches = yield from _patches_steps(job, method, folder, opened)

    from napari_geosr.learning.energy import Meter
    from napari_geosr.learning.trainer import Trainer

    meter = Meter(job.training.country)
    trainer = Trainer(
        method,
        patches,
        folder / _CHECKPOINTS,
        _preview(patches, method),
        device,
        meter.watts,
    )
    if not trainer.resume() and job.training.from_model:
        trainer.start_from(_weights_of(job.training, method))
        if remark := remark_on(trainer.average):
            yield Warned(message=f"{job.training.from_model}: {remark}")
    writes = trainer.accelerator.is_main_process
    if writes:
        note_inputs(folder, opened)
        meter.go_on(folder / "energy.json", trainer.step)
    adaptation: Adaptation | None = None
    with meter:
        if method.stops_by_risk:
            from napari_geosr.operations.train.adapt.run import adapting_steps

            start = _weights_of(job.training, method)
            adaptation = yield from adapting_steps(trainer, start, should_stop)
            finished = adaptation.finished
        else:
            finished = yield from trainer.run(should_stop)
    if not writes or not (finished or (trainer.step and keep_unfinished())):
        return None
    if adaptation is not None and finished:
        kept = adaptation.kept_instead(job.training)
        if kept is not None:
            yield Warned(message=adaptation.why_kept(job.training))
            return kept
    yield JudgingStarted(message="Judging the model")
    from napari_geosr.operations.train.export import export_steps

    result = folder / "result" / job.training.name
    steps = export_steps(
        result,
        job,
        trainer,
        patches,
        meter,
        opened,
        adaptation if finished else None,
        # Who asked for the model as it is wants it judged.
        should_stop=lambda: should_stop() and not keep_unfinished(),
    )
    path: Path | None = None
    with suppress(Cancelled):  # the last checkpoint is there: resumed, it judges anew
        path = yield from steps
    return path


def _patches_steps(
    job: TrainJob,
    method: Method,
    folder: Path,
    opened: Mapping[str, list[Volume]],
) -> Generator[Step, None, Patches]:
    """Look at the data and say what should be known."""
    from napari_geosr.learning.patches import Patches

    if (folder / _CHECKPOINTS / checkpoint.FILE).exists():
        refuse_other_inputs(folder, opened)
    for sentence in doubts_of_reading(opened):
        yield Warned(message=sentence)
    for sentence in check_slices(job.training, opened["source"]):
        yield Warned(message=sentence)
    volumes = method.scenes(opened)
    yield from _check_pairs(method, volumes)
    for sentence in method.look(volumes):
        yield Warned(message=sentence)
    if along := method.independent_noise_along():
        for volume in volumes["source"]:
            if sentence := correlated_noise(volume, job.method, along):
                yield Warned(message=sentence)
    patches = Patches(
        volumes,
        job.training,
        paired=method.paired,
        factors={"target": method.upscale_factor},
        one_object=method.one_object,
        labels=method.label_roles,
    )
    scale = method.grey_scale()
    if scale is not None:
        patches.grey = dict.fromkeys(patches.grey, scale)
    _check_grey_scales(job.training, patches, method)
    if method.wants_noise:
        noises = yield from measured_steps(method, volumes, patches)
        patches.tell(noises)
    return patches


def _preview(patches: Patches, method: Method) -> SlicePreview:
    from napari_geosr.learning.preview import SlicePreview

    return SlicePreview(
        patches,
        "source",
        patches.grey[method.output_role],
        method.upscale_factor,
        method.config.preview_slice,
        labels=method.labels > 1,
    )


def train(
    method: str,
    folder: str | Path,
    *,
    in_memory: Mapping[Path, Volume] | None = None,
    **settings: Any,
) -> BundledModel:
    """Train a model and return it; interrupted, the same call resumes the training.

    Parameters
    ----------
    method : str
        A name that :func:`needs` lists.
    folder : str or Path
        Gets checkpoints and the model's bundle.
    in_memory : mapping of Path to Volume, optional
        Volumes that were given themselves, by their entry in ``source`` or ``target``
        (`in_memory.entry_for`).
    **settings
        Fields of the method's config: ``source``, ``target``, ``steps``, …; without a
        ``name`` the model is called after the method and the first source.

    Returns
    -------
    Model

    Raises
    ------
    ConfigError, FileError, VolumeError, TrainingError, DeviceMemoryError
        With one sentence saying what is wrong and what to do.
    """
    from napari_geosr.models import bundle

    if settings.get("from_model") and not settings.keys() & OF_THE_NETWORK:
        settings = fine_tune_settings(settings["from_model"], method) | settings
    training = config_class(method).create(**settings)
    if "name" not in settings:
        name = proposed_name(method, training.source)
        training = training.model_copy(update={"name": name})
    job = TrainJob(method=method, training=training).with_absolute_paths()
    steps = train_steps(job, Path(folder), opened=job.check(in_memory))
    path = run_to_end(steps)
    assert path is not None  # as nobody stops it
    return bundle.load(path)


def open_roles(
    job: TrainJob,
    method: Method | type[Method],
    in_memory: Mapping[Path, Volume] | None = None,
) -> dict[str, list[Volume]]:
    """Open the volumes of every role, lazily.

    ``simulated:KIND:FIRST-LAST`` in place of a path stands for as many volumes, and
    ``memory:NAME`` for one of `in_memory`.

    Raises
    ------
    ConfigError
        If the volumes of paired roles are not as many.
    GeoSRError
        If one cannot be opened.
    """
    opened = {
        role: [
            volume
            for path in getattr(job.training, role)
            for volume in _open(path, job, in_memory or {})
        ]
        for role in method.roles
    }
    counts = {role: len(volumes) for role, volumes in opened.items()}
    if method.paired and len(set(counts.values())) > 1:
        listed = " and ".join(f"{n} {role} volumes" for role, n in counts.items())
        raise ConfigError(
            f"There are {listed}: each source needs its target, in the same order."
        )
    return opened


def _open(path: Path, job: TrainJob, in_memory: Mapping[Path, Volume]) -> list[Volume]:
    if is_simulated(path):
        return open_simulated(path)
    flat = job.training.dimensions == "2D"
    if path in in_memory:
        return [to_learn(in_memory[path], job.reading, flat=flat)]
    if is_in_memory(path):
        raise FileError(
            f"{name_in_memory(path)!r} was given in memory and is not in a file. Train "
            "in Python with the same volume, or save it and give its path."
        )
    return [open_to_learn(path, job.reading, flat=flat)]


def _check_pairs(
    method: Method, volumes: Mapping[str, Sequence[Volume]]
) -> Generator[Step, None, None]:
    if not (method.paired and "target" in volumes):
        return
    from napari_geosr.learning.pairs import check_pair

    for source, target in zip(volumes["source"], volumes["target"], strict=True):
        if is_simulated(source.name):
            continue  # in place by construction; in strong noise a shift is measured
        ndim, factor = method.config.ndim, method.upscale_factor
        # Two labels are dark and bright, or the other way round; more have no order.
        found = check_pair(source, target, factor, ndim, alike=method.labels <= 2)
        for warning in found.warnings:
            yield Warned(message=warning)


def _check_grey_scales(
    config: TrainingConfig, patches: Patches, method: Method
) -> None:
    if config.normalisation == "stored" or method.labels > 1:
        return
    if patches.grey["source"] != patches.grey[method.output_role]:
        raise ConfigError(
            "Sources and targets have different grey scales, so the model must keep "
            "both: set normalisation to stored."
        )


def _weights_of(config: TrainingConfig, method: Method) -> dict[str, Any]:
    """Weights to start from; of the very network, or training would begin with noise.

    Raises
    ------
    ModelError
        If there is no such model, or its network differs.
    """
    from napari_geosr.models import zoo
    from napari_geosr.networks import all_settings

    assert config.from_model is not None
    try:
        model = zoo.find(config.from_model)
        weights: dict[str, Any] = method.starting_weights(model)
    except ModelError as error:
        raise ModelError(f"The model to start from: {error}") from error
    card = model.card
    theirs = {
        "network": card.network,
        **all_settings(card.network, card.network_kwargs),
    }
    ours = {"network": config.network, **method.network_kwargs()}
    differ = sorted(
        k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k)
    )
    if differ:
        listed = ", ".join(f"{k} {theirs.get(k)} (here {ours.get(k)})" for k in differ)
        raise ModelError(
            f"The model to start from, {model.card.name}, has another network: "
            f"{listed}. Leave the network's settings out to take over those of the "
            "model."
        )
    return weights
