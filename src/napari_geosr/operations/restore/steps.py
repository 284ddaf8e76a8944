"""Restore a volume: choose the model where asked to, prepare, look ahead, run."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from napari_geosr import io
from napari_geosr.core.steps import (
    ShouldStop,
    Step,
    Warned,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.inference.members import NONE
from napari_geosr.operations.inputs import refuse_own_source
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.outlook import (
    looked_steps,
)
from napari_geosr.operations.restore.preparation import prepare_steps
from napari_geosr.operations.restore.ranking import AUTO, Ranking
from napari_geosr.operations.restore.ranking.automatic import (
    choose_steps,
    unchanged_steps,
)
from napari_geosr.operations.restore.run import Restored, run_steps
from napari_geosr.operations.restore.series.plan import Point, SeriesPlan, is_series
from napari_geosr.operations.restore.series.run import (
    restore_series_steps,
)
from napari_geosr.operations.restore.targets import spread_path


def restore_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    first: tuple[slice, ...] | None = None,
    unfinished: Volume | None = None,
    unfinished_spread: Volume | None = None,
    look: bool = False,
    strict: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Restored]:
    """Prepare and run; see :func:`prepare_steps` and :func:`run_steps`.

    With the model ``"auto"`` the models are ranked first. Where the scan is best left
    as it is, the result is the scan.

    Of a time series or several channels, every point is restored by itself; see
    :func:`~napari_geosr.operations.restore.series.run.run_series_steps`.

    Parameters
    ----------
    look : bool
        Whether to find out on a few blocks first what the run would do to the volume;
        the answer is told, and is the result's `outlook`.
    strict : bool
        Whether to look, and to refuse a run that would do more harm than good.

    Raises
    ------
    ModelError
        If `strict` and the result is expected to be worse than the volume; nothing is
        written then.
    """
    if out is not None:
        outputs = [Path(out)]
        if config.uncertainty != NONE:
            outputs.append(spread_path(out))
        for path in outputs:
            io.check_output(path, overwrite=overwrite)
        refuse_own_source(volume, *outputs)
    ranking: Ranking | None = None
    if config.model == AUTO:
        ranking = yield from choose_steps(
            _example(volume), config, should_stop=should_stop
        )
        if is_series(volume):
            yield Warned(
                message=f"The model was chosen on {_typical(volume).words}, for the "
                "whole series."
            )
        if ranking.leaves_it:
            steps = unchanged_steps(
                volume,
                config,
                ranking,
                out=out,
                overwrite=overwrite,
                should_stop=should_stop,
            )
            return (yield from steps)
        config = config.model_copy(update={"model": ranking.choice})
    if is_series(volume):
        steps = restore_series_steps(
            volume,
            config,
            look=look,
            strict=strict,
            out=out,
            overwrite=overwrite,
            first=first,
            unfinished=unfinished,
            unfinished_spread=unfinished_spread,
            should_stop=should_stop,
        )
        return (yield from steps)
    prepared = yield from prepare_steps(
        volume, config, should_stop=should_stop, ranking=ranking
    )
    if look or strict:
        prepared = yield from looked_steps(
            prepared, strict=strict, should_stop=should_stop
        )
    steps = run_steps(
        prepared,
        out=out,
        overwrite=overwrite,
        first=first,
        unfinished=unfinished,
        unfinished_spread=unfinished_spread,
        should_stop=should_stop,
    )
    return (yield from steps)


def _example(volume: Volume) -> Volume:
    """What a model is chosen on: of a series, a typical point of its first channel."""
    if not is_series(volume):
        return volume
    return SeriesPlan(volume).at(_typical(volume))


def _typical(volume: Volume) -> Point:
    series = SeriesPlan(volume)
    return series.typical(series.channels[0])
