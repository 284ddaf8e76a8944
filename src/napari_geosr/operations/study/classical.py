"""Cells of a study that use classical algorithms, with tuned settings.

Settings are chosen by comparison with views that the algorithm did not use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step, recount
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.inference.compute import exact_settings
from napari_geosr.operations.reconstruct import ReconstructionInput, prepare_steps
from napari_geosr.operations.reconstruct.rows import in_bands
from napari_geosr.operations.study.cell import AlgorithmResult, Cell, Rows, StudyContext
from napari_geosr.operations.study.judge import Mask
from napari_geosr.operations.study.reference import circle, sample_steps
from napari_geosr.operations.study.subset import tuning_pair
from napari_geosr.tomography.algorithms.fbp import Config, reconstruct_slices
from napari_geosr.tomography.preprocess import LineIntegrals

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ParallelGeometry

#: Number of rows on which settings are tuned.
_ROWS = 8


def classical_steps(
    cell: Cell,
    algorithm: str,
    candidates: Sequence[AnyMapping],
    should_stop: ShouldStop,
) -> Generator[Step, None, AlgorithmResult]:
    """Reconstruct the evaluated rows with an algorithm of `tomography.algorithms`.

    Parameters
    ----------
    candidates : sequence of mapping
        Settings in ascending order, one of which is chosen unless the user set them.
    """
    context, scan = cell.context, cell.scan()
    settings, tuned_on = cell.options, {}
    free = free_settings(cell, candidates)
    if free:
        chosen, target_description = yield from _tune_steps(
            cell, algorithm, free, should_stop
        )
        settings, tuned_on = {**chosen, **settings}, {"tuned_on": target_description}
    path = cell.folder / "few-judged.ome.tif"
    if algorithm != "fbp" or settings:
        # The file name depends on the settings, so that a result obtained with other
        # settings is not reused.
        text = json.dumps(settings, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        path = cell.folder / f"{cell.name}-{digest}.ome.tif"
    path, seconds = yield from context.cached_steps(
        scan,
        context.evaluated_rows,
        path,
        should_stop,
        algorithm=algorithm,
        options=settings,
    )
    voxels = context.cropped(io.read(path).data)
    settings |= tuned_on
    return AlgorithmResult(voxels, seconds, settings=settings)


def free_settings(cell: Cell, candidates: Sequence[AnyMapping]) -> list[AnyMapping]:
    """Return the candidates that are compatible with the user's settings."""
    if not cell.context.config.tune:
        return []
    given = cell.options.keys()
    return [settings for settings in candidates if not given & settings.keys()]


def _tune_steps(
    cell: Cell,
    algorithm: str,
    candidates: Sequence[AnyMapping],
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[AnyDict, str]]:
    """Find the candidate that agrees best with unused measurements.

    Slices are projected in the directions of the unused views. The measurements minus
    these projections are reconstructed by filtered back-projection, which gives the
    error of the slices, plus noise that is the same for all candidates. The candidate
    for which the mean square of this reconstruction within the sample is smallest is
    chosen. (A direct comparison with a reconstruction of the unused views would favour
    blurred slices, and would count streaks twice, because the two reconstructions have
    opposite streaks.)

    Parameters
    ----------
    candidates : sequence of mapping
        Ordered so that the error first falls and then rises; the search starts at the
        middle candidate.

    Returns
    -------
    candidate : dict
    target_description : str
        Description, in a few words, of the data with which candidates were compared.
    """
    context = cell.context
    # Candidates are compared with unused views, not with the reference, so any rows can
    # be used.
    first, stop = context.training_rows or context.evaluated_rows
    n = min(_ROWS, stop - first)
    start = (first + stop - n) // 2
    rows = (start, start + n)
    source, target, target_description = tuning_pair(
        context.scan, cell.subset, context.config
    )
    source, target = (_load_rows(s, rows, should_stop) for s in (source, target))
    measured = yield from _measured_steps(context, target, rows, algorithm, should_stop)
    errors: dict[int, float] = {}

    def error_steps(i: int) -> Generator[Step, None, float]:
        if not 0 <= i < len(candidates):
            return np.inf
        if i not in errors:
            slices = yield from context.in_memory_steps(
                source,
                (0, n),
                should_stop,
                algorithm=algorithm,
                options={**cell.options, **candidates[i]},
            )
            errors[i] = measured.error(slices.data, should_stop)
        return errors[i]

    at = (len(candidates) - 1) // 2
    for step in (1, -1):
        while (yield from error_steps(at + step)) < (yield from error_steps(at)):
            at += step
    return dict(candidates[at]), target_description


