"""Simulates the scan of a porous sample with an exactly known porosity.

Slices are created, scanned and written in blocks, so that a sample may be larger than
the memory.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, ConfigError, FileError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.text.display import one_line
from napari_geosr.core.types import AnyDict
from napari_geosr.inference.compute import exact_settings
from napari_geosr.io.mapping import create_npy
from napari_geosr.io.projections import write_projections
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.hidden import temporary_sibling
from napari_geosr.operations.simulate.config import SimulateConfig, StructureName
from napari_geosr.operations.simulate.radiographs import (
    RadiographFiles,
    simulate_radiographs_steps,
)
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.shapes.radiographs import TISSUES
from napari_geosr.physics.specimens.packing import NEARLY_REACHED
from napari_geosr.physics.specimens.phantoms import Phantom
from napari_geosr.physics.specimens.structures import (
    STRUCTURES,
    Spheres,
    Structure,
    VariedSolid,
)
from napari_geosr.physics.tomography_simulation import (
    PorousSample,
    cylinder_sample,
    detector_columns,
    simulate_scan,
)

__all__ = [
    "DEFINITIONS",
    "FILES",
    "TISSUES",
    "RadiographFiles",
    "SimulateConfig",
    "SimulationResult",
    "simulate_radiographs_steps",
    "simulate_steps",
]

#: Names of the files, by content.
FILES = {
    "projections": "projections.h5",
    "truth": "truth.ome.tif",
    "sample": "sample.ome.tif",
    "json": "truth.json",
}
#: Definitions of the values in the JSON file.
DEFINITIONS = {
    "porosity": "volume of the pores per volume of the sample; a voxel cut by a "
    "surface contributes only the fraction that is pore",
    "porosity_at_half_contrast": "fraction of the sample's voxels with at most half "
    "the attenuation of the solid: the porosity that this threshold gives for the true "
    "object",
}
#: Number of slices per block. This number must not depend on the available memory,
#: because the random numbers depend on it.
_ROWS = 32
#: Number of slices used to scale the attenuation.
_SCALING_ROWS = 8
#: Reach of the detector's blur into neighbouring blocks, in standard deviations.
_BLUR_REACH = 4


@dataclass(frozen=True)
class SimulationResult:
    """A simulated scan: its files, and the known properties of the sample.

    Attributes
    ----------
    files : dict of Path
        ``projections``, ``truth`` (attenuation per unit of length), ``sample`` (1 where
        the porosity is measured) and ``json``.
    truth : dict
        Contents of the JSON file: exact porosity (pore volume per sample volume),
        porosity for a threshold at half the contrast, definitions of both
        (`DEFINITIONS`), voxel size, settings.
    """

    files: dict[str, Path]
    truth: AnyDict

    def __repr__(self) -> str:
        truth = self.truth
        return one_line(
            type(self).__name__,
            truth["structure"],
            (
                f"porosity {truth['porosity']:.4g}",
                " × ".join(str(n) for n in truth["shape"]) + " voxels",
                f"voxel size {truth['voxel_size']:.4g} {truth['unit']}",
                f"files {', '.join(path.name for path in self.files.values())}",
            ),
        )


def simulate_steps(
    structure: str,
    out: str | Path,
    config: SimulateConfig | None = None,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SimulationResult]:
    """Simulate a sample and its scan.

    Parameters
    ----------
    structure : str
        ``"foam"``, ``"blobs"``, ``"bone"``, ``"lacunae"``, ``"dentin"`` or
        ``"cells"``.
    out : path
        Folder for the files (`FILES`); created if missing.

    Yields
    ------
    Step
        `BlockDone`, counted in slices.

    Returns
    -------
    SimulationResult

    Raises
    ------
    ConfigError
        If there is no such structure, or it cannot be created with the settings.
    FileError
        If a file cannot be written, or exists and `overwrite` is False.
    Cancelled
        If `should_stop` returns True; no files are kept.
    """
    config = config or SimulateConfig()
    known = get_args(StructureName)
    if structure not in known:
        raise ConfigError(
            f"Unknown structure {structure!r}. Choose one of {', '.join(known)}."
        )
    folder = Path(out).expanduser()
    files = {key: folder / name for key, name in FILES.items()}
    _check(folder, files, overwrite)
    with atomic.created_folder(folder):
        return (
            yield from _scan_steps(structure, files, config, overwrite, should_stop)
        )


def _scan_steps(
    structure: str,
    files: dict[str, Path],
    config: SimulateConfig,
    overwrite: bool,
    should_stop: ShouldStop,
) -> Generator[Step, None, SimulationResult]:
    yield StageStarted(message=f"Generating a sample: {structure}")
    parameters = config.pores(structure)
    sample = STRUCTURES[structure](config.shape(), **parameters)
    enough = NEARLY_REACHED * parameters["porosity"]
    if isinstance(sample, Spheres) and sample.share() < enough:
        yield WarningIssued(message=_porosity_warning(sample, parameters))
    scan = config.scan()
    with exact_settings(config.threads):
        scale = _scale(sample, scan)
    yield StageStarted(message="Scanning the sample")
    with ExitStack() as stack:
        made = stack.enter_context(
            atomic.replacing_all(list(files.values()), overwrite=overwrite)
        )
        scratch = stack.enter_context(_unfinished_counts(files["projections"]))
        run = _SimulatedScan(
            sample, config, scan, scale, config.voxel(structure), scratch
        )
        outputs = stack.enter_context(ExitStack())
        volumes = {
            key: outputs.enter_context(run.output(made[files[key]], key))
            for key in ("truth", "sample")
        }
        for start in range(0, sample.shape[0], _ROWS):
            if should_stop():
                raise Cancelled("Stopped before the scan was complete.")
            run.add(start, min(start + _ROWS, sample.shape[0]), volumes)
            yield BlockDone(min(start + _ROWS, sample.shape[0]), sample.shape[0])
        facts = run.facts(structure)
        record = provenance.record(
            "simulate", inputs={}, settings=config.model_dump(mode="json"), truth=facts
        )
        for output in volumes.values():
            output.provenance = (record,)
        outputs.close()
        yield StageStarted(message="Writing the projections")
        write_projections(
            run.projections(structure, record), made[files["projections"]]
        )
        truth = {
            **facts,
            "definitions": dict(DEFINITIONS),
            "files": dict(FILES),
            "provenance": record,
        }
        text = json.dumps(truth, indent=2, ensure_ascii=False) + "\n"
        atomic.write_text(made[files["json"]], text)
    return SimulationResult(files, truth)


def _check(folder: Path, files: dict[str, Path], overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder. Choose another one.")
    existing = [path.name for path in files.values() if path.exists()]
    if existing and not overwrite:
        raise FileError(
            f"{folder} already contains {', '.join(existing)}. Choose another folder, "
            "or allow overwriting (--overwrite)."
        )


@contextmanager
def _unfinished_counts(projections: Path) -> Iterator[Path]:
    """Provide a file for counts computed row by row and written view by view."""
    path = temporary_sibling(projections.with_name("counts.npy"), ".npy")
    try:
        with atomic.explained(projections):
            yield path
    finally:
        atomic.remove(path)


def _porosity_warning(sample: Spheres, parameters: AnyDict) -> str:
    """Return a warning if spheres cannot fill the volume, with alternatives."""
    low, high = parameters["radius"]
    gap, size = parameters["gap"], sample.shape[-1]
    suggestions = [f"thinner walls (--gap {gap / 4:g} or 0)"] if gap else []
    if high < size / 4:
        suggestions.append(f"a wider range of radii (--radius {low:g},{size / 4:g})")
    suggestions.append("blobs or bone, which can have any porosity, instead of foam")
    return (
        f"Spheres with radii of {low:g} to {high:g} voxels, separated by walls of at "
        f"least {gap:g} voxels, fill about {100 * sample.share():.0f} % of this "
        f"sample instead of the requested {100 * parameters['porosity']:.3g} %. For "
        f"more, use {' or '.join(suggestions)}."
    )


def _cut(structure: Structure, start: int, stop: int) -> PorousSample:
    """Return slices of the cylinder; there is no solid beyond the sample's ends."""
    fraction = structure.block(start, stop)
    density = None
    if isinstance(structure, VariedSolid):
        density = structure.density(start, stop)
    phantom = Phantom(fraction, fraction >= 0.5, "structure")
    return cylinder_sample(phantom, density=density)


