"""GANrec: reconstruct by fitting networks to the projections alone, as a job.

Detector rows are processed in blocks. Each block has its own fit, which starts from the
networks of the previous block. A job that was stopped or killed resumes from the
iteration of its last checkpoint, with the same result as an uninterrupted run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr import io, learning
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.machine.allocation import within_allocation
from napari_geosr.core.steps import (
    CheckpointSaved,
    JudgingStarted,
    PreviewReady,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.learning.energy import Meter
from napari_geosr.learning.training import checkpoint
from napari_geosr.operations.ganrec.config import (
    NEEDS,
    OPERATION,
    PURPOSE,
    GanrecConfig,
    GanrecJob,
)
from napari_geosr.operations.reconstruct import ReconstructionInput, prepare_steps
from napari_geosr.operations.reconstruct.blocks import reconstruct_rows
from napari_geosr.operations.reconstruct.inputs import open_projections
from napari_geosr.operations.reconstruct.resume import differences, identity_of
from napari_geosr.operations.reconstruct.rows import in_bands
from napari_geosr.operations.reconstruct.run import record_steps
from napari_geosr.operations.train.object_fit import ObjectFit
from napari_geosr.operations.train.parts import require_one_process
from napari_geosr.tomography.iterations import ignore_iteration
from napari_geosr.tomography.preprocess import LineIntegrals

if TYPE_CHECKING:
    from napari_geosr.learning.sinogram_fit import SinogramFit

__all__ = ["NEEDS", "OPERATION", "PURPOSE", "GanrecConfig", "GanrecJob", "ganrec_steps"]

_SUFFIX = ".ome.tif"


def ganrec_steps(
    job: GanrecJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Reconstruct in `folder`, with checkpoints, or resume an earlier run.

    Parameters
    ----------
    folder : Path
        Folder of the job; receives ``checkpoints/``, ``slices/`` and finally
        ``result/NAME.ome.tif``.
    keep_unfinished : callable
        Called after `should_stop` has ended the run; returns whether to write the
        unfinished volume. The current networks then generate the slices that have not
        been fitted yet.

    Returns
    -------
    Path or None
        Path of the volume; None if the run was stopped before it was written.

    Raises
    ------
    GeoSRError
        If the run fails; the progress so far is in the last checkpoint.
    """
    require_one_process("GANrec is fitted")
    job.check()
    config = job.training
    assert config.projections is not None
    scan = open_projections(config.projections, config.reading())
    settings = config.reconstruction(
        every=config.every, device=config.device, threads=config.threads
    )
    meter = Meter(config.country)
    try:
        ready = yield from prepare_steps(scan, settings, should_stop=should_stop)
        record = yield from record_steps(ready, should_stop)
        if ready.scan.geometry == "parallel" and ready.scan.n_angles > 2 * ready.size:
            yield WarningIssued(
                message=f"With {ready.scan.n_angles} projections, filtered "
                "back-projection is as good and much faster: GANrec is "
                "intended for scans with few projections."
            )
        blocks = _Blocks(config, ready, folder, record, meter)
        meter.resume(folder / "energy.json", blocks.done)
        with meter:
            yield from blocks.fit_steps(should_stop, keep_unfinished)
    except Cancelled:
        return None
    yield JudgingStarted(message="Writing the volume")
    path = folder / "result" / f"{config.name}{_SUFFIX}"
    figures = meter.figures()
    _assemble(ready, blocks, path, _record(record, job, blocks, figures))
    yield Step(blocks.total, blocks.total)
    return path