@dataclass(frozen=True, eq=False)
class _ViewIntegrals:
    """Line integrals of some detector rows, and the sample mask of their slices.

    Attributes
    ----------
    sinogram : Tensor of shape (row, angle, column), float32
    inside : ndarray of bool of shape (row, N, N)
        Sample mask, cropped to the size of the study.
    """

    context: StudyContext
    ready: ReconstructionInput
    sinogram: Tensor
    geometry: ParallelGeometry
    inside: Mask

    def error(self, slices: ArrayLike, should_stop: ShouldStop) -> float:
        """Return the mean squared difference within the sample, including noise."""
        import torch

        from napari_geosr.physics.projection.projector import project

        total = 0.0
        with exact_settings(self.ready.config.threads), torch.no_grad():
            for i, inside in enumerate(self.inside):
                if should_stop():
                    raise Cancelled("Stopped while choosing settings.")
                plane = np.ascontiguousarray(slices[i : i + 1])
                volume = torch.from_numpy(plane).to(self.ready.device)
                made = project(volume, self.geometry)
                left = self.sinogram[i : i + 1].to(made) - made
                off = reconstruct_slices(_deblurred(left), self.geometry, Config())
                there = self.context.cropped(off.cpu().numpy())[0, inside]
                total += float(np.square(there, dtype=np.float64).sum())
        return total / max(1, int(self.inside.sum()))


def _deblurred(sinogram: Tensor) -> Tensor:
    """Compensate for the blur due to pixels (sinc) and interpolation (sinc²).

    Otherwise, this blur would hide noise that varies from voxel to voxel.
    """
    import torch

    n = sinogram.shape[-1]
    blur = torch.sinc(torch.fft.rfftfreq(2 * n)) ** 3
    spectrum = torch.fft.rfft(sinogram, n=2 * n) / blur.to(sinogram.device)
    sharp: Tensor = torch.fft.irfft(spectrum, n=2 * n)[..., :n]
    return sharp


def _measured_steps(
    context: StudyContext,
    target: Projections,
    rows: Rows,
    algorithm: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, _ViewIntegrals]:
    """Prepare the data with which slices of `algorithm` are compared.

    Parameters
    ----------
    target : Projections
        Projections restricted to `rows`.
    rows : (int, int)
        First row in the whole scan, and the row after the last.
    """
    import torch

    inside = yield from _sample_mask_steps(context, rows, should_stop)
    config = context.config_for((0, target.n_rows), algorithm=algorithm)
    ready = yield from recount(prepare_steps(target, config, should_stop=should_stop))
    prepared = LineIntegrals(ready.scan, ready.config.preparation(), ready.incident)
    lines, _ = prepared.rows(0, target.n_rows)
    sinogram, geometry = ready.sinogram(lines)
    tensor = torch.from_numpy(np.ascontiguousarray(sinogram))
    return _ViewIntegrals(context, ready, tensor, geometry, inside)


def _sample_mask_steps(
    context: StudyContext, rows: Rows, should_stop: ShouldStop
) -> Generator[Step, None, Mask]:
    """Find the sample mask of rows; the field of view if no sample is found."""
    first, stop = rows
    volume: Volume | None = None
    if context.mask is None and context.config.sample == "auto":
        path, _ = yield from context.full_scan_steps(rows, should_stop)
        volume = io.read(path)

    def slices() -> Generator[Step, None, Volume]:
        yield from ()
        assert volume is not None
        return volume

    inside: Mask | None = None
    steps = sample_steps(context, rows, slices, should_stop)
    with suppress(VolumeError):
        # Warnings about the sample are given for the evaluated rows, not here.
        inside = yield from recount(steps)
    if inside is None or not inside.any():
        shape = (stop - first, context.size, context.size)
        inside = np.broadcast_to(circle(context.size), shape)
    return inside


def _load_rows(scan: Projections, rows: Rows, should_stop: ShouldStop) -> Projections:
    """Load rows into memory, where all candidates can use them."""
    part = scan.rows(*rows)
    banded = in_bands(part, part.n_rows, should_stop)
    every = slice(None)

    def read(frames: Any) -> Any:
        whole = (every, slice(0, part.n_rows), every)
        return None if frames is None else np.asarray(frames[whole])

    return part.replace(
        data=read(banded.data), flats=read(banded.flats), darks=read(banded.darks)
    )
