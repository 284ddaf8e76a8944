"""Export a model to another program's format, and compare the results."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, ConfigError, ModelError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.inference.intensity import scan_steps
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.models import zoo
from napari_geosr.models.exports import EXPORTS
from napari_geosr.networks import needs_noise, set_network_noise
from napari_geosr.operations.restore.upscaling.doubtful_noise import undoubted_noise
from napari_geosr.operations.restore.upscaling.sharpness import set_edge_sharpness

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model


@dataclass(frozen=True)
class ExportResult:
    """A model file for another program.

    Attributes
    ----------
    difference : float
        Largest difference from the result of napari-geosr for the same test images, as
        a multiple of the standard deviation of that result.
    """

    path: Path
    difference: float


def export_steps(
    name: str | Path,
    kind: str,
    out: str | Path,
    *,
    like: str | Path | Volume | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ExportResult]:
    """Export a model to a file for other programs.

    A `WarningIssued` is yielded if other programs need additional steps to obtain the
    same result, such as scaling or averaging several outputs.

    Parameters
    ----------
    name : str or Path
        Name in the zoo, or path of a bundle.
    kind : str
        Name of one of the `formats`.
    out : str or Path
        The file to write, with the suffix of the format.
    like : str, Path or Volume, optional
        A scan that provides the noise to be stored in the file, for models that adapt
        to the measured noise of each scan. (Other programs do not measure the noise.)

    Raises
    ------
    ConfigError
        If there is no such format, the suffix is wrong, a library is missing, or a scan
        is required.
    ModelError
        If the model cannot be exported or gives different values; no file is kept.
    FileError
        If the file cannot be written.
    """
    module, path = EXPORTS.load(kind), Path(out)
    if path.suffix.lower() != module.SUFFIX:
        raise ConfigError(
            f"{path.name}: a file in the format {module.TITLE} must have the suffix "
            f"{module.SUFFIX}."
        )
    atomic.check_folder(path)
    atomic.refuse_existing(path, overwrite)
    model = zoo.find(name)
    if not model.card.has_weights:
        raise ModelError(
            f"{model.card.name!r} is a classical filter and has no weights to "
            "export. Other programs have the same filter. Choose a "
            "trained model."
        )
    yield StageStarted(message=f"Loading {model.card.name}")
    model = yield from _set_noise_steps(model, like)
    if should_stop():
        raise Cancelled("The export was cancelled; nothing was written.")
    yield StageStarted(message=f"Writing {module.TITLE} and comparing the results")
    with atomic.replacing(path, overwrite=overwrite, suffix=module.SUFFIX) as temporary:
        difference = float(module.write(model, temporary))
        if should_stop():
            raise Cancelled("The export was cancelled; nothing was written.")
    for remark in getattr(module, "remarks", lambda _card: ())(model.card):
        yield WarningIssued(message=str(remark))
    if model.card.inputs > 1:
        yield WarningIssued(message=_mean_note(model.card.inputs))
    return ExportResult(path, difference)


def _set_noise_steps(
    model: Model, like: str | Path | Volume | None
) -> Generator[Step, None, Model]:
    """Store the noise of the scan in the model to be exported.

    Without a scan, a model that needs the noise only for its bound is returned without
    the bound.
    """
    network = model.restorer()
    if not needs_noise(network):
        return model
    if like is None and not needs_noise(model.network()):
        yield WarningIssued(
            message="Unlike `restore`, the exported network of "
            f"{model.card.name} does not limit its changes to the noise level, because "
            "the limit depends on the noise of each scan. To include a limit, name a "
            "scan similar to those that you will restore (--like SCAN)."
        )
        return model.unbounded()
    if like is None:
        raise ConfigError(
            f"{model.card.name} uses the noise measured in each scan, which other "
            "programs do not measure. Name a scan similar to those that you will "
            "restore (--like SCAN): its noise is stored in the exported file."
        )
    scan = (like if isinstance(like, Volume) else io.read(like)).select()
    noise = estimate_noise(scan)
    if model.card.upscale_factor > 1:
        noise = undoubted_noise(noise)
        set_edge_sharpness(network, scan, noise)
    statistics = yield from scan_steps(scan.data)
    set_network_noise(network, noise.standardised(statistics.mean, statistics.std))
    yield WarningIssued(
        message=f"The exported file removes noise of {100 * noise.relative:.1f} % of "
        "the "
        f"contrast, as measured in {scan.title}. Export again for scans with "
        "different noise."
    )
    return model


def _mean_note(n: int) -> str:
    return (
        f"The model's result is the mean of its outputs for {n} reconstructions of one "
        "object; other programs must compute this mean separately."
    )