def _scale(structure: Structure, config: ScanConfig) -> float:
    """Return the scale of the attenuation for the requested maximum line integral.

    The scale is computed from a few slices spread over the height, and is used by all
    blocks.
    """
    rows = np.linspace(0, structure.shape[0] - 1, _SCALING_ROWS).astype(int)
    slabs = [_cut(structure, z, z + 1).attenuation for z in np.unique(rows)]
    reduced = config.model_copy(
        update={"projections": min(config.projections, 8), "sub_angles": 1, "flats": 1}
    )
    scan = simulate_scan(np.concatenate(slabs), reduced)
    return float(scan.provenance[-1]["truth"]["attenuation_scale"])


class _SimulatedScan:
    """State of a simulated scan: the sample, its files and its pore volume so far."""

    def __init__(
        self,
        structure: Structure,
        config: SimulateConfig,
        scan: ScanConfig,
        scale: float,
        voxel: float,
        scratch: Path,
    ) -> None:
        self.structure, self.config, self.scan = structure, config, scan
        self.scale, self.voxel, self.scratch = scale, voxel, scratch
        self.counts: Any = None
        self.parts: list[Projections] = []
        self.pore_voxels = self.inside_voxels = 0
        self.pore_volume = 0.0

    def output(self, path: Path, key: str) -> Any:
        """Return the output for the attenuation or the sample mask.

        Its origin is such that it overlays a reconstruction of the scan, which is as
        wide as the detector and has its origin at zero.
        """
        size = self.structure.shape[-1]
        air = (detector_columns(size, self.scan) - size) / 2 * self.voxel
        return io.create(
            path,
            io.OutputSpec(
                shape=self.structure.shape,
                dtype=np.float32 if key == "truth" else np.uint8,
                axes="ZYX",
                voxel_size=(self.voxel,) * 3,
                unit=self.config.unit,
                origin=(0.0, air, air),
                kind="image" if key == "truth" else "labels",
            ),
        )

    def add(self, start: int, stop: int, volumes: AnyDict) -> None:
        """Create some slices, scan them and write them."""
        reach = int(np.ceil(_BLUR_REACH * self.scan.blur))
        low = max(0, start - reach)
        high = min(self.structure.shape[0], stop + reach)
        sample = _cut(self.structure, low, high)
        block = slice(start - low, stop - low)
        pores, inside = sample.pores[block], sample.inside[block]
        self.pore_voxels += int(np.count_nonzero(pores))
        self.inside_voxels += int(np.count_nonzero(inside))
        # Exclude the cylinder's surface, where voxels are partly outside the sample.
        self.pore_volume += float(sample.fraction[block][inside].sum(dtype=np.float64))
        per_unit = np.float32(self.scale / self.voxel)
        volumes["truth"].array[start:stop] = sample.attenuation[block] * per_unit
        volumes["sample"].array[start:stop] = inside
        seed = np.random.SeedSequence([self.scan.seed, start]).generate_state(1)[0]
        config = self.scan.model_copy(update={"seed": int(seed)})
        with exact_settings(self.config.threads):
            part = simulate_scan(sample.attenuation, config, scale=self.scale)
        self._store_counts(part.rows(block.start, block.stop), start, stop)

    def _store_counts(self, part: Projections, start: int, stop: int) -> None:
        data = np.asarray(part.data)
        if self.counts is None:
            shape = (data.shape[0], self.structure.shape[0], data.shape[2])
            self.counts = create_npy(self.scratch, data.dtype, shape)
        self.counts[:, start:stop] = data
        frames = {key: np.asarray(getattr(part, key)[:]) for key in ("flats", "darks")}
        self.parts.append(part.replace(data=data[:1], angles=part.angles[:1], **frames))
        self.angles = part.angles
        self.truth = part.provenance[-1]["truth"]

    def facts(self, structure: str) -> AnyDict:
        """Return the known properties of the sample."""
        return {
            "structure": structure,
            "porosity": self.pore_volume / self.inside_voxels,
            "porosity_at_half_contrast": self.pore_voxels / self.inside_voxels,
            "sample_voxels": self.inside_voxels,
            "shape": list(self.structure.shape),
            "voxel_size": self.voxel,
            "unit": self.config.unit,
            "attenuation": self.scale / self.voxel,
            "centre": self.truth["centre"],
        }

    def projections(self, structure: str, record: AnyDict) -> Projections:
        """Return the whole scan; its counts remain in their file."""
        frames: AnyDict = {
            key: np.concatenate([getattr(p, key) for p in self.parts], axis=1)
            for key in ("flats", "darks")
        }
        return Projections(
            data=self.counts,
            angles=self.angles,
            **frames,
            pixel_size=(self.voxel, self.voxel),
            unit=self.config.unit,
            provenance=(record,),
            name=f"simulated {structure}",
        )
