"""Restore a volume: optional choice of the model, preparation, prediction, run."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.inference.members import NONE as NO_MEMBERS
from napari_geosr.inference.members import is_generative
from napari_geosr.models.distribution import TrainingLikeness
from napari_geosr.operations.cluster import Workers, check_workers
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.inputs.scan import reader_warnings
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.measurements import MeasurementStore
from napari_geosr.operations.restore.memory import reads_within_budget
from napari_geosr.operations.restore.posterior import PosteriorRun, refuse_for_samples
from napari_geosr.operations.restore.preparation import (
    PreparedRestoration,
    prepare_steps,
)
from napari_geosr.operations.restore.ranking.choice import (
    choose_for_series_steps,
    choose_steps,
    with_choice,
)
from napari_geosr.operations.restore.ranking.config import AUTO, NONE
from napari_geosr.operations.restore.ranking.result import Ranking
from napari_geosr.operations.restore.record import noise_inputs
from napari_geosr.operations.restore.resume import deviation_path
from napari_geosr.operations.restore.run import (
    RestorationResult,
    VolumeRun,
    work_steps,
)
from napari_geosr.operations.restore.series.plan import SeriesPlan, is_series
from napari_geosr.operations.restore.series.run import (
    restore_series_steps,
)
from napari_geosr.operations.restore.shards.run import ShardedRun
from napari_geosr.operations.restore.targets import check_budget
from napari_geosr.operations.restore.verdict.late import LateVerdict
from napari_geosr.operations.restore.verdict.steps import (
    is_verdict_kept,
    reported_verdict_steps,
)

#: Warning if a prediction is required but not available.
_NOT_PREDICTED = (
    "For samples of a diffusion model, the effect is not predicted, so --strict does "
    "not check it."
)


def check_workers_for(volume: Volume, workers: Workers | None) -> None:
    """Raise an error if workers cannot restore a volume.

    Raises
    ------
    ConfigError
        If workers are given for a series, or the extra ``cluster`` is not installed.
    """
    if workers is None:
        return
    check_workers(workers)
    if is_series(volume):
        raise ConfigError(
            f"{volume.title} is a series, but workers can restore only one volume: "
            "omit --workers, or choose a time point and channel (--time, --channel)."
        )


@reads_within_budget
def restore_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    first: tuple[slice, ...] | None = None,
    unfinished: Volume | None = None,
    unfinished_deviation: Volume | None = None,
    look: bool = False,
    strict: bool = False,
    may_look_late: bool = False,
    workers: Workers | None = None,
    kept: MeasurementStore | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RestorationResult]:
    """Prepare and run a restoration; see `prepare_steps` and `run_steps`.

    With the model ``"auto"``, the models are ranked first. If the scan is best left
    unchanged, the result is the scan. With an upscale factor, the super-resolution
    models with this factor are ranked, and the scan is interpolated if none is better.

    Each point of a series (one time point of one channel) is restored separately; see
    `run_series_steps`.

    Parameters
    ----------
    look : bool
        Whether to predict the effect of the run from a few blocks first. The prediction
        is reported, and becomes the result's `verdict`.
    strict : bool
        Whether to predict the effect, and to refuse a run that would do more harm than
        good.
    may_look_late : bool
        Whether the prediction may be made after the first tile, so that this tile is
        not delayed (a resumed run makes it after its last tile). Ignored if `strict` is
        True or the prediction is already known.
    workers : int or distributed.Client, optional
        Number of processes on this computer that share the run, or a Dask cluster. By
        default, this process does all the work.
    kept : MeasurementStore, optional
        Receives the measurements, and provides those of an earlier run.

    Raises
    ------
    ConfigError
        If workers are given for a series, or the extra ``cluster`` is not installed.
    ModelError
        If `strict` is True and the result is expected to be worse than the volume;
        nothing is written.
    """
    check_workers_for(volume, workers)
    if out is not None:
        _check_outputs(volume, config, out, overwrite, unfinished, unfinished_deviation)
    ranking: Ranking | None = None
    rankings: Mapping[int | None, Ranking] | None = None
    if config.model == AUTO:
        if is_series(volume):
            ranking, rankings = yield from choose_for_series_steps(
                SeriesPlan(volume), config, kept, should_stop
            )
        else:
            ranking = yield from choose_steps(
                volume, config, kept=kept, should_stop=should_stop
            )
        if ranking.keeps_scan:
            steps = unchanged_steps(
                volume,
                config,
                ranking,
                out=out,
                overwrite=overwrite,
                should_stop=should_stop,
            )
            return (yield from steps)
        config = with_choice(config, ranking)
    if generative := is_generative(config.uncertainty):
        refuse_for_samples(workers=workers is not None, series=is_series(volume))
    if is_series(volume):
        steps = restore_series_steps(
            volume,
            config,
            look=look,
            strict=strict,
            spare=ranking is not None,
            may_look_late=may_look_late,
            rankings=rankings,
            out=out,
            overwrite=overwrite,
            first=first,
            unfinished=unfinished,
            unfinished_deviation=unfinished_deviation,
            kept=kept,
            should_stop=should_stop,
        )
        return (yield from steps)
    prepared = yield from prepare_steps(
        volume, config, should_stop=should_stop, ranking=ranking, kept=kept
    )
    late = None
    if generative and strict:
        yield WarningIssued(message=_NOT_PREDICTED)
    elif (look or strict) and not generative:
        check_budget(prepared, out)
        prepared, late = yield from _examine_steps(
            prepared, strict, may_look_late, kept, should_stop
        )
    work = PosteriorRun(prepared) if generative else VolumeRun(prepared)
    if workers is not None:
        work = ShardedRun(prepared, workers)
    steps = work_steps(
        work,
        out=out,
        overwrite=overwrite,
        first=first,
        unfinished=unfinished,
        unfinished_deviation=unfinished_deviation,
        late=late,
        should_stop=should_stop,
    )
    return (yield from steps)


def _examine_steps(
    prepared: PreparedRestoration,
    strict: bool,
    may_look_late: bool,
    kept: MeasurementStore | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[PreparedRestoration, LateVerdict | None]]:
    """Predict the effect of a run, or return a prediction to be made during the run."""
    predict = partial(
        reported_verdict_steps,
        prepared,
        strict=strict,
        kept=kept,
        should_stop=should_stop,
    )
    if may_look_late and not strict and not is_verdict_kept(prepared, kept):
        return prepared, LateVerdict(predict)
    return (yield from predict()), None


def _check_outputs(
    volume: Volume,
    config: RestoreConfig,
    out: str | Path,
    overwrite: bool,
    unfinished: Volume | None,
    unfinished_deviation: Volume | None,
) -> None:
    """Raise `FileError` unless all files can be written."""
    outputs = [Path(out)]
    if config.uncertainty != NO_MEMBERS:
        outputs.append(deviation_path(out))
    whole = None if unfinished_deviation is None else unfinished_deviation.source
    for path in outputs:
        io.check_output(
            path,
            overwrite=overwrite or path == whole,
            continues=unfinished is not None,
        )
    check_not_source(volume, *outputs)


def unchanged_steps(
    volume: Volume,
    config: RestoreConfig,
    ranking: Ranking,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RestorationResult]:
    """Return the scan unchanged, with a record.

    Values and type of the voxels are preserved.

    Parameters
    ----------
    volume : Volume
    config : RestoreConfig
    ranking : Ranking
        The ranking according to which the scan is best left unchanged.
    out : path, optional
        File for a copy.
    overwrite : bool
    should_stop : callable
    """
    if not is_series(volume):
        volume = volume.select()
    if config.uncertainty != NO_MEMBERS:
        yield WarningIssued(
            message="No standard deviations were written, because no model was used."
        )
    for doubt in reader_warnings(volume):
        yield WarningIssued(message=doubt)
    record = yield from provenance.record_steps(
        "restore",
        should_stop=should_stop,
        inputs={"input": volume, **noise_inputs(volume)},
        settings=config.model_dump(mode="json"),
        model={"name": NONE},
        output_dtype=str(volume.dtype),
        ranking=ranking.to_json_dict(),
        noise=ranking.noise.to_json_dict(),
        complete=True,
    )
    kept = volume.replace(
        name=f"{volume.name} · unchanged", provenance=(*volume.provenance, record)
    )
    path = None
    if out is not None:
        yield StageStarted(message="Copying the scan")
        path = io.write(kept, out, overwrite=overwrite, should_stop=should_stop)
        kept = io.read_back(path).replace(name=kept.name)
    likeness = TrainingLikeness("ok")
    return RestorationResult(kept, likeness, None, path)
