"""Simulate raw structured-illumination frames of an exactly known object."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.config import Config
from napari_geosr.core.documents import dump_yaml
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.physics.illumination.simulation import (
    SimScene,
    SimulatedFrames,
    simulate_frames,
)

#: Names of the files, by content.
FILES = {
    "raw": "raw.ome.tif",
    "truth": "truth.ome.tif",
    "patterns": "patterns_truth.yaml",
}


class SimulateSimConfig(Config):
    """Settings of simulated frames of structured illumination."""

    structure: Literal["filaments", "rings", "er", "spots"] = Field(
        "filaments",
        title="Structure",
        description="filaments: curved lines; rings: circles with a diameter close to "
        "the resolution limit; er: a network of tubules; spots: points.",
    )
    snr: float = Field(
        20.0,
        ge=0,
        le=1000,
        title="Signal to noise",
        description="Signal-to-noise ratio of the brightest 1 % of the pixels; "
        "0 for no noise.",
    )
    read_noise: float = Field(
        0.0,
        ge=0,
        le=100,
        title="Read noise",
        description="Standard deviation of the camera's read noise, in photons per "
        "pixel. It is added to the photon noise, unless there is no noise at all.",
    )
    nonlinear: Literal["none", "saturated", "saturated-hyperbolic", "switching"] = (
        Field(
            "none",
            title="Nonlinear response",
            description="Response of the fluorophores: none (linear), saturated "
            "(1 - exp(-sI)), saturated-hyperbolic (sI/(1+sI)) or switching (exp(-sI)).",
        )
    )
    saturation: float = Field(
        4.0,
        gt=0,
        le=100,
        title="Saturation",
        description="Strength s of the nonlinear response.",
    )
    size: int = Field(
        256,
        ge=32,
        le=4096,
        title="Size",
        description="Edge length of the frames in pixels.",
    )
    slices: int = Field(
        1,
        ge=1,
        le=1000,
        title="Slices",
        description="Number of slices, each with its own structures.",
    )
    angles: int | None = Field(
        None,
        ge=1,
        le=32,
        title="Angles",
        description="Number of pattern directions; by default 3, or 5 for a nonlinear "
        "response.",
    )
    phases: int | None = Field(
        None,
        ge=3,
        le=32,
        title="Phases",
        description="Number of phases (frames) per direction; by default 3, 5 for "
        "three beams, or 7 for a nonlinear response.",
    )
    beams: Literal[2, 3] = Field(
        2,
        title="Beams",
        description="Number of interfering beams. Three beams produce two patterns in "
        "each direction; the stronger one has half the frequency of the other.",
    )
    order: Literal["apz", "azp", "zap", "paz"] = Field(
        "apz",
        title="Order",
        description="Order of angle (a), phase (p) and slice (z) in the file, "
        "slowest-varying first.",
    )
    na: float = Field(
        1.4,
        gt=0,
        le=1.515,
        title="Numerical aperture",
        description="Numerical aperture of the objective.",
    )
    wavelength: float = Field(
        525.0,
        gt=100,
        le=5000,
        title="Wavelength (nm)",
        description="Emission wavelength in nm.",
    )
    pixel: float = Field(
        65.0,
        gt=1,
        le=5000,
        title="Pixel size (nm)",
        description="Edge length of a camera pixel in the sample plane, in nm.",
    )
    frequency: float | None = Field(
        None,
        gt=0.1,
        le=1.2,
        title="Pattern frequency",
        description="Frequency of the (finest) pattern relative to the cut-off; by "
        "default 0.85.",
    )
    modulation: float = Field(
        0.9,
        ge=0,
        le=1,
        title="Modulation",
        description="Contrast of the pattern, from 0 to 1.",
    )
    offset: float = Field(
        100.0,
        ge=0,
        le=1e4,
        title="Offset",
        description="Grey value without light (camera offset).",
    )
    bleaching: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Bleaching",
        description="Fraction of the light lost from the first frame to the last.",
    )
    haze: float = Field(
        0.0,
        ge=0,
        le=100,
        title="Haze",
        description="Out-of-focus light relative to in-focus light.",
    )
    phase_error: float = Field(
        0.0,
        ge=0,
        le=90,
        title="Phase error",
        description="Standard deviation of the random errors of the phases, in "
        "degrees.",
    )
    seed: int = Field(0, ge=0, title="Seed", description="Random seed.")

    @model_validator(mode="after")
    def _check_phases(self) -> Self:
        if self.phases is not None and self.phases < self._fewest_phases():
            raise ValueError(
                "three beams produce two patterns in each direction, which "
                f"{self.phases} phases cannot separate: use at least "
                f"{self._fewest_phases()} phases"
            )
        return self

    @model_validator(mode="after")
    def _check_period(self) -> Self:
        if self.cut_off() * (self.frequency or 0.85) >= 0.5:
            raise ValueError(
                "the pattern has a period below two pixels: use a smaller pixel size, "
                "numerical aperture or frequency"
            )
        return self

    def cut_off(self) -> float:
        """Return the cut-off frequency of the objective in cycles per pixel."""
        return 2 * self.na / self.wavelength * self.pixel

    def _fewest_phases(self) -> int:
        """Return the number of bands of linear illumination: one phase for each."""
        return 2 * self.beams - 1

    def scene(self) -> SimScene:
        """Convert the settings to pixels."""
        nonlinear = self.nonlinear != "none"
        phases = 7 if nonlinear else self._fewest_phases()
        return SimScene(
            size=self.size,
            angles=self.angles or (5 if nonlinear else 3),
            phases=self.phases or phases,
            beams=self.beams,
            cut_off=self.cut_off(),
            frequency=self.frequency or 0.85,
            modulation=self.modulation,
            response="linear" if not nonlinear else self.nonlinear,
            saturation=self.saturation,
            snr=self.snr,
            read_noise=self.read_noise,
            offset=self.offset,
            bleaching=self.bleaching,
            haze=self.haze,
            phase_error=self.phase_error,
            seed=self.seed,
        )


@dataclass(frozen=True)
class SimulatedSim:
    """Files of simulated frames.

    Attributes
    ----------
    files : dict of Path
        ``raw``, ``truth`` and ``patterns``.
    patterns : PatternSet
    """

    files: dict[str, Path]
    patterns: PatternSet


def simulate_sim_steps(
    out: str | Path,
    config: SimulateSimConfig | None = None,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SimulatedSim]:
    """Simulate frames, and write them with the simulated object and patterns.

    Parameters
    ----------
    out : path
        Folder for the files (`FILES`); created if missing.
    config : SimulateSimConfig, optional
    overwrite : bool

    Yields
    ------
    Step
        `BlockDone`, counted in planes.

    Returns
    -------
    SimulatedSim

    Raises
    ------
    FileError
        If a file cannot be written, or exists and `overwrite` is False.
    Cancelled
        If `should_stop` returns True; no files are kept.
    """
    config = config or SimulateSimConfig()
    folder = Path(out).expanduser()
    files = {key: folder / name for key, name in FILES.items()}
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder. Choose another one.")
    existing = [path.name for path in files.values() if path.exists()]
    if existing and not overwrite:
        raise FileError(
            f"{folder} already contains {', '.join(existing)}. Choose another folder, "
            "or allow overwriting (--overwrite)."
        )
    yield StageStarted(message=f"Simulating frames: {config.structure}")
    planes: list[SimulatedFrames] = []
    scene = config.scene()
    for plane in range(config.slices):
        if should_stop():
            raise Cancelled("Stopped before the simulation was complete.")
        planes.append(simulate_frames(config.structure, replace(scene, plane=plane)))
        yield BlockDone(plane + 1, config.slices)
    with atomic.created_folder(folder):
        _write(planes, files, config, overwrite)
    return SimulatedSim(files, planes[0].patterns)


def _write(
    planes: list[SimulatedFrames],
    files: dict[str, Path],
    config: SimulateSimConfig,
    overwrite: bool,
) -> None:
    scene = config.scene()
    stack = np.stack([plane.frames for plane in planes], axis=2)  # axes a, p, z, Y, X
    axes = ["apz".index(letter) for letter in config.order]
    stack = stack.transpose((*axes, 3, 4)).reshape(-1, scene.size, scene.size)
    edge = config.pixel / 1000
    optics = {
        "numerical_aperture": config.na,
        "refractive_index": 1.515,
        "wavelengths": [config.wavelength],
    }
    record: AnyDict = provenance.record(
        "simulate sim",
        inputs={},
        settings=config.model_dump(mode="json"),
        optics=optics,
    )
    rounded = np.clip(np.rint(stack), 0, 65535).astype(np.uint16)
    raw = Volume(
        rounded if config.snr else stack,
        "ZYX",
        (0.125, edge, edge),
        "µm",
        name="raw",
        provenance=(record,),
    )
    truth = np.stack([plane.truth for plane in planes])
    fine = edge / 4
    known = Volume(
        truth if len(planes) > 1 else truth[0],
        "ZYX" if len(planes) > 1 else "YX",
        (0.125, fine, fine) if len(planes) > 1 else (fine, fine),
        "µm",
        (0.0, -1.5 * fine, -1.5 * fine) if len(planes) > 1 else (-1.5 * fine,) * 2,
        name="truth",
        provenance=(record,),
    )
    patterns = replace(planes[0].patterns, pixel_size=edge, unit="µm")
    with atomic.replacing_all(list(files.values()), overwrite=overwrite) as made:
        io.write(raw, made[files["raw"]])
        io.write(known, made[files["truth"]])
        atomic.write_text(made[files["patterns"]], dump_yaml(patterns.to_dict()))