class _Blocks(ObjectFit):
    """Blocks of rows, which are fitted one after another, and their stored slices."""

    def __init__(
        self,
        config: GanrecConfig,
        ready: ReconstructionInput,
        folder: Path,
        record: AnyMapping,
        meter: Meter,
    ) -> None:
        super().__init__(meter, config.checkpoint_seconds)
        self.config, self.ready = config, ready
        self.checkpoints, self.slices = folder / "checkpoints", folder / "slices"
        self.prepared = LineIntegrals(
            in_bands(ready.scan, max(ready.band_rows(), config.together)),
            ready.config.preparation(),
            ready.incident,
        )
        self.starts = range(0, ready.scan.n_rows, config.together)
        #: Facts that must match those of a checkpoint for a run to be resumed from it.
        self.of = {
            "input": identity_of(record["inputs"]["input"]),
            "centre": record["centre"]["column"],
            **{n: getattr(config, n) for n in ("seed", "together", "every")},
        }
        self.state = checkpoint.load(self.checkpoints)
        if self.state is not None:
            self._check(self.state["of"])
        self.block = 0 if self.state is None else int(self.state["block"])
        self.iteration = 0 if self.state is None else int(self.state["iteration"])
        self.fit: SinogramFit | None = None

    def _check(self, before: AnyMapping) -> None:
        """Refuse the checkpoint of another reconstruction."""
        scan = before["input"]
        if isinstance(scan, str):  # an earlier release stored only the checksum
            scan = {"checksum": scan}
        words = {
            "centre": "a different rotation centre",
            "seed": "a different seed",
            "together": "different blocks of slices",
            "every": "different projections of the scan",
        }
        found = differences(scan, self.of["input"])
        found += [words[key] for key in words if before[key] != self.of[key]]
        if found:
            raise ConfigError(
                f"This reconstruction was started with {' and '.join(found)}: "
                "resuming it would mix two reconstructions. To resume, use the "
                "original settings and projections; otherwise start again in another "
                "folder."
            )

    @property
    def done(self) -> int:
        """Number of iterations done, over all blocks."""
        return self.block * self.config.steps + self.iteration

    @property
    def total(self) -> int:
        """Number of iterations of all blocks."""
        return len(self.starts) * self.config.steps

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last iteration."""
        return self.current.rate()

    @property
    def is_fitted(self) -> bool:
        """Whether the fit of the current block is finished."""
        return self.current.done

    @property
    def current(self) -> SinogramFit:
        """The fit of the current block."""
        assert self.fit is not None
        return self.fit

    def rows(self, block: int) -> tuple[int, int]:
        start = self.starts[block]
        return start, min(start + self.config.together, self.ready.scan.n_rows)

    def file(self, block: int) -> Path:
        return self.slices / f"{self.rows(block)[0]:06d}.npy"

    def fit_steps(
        self, should_stop: ShouldStop, keep_unfinished: Callable[[], bool]
    ) -> Generator[Step, None, None]:
        """Fit all blocks; if stopped, save a checkpoint and raise `Cancelled`."""
        yield StageStarted(
            message=f"Fitting {self.ready.scan.n_rows} slices to "
            f"{self.ready.scan.n_angles} projections",
            total=self.total,
        )
        ended = False
        while self.block < len(self.starts):
            self.fit = fit = self._make_fit(self.fit)
            self.images_per_step = len(fit.sinogram)
            if not ended:
                yield from self.loop_steps(should_stop)
                if not fit.done:
                    yield self.save()
                yield self.preview()
            if not fit.done and not ended:
                if not keep_unfinished():
                    raise Cancelled("Stopped before all slices were fitted.")
                ended = True  # the current networks generate the remaining slices
            self._keep(fit)
            self.state = None
            self.block, self.iteration = self.block + 1, 0

    def _make_fit(self, before: SinogramFit | None) -> SinogramFit:
        """Return the fit of the current block: resumed or initialised from `before`."""
        import torch

        default_threads = within_allocation(torch.get_num_threads())
        torch.set_num_threads(self.config.threads or default_threads)
        rows, _ = self.prepared.rows(*self.rows(self.block))
        start = reconstruct_rows(self.ready, rows, never_stop, ignore_iteration)
        sinogram, geometry = self.ready.sinogram(rows)
        fit = learning.sinogram_fit.SinogramFit(
            torch.from_numpy(np.ascontiguousarray(sinogram)).to(self.ready.device),
            geometry,
            torch.from_numpy(start).to(self.ready.device),
            self.config.fit(),
        )
        if self.state is not None:
            fit.restore(self.state["fit"])
        elif before is not None:
            fit.start_from(before)
        return fit

    def step(self) -> Mapping[str, float]:
        """Perform one iteration and return its losses."""
        losses = self.current.step()
        self.iteration = self.current.iteration
        return losses

    def preview(self) -> PreviewReady:
        """Return the middle slice of the current block."""
        start, stop = self.rows(self.block)
        at = (stop - start) // 2
        ready = self.ready
        z, y, x = ready.origin
        return PreviewReady(
            self.done,
            self.total,
            Volume(
                self.current.slices()[at : at + 1].cpu().numpy(),
                "ZYX",
                ready.voxel_size,
                ready.scan.unit,
                (z + (start + at) * ready.voxel_size[0], y, x),
                name="preview",
            ),
        )

    def save(self) -> CheckpointSaved:
        """Write a checkpoint."""
        fit = self.current
        state = {
            "of": self.of,
            "block": self.block,
            "iteration": fit.iteration,
            "fit": fit.state(),
        }
        path = checkpoint.save(self.checkpoints, state)
        return CheckpointSaved(self.done, self.total, path)

    def _keep(self, fit: SinogramFit) -> None:
        """Store the slices of a finished block until the volume is assembled."""
        file = self.file(self.block)
        with atomic.explained(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(file, overwrite=True, suffix=".npy") as temporary:
            np.save(temporary, fit.slices().cpu().numpy())

    def kept(self) -> Iterator[tuple[slice, Any]]:
        """Yield the row range and the slices of each block."""
        for block in range(len(self.starts)):
            yield slice(*self.rows(block)), np.load(self.file(block))


def _record(
    record: AnyMapping,
    job: GanrecJob,
    blocks: _Blocks,
    figures: AnyMapping,
) -> AnyDict:
    return {
        **record,
        "operation": OPERATION,
        "settings": job.training.model_dump(mode="json"),
        "training": {"iterations": blocks.total, **figures},
        "complete": True,
    }


def _assemble(
    ready: ReconstructionInput, blocks: _Blocks, path: Path, record: AnyMapping
) -> None:
    """Assemble the slices into the volume and remove the temporary files."""
    with atomic.explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with io.create(
        path,
        io.OutputSpec(
            shape=ready.shape,
            dtype=np.float32,
            axes="ZYX",
            voxel_size=ready.voxel_size,
            unit=ready.scan.unit,
            origin=ready.origin,
            provenance=(*ready.given.provenance, record),
        ),
        overwrite=True,
    ) as output:
        for rows, slices in blocks.kept():
            output.array[rows] = slices
    shutil.rmtree(blocks.slices, ignore_errors=True)
