"""Simulate skulls with and without a missing part."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.orientation import LPS, orientation_entry
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.operations.shapes.config import SimulateShapesConfig
from napari_geosr.physics.shapes import (
    DEFECTS,
    defect,
    sampled,
    skull,
    vault_direction,
)

#: Beginnings of the names of complete and incomplete skulls.
COMPLETE, INCOMPLETE = "complete_", "incomplete_"
#: Default edge length of the cubic volume that contains a skull, in mm.
_BOX = 200.0
#: Range of defect sizes, as fractions of half the edge length of the volume.
_SIZES = (0.15, 0.4)
#: Maximum number of existing files that a message lists.
_MAX_LISTED = 3


@dataclass(frozen=True)
class SimulatedSkull:
    """A skull, complete and with a missing part.

    Attributes
    ----------
    complete, incomplete : ndarray of bool, shape (Z, Y, X)
    defect : str
        Kind of the missing part, or "none".
    """

    complete: AnyArray
    incomplete: AnyArray
    defect: str


def simulated_skull(seed: int, edge: int, kind: str = "mixed") -> SimulatedSkull:
    """Simulate one skull; the same seed gives the same skull at any resolution.

    Parameters
    ----------
    seed : int
    edge : int
        Number of voxels along each axis.
    kind : str
        Kind of the defect, "mixed" or "none".
    """
    rng = np.random.default_rng([seed, 20])
    complete = sampled(skull(rng), (edge,) * 3)
    if kind == "none":
        return SimulatedSkull(complete, complete, kind)
    if kind == "mixed":
        kind = DEFECTS[int(rng.integers(len(DEFECTS)))]
    size = rng.uniform(*_SIZES)
    hole = sampled(defect(rng, kind, 0.72 * vault_direction(rng), size), (edge,) * 3)
    return SimulatedSkull(complete, complete & ~hole, kind)


def simulate_shape_steps(
    out: Path,
    config: SimulateShapesConfig,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, list[Path]]:
    """Write simulated skulls: ``complete_0000.tif`` and ``incomplete_0000.tif``, ….

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    FileError
        If the folder or a file cannot be written, or if a file exists and `overwrite`
        is False. In the latter case, nothing is written.
    """
    kinds = {COMPLETE: "complete"}
    if config.defects != "none":
        kinds[INCOMPLETE] = "incomplete"
    if not overwrite:
        _check_free(
            out, [_file_name(k, i) for i in range(config.number) for k in kinds]
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"{out} cannot be created: {error.strerror}. Choose another folder."
        ) from error
    edge = config.shape
    size = config.voxel_size or _BOX / edge
    written: list[Path] = []
    yield StageStarted(message="Simulating skulls", total=config.number)
    for i in range(config.number):
        if should_stop():
            raise Cancelled(f"Stopped; {i} of {config.number} skulls were written.")
        made = simulated_skull(config.seed + i, edge, config.defects)
        parts = {begin: getattr(made, kind) for begin, kind in kinds.items()}
        record = provenance.record(
            "simulate skulls",
            inputs={},
            settings={**config.model_dump(mode="json"), "seed": config.seed + i},
            defect=made.defect,
        )
        for begin, inside in parts.items():
            path = out / _file_name(begin, i)
            volume = Volume(
                inside.astype(np.uint8),
                "ZYX",
                (size,) * 3,
                "mm",
                name=path.stem,
                provenance=(record,),
                metadata=orientation_entry(LPS),
            )
            written.append(io.write(volume, path, overwrite=overwrite, kind="labels"))
        yield BlockDone(i + 1, config.number)
    return written


def _file_name(begin: str, number: int) -> str:
    return f"{begin}{number:04d}.tif"


def _check_free(folder: Path, names: Sequence[str]) -> None:
    """Raise `FileError` if files of these names exist in a folder."""
    existing = [name for name in names if (folder / name).exists()]
    if not existing:
        return
    listed = ", ".join(existing[:_MAX_LISTED])
    if len(existing) > _MAX_LISTED:
        listed += f" and {len(existing) - _MAX_LISTED} more"
    raise FileError(
        f"{folder} already contains {listed}. Choose another folder, or allow "
        "overwriting (--overwrite)."
    )
