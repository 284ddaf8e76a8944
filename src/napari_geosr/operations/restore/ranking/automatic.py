"""Restore with the model that suits the scan best, or hand the scan back unchanged."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, Warned, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.inference.members import NONE as NO_MEMBERS
from napari_geosr.models.distribution import Verdict
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.ranking.config import NONE, RankConfig
from napari_geosr.operations.restore.ranking.rank import rank_steps
from napari_geosr.operations.restore.ranking.result import Ranking
from napari_geosr.operations.restore.run import Restored
from napari_geosr.operations.restore.series.plan import is_series
from napari_geosr.operations.scan import file_doubts

if TYPE_CHECKING:
    from napari_geosr.core.noise import Noise


def choose_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    noise: Noise | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Ranking]:
    """Rank the models for a scan and say which one was chosen.

    A last `Warned` says what was chosen and why.

    Raises
    ------
    ConfigError
        If the settings name further models, which a choice does not.
    """
    if config.ensemble_with:
        raise ConfigError(
            "An ensemble needs models by name: replace --model auto by one of them, or "
            "leave --ensemble-with out."
        )
    settings = RankConfig(device=config.device, threads=config.threads)
    ranking = yield from rank_steps(volume, settings, should_stop, noise=noise)
    yield Warned(message=f"auto: {ranking.why}")
    return ranking


def unchanged_steps(
    volume: Volume,
    config: RestoreConfig,
    ranking: Ranking,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Restored]:
    """Hand the scan back as it is, on record.

    Voxels keep their values and their type.
    """
    if not is_series(volume):
        volume = volume.select()
    if config.uncertainty != NO_MEMBERS:
        yield Warned(
            message="No standard deviations are written: no model was used, so there "
            "is nothing that could differ."
        )
    for doubt in file_doubts(volume):
        yield Warned(message=doubt)
    record = yield from provenance.record_steps(
        "restore",
        should_stop=should_stop,
        inputs={"input": volume},
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
    verdict = Verdict("ok")
    return Restored(kept, verdict, None, path)
