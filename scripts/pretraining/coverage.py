"""Half-width of the porosity interval, in standard deviations, needed for each scan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from napari_geosr import measure_porosity, restore_with_uncertainty
from napari_geosr.core.volume import Volume
from napari_geosr.measure.interval import needed_factor
from napari_geosr.models import zoo
from pretraining.uncertain_scans import CONDITIONS, Case, cases, draw

#: Minimum size of a counted pore, in voxels of the scan.
_LEAST_VOXELS = 8


@dataclass(frozen=True)
class Outcome:
    """Measured values of a restored scan, with the known values.

    Attributes
    ----------
    truth, porosity : float
        Known porosity, and that of the restored volume.
    needed : float
        Half-width in standard deviations at which the interval reaches the true value,
        with the sign of the error.
    pores : int
        Known number of pores.
    interval, pore_interval : tuple of float, or None
        Intervals with the calibration on the model's card; None without one.
    """

    kind: str
    resolution: str
    number: int
    truth: float
    porosity: float
    needed: float
    pores: int
    interval: tuple[float, float] | None
    pore_interval: tuple[float, float] | None

    @property
    def is_held(self) -> bool:
        """Whether the interval contains the true porosity."""
        return (
            self.interval is not None
            and self.interval[0] <= self.truth <= self.interval[1]
        )

    @property
    def holds_pores(self) -> bool:
        """Whether the interval of the number of pores contains the true number."""
        ends = self.pore_interval
        return ends is not None and ends[0] <= self.pores <= ends[1]


def outcomes(
    name: str, seed: int, n_of_each: int, work: Path, threads: int = 1
) -> Iterator[Outcome]:
    """Restore and measure all scans for a model; results stored in `work` are reused.

    Parameters
    ----------
    name : str
        Name of a bundled model.
    work : Path
        Folder for the results, in files named by weights and calibration.
    """
    card = zoo.find(name).card
    factor = "none" if card.uncertainty is None else f"{card.uncertainty.factor:.6g}"
    path = work / f"{name}-{card.weights_sha256[:12]}-{factor}-{seed}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = [Outcome(**json.loads(line)) for line in lines]
    for i, case in enumerate(cases(n_of_each)):
        if i == len(known):
            known.append(_outcome(name, case, seed, threads))
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(known[-1])) + "\n")
        yield known[i]


def _outcome(name: str, case: Case, seed: int, threads: int) -> Outcome:
    conditions = CONDITIONS[name]
    scan = draw(case, conditions, seed)
    mean, deviation = restore_with_uncertainty(
        Volume(scan.noisy, "ZYX", (1.0,) * 3, "µm", name="scan"), name, threads=threads
    )
    phase = "dark" if scan.contrast > 0 else "bright"
    least = _LEAST_VOXELS * conditions.factor**3
    report = measure_porosity(mean, deviation=deviation, phase=phase, min_voxels=least)
    true = measure_porosity(
        mean.replace(data=scan.mask.astype(np.uint8), provenance=()),
        threshold=0.5,
        phase="bright",
        min_voxels=least,
    )
    assert report.interval is not None
    return Outcome(
        **asdict(case),
        truth=float(scan.mask.mean()),
        porosity=report.porosity,
        needed=needed_factor(
            np.asarray(mean.data),
            np.asarray(deviation.data),
            report.threshold,
            phase,
            float(scan.mask.mean()),
        ),
        pores=true.pore_count,
        interval=report.interval.porosity,
        pore_interval=report.interval.pore_count,
    )
