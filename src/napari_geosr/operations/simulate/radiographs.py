"""Write simulated radiographs and the tissue or organ of each pixel."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.operations.simulate.config import SimulateRadiographsConfig
from napari_geosr.physics.shapes.chest import (
    CHEST_WIDTH,
    FOREIGN,
    ORGANS,
    chest_radiographs,
)
from napari_geosr.physics.shapes.radiographs import TISSUES, WIDTH, radiographs

_NOTE = "Simulated: not a radiograph of any person."
#: Function that simulates radiographs, names of the labels, and width of the detector
#: in mm, by kind of radiograph.
_KINDS = {
    "dental": (radiographs, TISSUES, WIDTH),
    "chest": (chest_radiographs, ORGANS, CHEST_WIDTH),
}


@dataclass(frozen=True)
class RadiographFiles:
    """Files of simulated radiographs, and the fraction of each tissue or organ.

    Attributes
    ----------
    files : dict of Path
        ``radiographs`` and ``labels``, each a stack (Z, Y, X) of separate images, and
        ``painted`` if requested.
    shares : dict of float
        Fraction of all pixels that each tissue or organ covers, by name.
    """

    files: dict[str, Path]
    shares: dict[str, float]


def simulate_radiographs_steps(
    out: str | Path,
    config: SimulateRadiographsConfig | None = None,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RadiographFiles]:
    """Simulate radiographs; write ``radiographs.ome.tif`` and ``labels.ome.tif``.

    Parameters
    ----------
    out : path
        Folder for the files; created if missing.
    config : SimulateRadiographsConfig, optional
    overwrite : bool
    should_stop : callable

    Yields
    ------
    Step
        `BlockDone`, counted in radiographs.

    Returns
    -------
    RadiographFiles

    Raises
    ------
    FileError
        If a file cannot be written, or exists and `overwrite` is False.
    Cancelled
        If `should_stop` returns True; no files are kept.
    """
    config = config or SimulateRadiographsConfig()
    folder, edge = Path(out).expanduser(), config.shape
    names = ["radiographs", "labels", *(["painted"] if config.painted else [])]
    files = {name: folder / f"{name}.ome.tif" for name in names}
    there = [path.name for path in files.values() if path.exists()]
    if there and not overwrite:
        raise FileError(
            f"{folder} already contains {', '.join(there)}. Choose another folder, or "
            "allow overwriting (--overwrite)."
        )
    grey = np.empty((config.number, edge, edge), np.uint16)
    labels = np.empty(grey.shape, np.uint8)
    yield StageStarted(message="Simulating radiographs", total=config.number)
    simulated, names_of_labels, _ = _KINDS[config.kind]
    for i, made in enumerate(simulated(config.number, edge, seed=config.seed)):
        if should_stop():
            raise Cancelled("Stopped before all radiographs were simulated.")
        grey[i], labels[i] = made.grey, made.labels
        yield BlockDone(i + 1, config.number)
    data: dict[str, AnyArray] = {"radiographs": grey, "labels": labels}
    if config.painted:
        data["painted"] = labels.copy()
        data["painted"][config.painted :] = FOREIGN
    _write(data, files, config, overwrite)
    counts = np.bincount(labels.ravel(), minlength=256)
    shares = {name: counts[k] / labels.size for k, name in enumerate(names_of_labels)}
    return RadiographFiles(files, shares)


def _write(
    data: dict[str, AnyArray],
    files: dict[str, Path],
    config: SimulateRadiographsConfig,
    overwrite: bool,
) -> None:
    _, names, width = _KINDS[config.kind]
    record = provenance.record(
        "simulate radiographs",
        inputs={},
        settings=config.model_dump(mode="json"),
        labels=dict(enumerate(names)),
        note=_NOTE,
    )
    with (
        atomic.created_folder(next(iter(files.values())).parent),
        atomic.replacing_all(list(files.values()), overwrite=overwrite) as made,
    ):
        for name, values in data.items():
            volume = Volume(
                values,
                "ZYX",
                (width / config.shape,) * 3,
                "mm",
                name=name,
                provenance=(record,),
            )
            kind = "image" if name == "radiographs" else "labels"
            io.write(volume, made[files[name]], overwrite=True, kind=kind)
