"""Prepares the cells of a study: checks, record, shared data."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.core.errors import ConfigError, ProjectionsError, VolumeError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    prepare_steps,
)
from napari_geosr.operations.reconstruct.fewer_views import reason_without_counts
from napari_geosr.operations.reconstruct.resume import scan_entry_steps
from napari_geosr.operations.study.algorithms import Algorithm, find_algorithm
from napari_geosr.operations.study.cell import StudyContext
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.store import StudyStore
from napari_geosr.operations.study.subset import (
    all_subsets,
    check_subsets,
    is_target_noisier,
    photon_note,
)
from napari_geosr.tomography.flat_fields import incident_counts

#: Number of rows omitted between those for training and those for evaluation: a network
#: uses two slices on each side.
_GAP = 4
#: Minimum number of rows for training; with fewer, all rows are evaluated.
_MIN_ROWS = 16


def check_study(scan: Projections, config: StudyConfig) -> None:
    """Refuse settings that are certain to fail for this scan."""
    if scan.geometry != "parallel":
        raise ProjectionsError(
            f"{scan.title} is a {scan.geometry}-beam scan: a study requires a "
            "parallel beam, for which detector rows are independent. Use a "
            "parallel-beam scan."
        )
    check_subsets(scan, config)
    learned = [name for name in config.algorithms if find_algorithm(name).method]
    if learned and scan.n_rows < _MIN_ROWS:
        rows = "1 row" if scan.n_rows == 1 else f"{scan.n_rows} rows"
        raise ConfigError(
            f"{scan.title} has {rows}, but at least {_MIN_ROWS} are needed: one half "
            f"is used for training. Omit {', '.join(learned)} (--algorithms)."
        )


def study_warnings(scan: Projections, config: StudyConfig) -> list[str]:
    """Return warnings about training on pairs from one scan."""
    paired = [
        algorithm
        for algorithm in map(find_algorithm, config.algorithms)
        if algorithm.method not in (None, "noise2inverse")
    ]
    said = []
    if paired and (what := reason_without_counts(scan)):
        said.append(
            f"The scan contains {what} instead of counts, so its photons cannot be "
            f"divided: {_titles(paired)} learn to predict the reconstruction of the "
            "whole scan, which shares noise with their input, and they preserve this "
            "noise. Noise2Inverse is not affected."
        )
    # For shorter exposures, the note on photons is issued when such scans are derived.
    quick = config.acquisition == "continuous" and config.light == "one"
    shorter = quick or min(config.exposure) < 1
    if paired and not shorter and (note := photon_note(scan, config)):
        said.append(note)
    adversarial = [one for one in paired if one.method == "tomogan"]
    noisier = [
        subset.title
        for subset in all_subsets(config, scan.n_angles)
        if is_target_noisier(scan, subset, config)
    ]
    if adversarial and noisier:
        said.append(
            f"With {', '.join(noisier)}, the training targets have fewer photons than "
            f"the inputs, so {_titles(adversarial)} will learn the targets' noise "
            "texture."
        )
    return said


def _titles(algorithms: Sequence[Algorithm]) -> str:
    return ", ".join(algorithm.title for algorithm in algorithms)


def shape_of(
    scan: Projections, reference: Volume | None, mask: Volume | None
) -> tuple[int, int, int]:
    """Return the shape of the reconstructions, and check that given volumes have it.

    Parameters
    ----------
    scan : Projections
    reference, mask : Volume or None
        Volumes that must have the shape of the reconstruction.

    Returns
    -------
    (int, int, int)
        Along Z, Y and X.

    Raises
    ------
    VolumeError
        If a volume has a different shape.
    """
    size = scan.n_columns
    for word, volume in (("reference", reference), ("mask", mask)):
        if volume is None:
            continue
        shape = one_volume(volume).shape
        if word == "reference" and len(shape) == 3 and shape[1] == shape[2]:
            size = shape[1]
        if shape != (scan.n_rows, size, size):
            raise VolumeError(
                f"The {word} {volume.title} has shape {' × '.join(map(str, shape))}, "
                f"but the reconstruction has {scan.n_rows} × {size} × {size}. Use a "
                f"{word} of that shape, with each slice at the same position.",
                fields=[word],
            )
    return scan.n_rows, size, size


def record_steps(
    scan: Projections,
    config: StudyConfig,
    reference: Volume | None,
    mask: Volume | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, AnyDict]:
    """Create the record of a study: inputs with checksums, and settings.

    Parameters
    ----------
    scan : Projections
    config : StudyConfig
    reference, mask : Volume or None
        If given, they are used instead of those derived from the whole scan.
    should_stop : callable
    """
    given = {"reference": reference, "mask": mask}
    entry = yield from scan_entry_steps(scan, should_stop)
    record = yield from provenance.record_steps(
        "study projections",
        inputs={key: volume for key, volume in given.items() if volume is not None},
        settings=config.model_dump(mode="json"),
        should_stop=should_stop,
    )
    # Cells use the scan's own rotation axis if the settings contain none.
    inputs = {"projections": {**entry, "centre": scan.centre}, **record["inputs"]}
    return {**record, "inputs": inputs}


def context_steps(
    scan: Projections,
    config: StudyConfig,
    store: StudyStore,
    shape: tuple[int, int, int],
    mask: Volume | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, StudyContext]:
    """Find the rotation axis and the geometry that all reconstructions share.

    Parameters
    ----------
    scan : Projections
    config : StudyConfig
    store : StudyStore
        Contains the folders for temporary files and trained models.
    shape : (int, int, int)
        Shape of the reconstructions.
    mask : Volume or None
        Sample mask.
    should_stop : callable
    """
    reconstruct_config = ReconstructConfig.create(
        filter=config.filter,
        stripes=config.stripes,
        nonfinite=config.nonfinite,
        centre=config.centre,
        size=shape[1],
        device=config.device,
        threads=config.threads,
        memory=config.memory,
    )
    ready = yield from prepare_steps(scan, reconstruct_config, should_stop=should_stop)
    found = {
        "centre": float(ready.centre.column),
        "full_turn": "join" if ready.joined else "keep",
    }
    n = scan.n_rows
    half = n // 2
    small = n < _MIN_ROWS
    return StudyContext(
        scan=_with_beam(scan),
        config=config,
        reconstruction=reconstruct_config.model_copy(update=found),
        evaluated_rows=(0, n) if small else (half + _GAP // 2, n),
        training_rows=None if small else (0, half - _GAP // 2),
        folder=store.work,
        models=store.models,
        mask=mask,
    )


def _with_beam(scan: Projections) -> Projections:
    """Return the scan, with a uniform flat field of its beam intensity if it has none.

    All cells then use the beam of the whole scan, scaled for shorter exposures.
    """
    if scan.flats is not None or scan.is_line_integrals:
        return scan
    beam = np.full((1, *scan.shape[1:]), incident_counts(scan), np.float32)
    if scan.darks is not None:
        beam += np.asarray(scan.darks[:], np.float32).mean(axis=0)
    return scan.replace(flats=beam)
