"""One cell of a study: the judged rows from so many projections, by one algorithm."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    ResultReady,
    ShouldStop,
    Step,
    Warned,
    counted,
    relay,
)
from napari_geosr.core.volume import Volume
from napari_geosr.io import atomic
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    Reconstructed,
    reconstruct_steps,
)
from napari_geosr.operations.reconstruct_continued import left_unfinished
from napari_geosr.operations.study_config import StudyConfig
from napari_geosr.operations.study_taken import Taken, take, to_learn_on, to_tune_on

Rows = tuple[int, int]
Voxels = npt.NDArray[np.float32]

#: Rows on which the settings of classical algorithms are chosen.
_TUNING_ROWS = 4


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an algorithm made of few projections.

    Attributes
    ----------
    voxels : ndarray of shape (row, N, N), float32
        Of the judged rows.
    seconds : float
        To reconstruct these rows, and restore them with a trained network.
    training_seconds : float
        To train the network.
    settings : mapping
        What was chosen for this cell.
    """

    voxels: Voxels
    seconds: float
    training_seconds: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bench:
    """What all cells of a study share.

    Attributes
    ----------
    scan : Projections
        The whole scan.
    reconstruction : ReconstructConfig
        With the rotation axis, the size and the beam that hold for all.
    judged : (int, int)
        Rows that are measured: first, and the row after the last.
    taught : (int, int) or None
        Rows that networks are trained on and settings are chosen on.
    folder : Path
        For what is kept only until a number of projections is done with.
    models : Path
        Gets the trained models.
    """

    scan: Projections
    config: StudyConfig
    reconstruction: ReconstructConfig
    judged: Rows
    taught: Rows | None
    folder: Path
    models: Path

    def full_steps(
        self, rows: Rows, should_stop: ShouldStop
    ) -> Generator[Step, None, tuple[Path, float]]:
        """Reconstruct rows from all projections, once: path, seconds."""
        path = self.folder / "full" / f"rows-{rows[0]}-{rows[1]}.ome.tif"
        steps = self.kept_steps(self.scan, rows, path, should_stop)
        return (yield from steps)

    def kept_steps(
        self,
        scan: Projections,
        rows: Rows,
        path: Path,
        should_stop: ShouldStop,
        **changes: Any,
    ) -> Generator[Step, None, tuple[Path, float]]:
        """Reconstruct rows of a scan into a file, or take the one that is there.

        Returns
        -------
        path : Path
        seconds : float
            That it took when it was made.
        """
        if not path.exists():
            with atomic.explained(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            config = self._config(rows, changes)
            steps = reconstruct_steps(
                scan,
                config,
                out=path,
                unfinished=left_unfinished(path),
                should_stop=should_stop,
            )
            # What is to be said of the scan is said once, of the whole one.
            told = (Warned,) if scan is self.scan else ()
            done: Reconstructed = yield from relay(counted(steps, *told))
            if not done.complete:
                raise Cancelled("Stopped while projections were reconstructed.")
        record = io.read(path).provenance[-1]
        return path, float(record["run"]["seconds"])

    def in_memory_steps(
        self, scan: Projections, rows: Rows, should_stop: ShouldStop, **changes: Any
    ) -> Generator[Step, None, Voxels]:
        """Reconstruct rows of a scan."""
        steps = reconstruct_steps(
            scan, self._config(rows, changes), should_stop=should_stop
        )
        done: Reconstructed = yield from relay(counted(steps))
        if not done.complete:
            raise Cancelled("Stopped while projections were reconstructed.")
        return self.cropped(done.volume)

    def cropped(self, volume: Volume) -> Voxels:
        """Voxels in the size of the study, out of the middle of the slices."""
        edge = (volume.shape[-1] - self.size) // 2
        inner = slice(edge, edge + self.size)
        return np.asarray(volume.data[:, inner, inner])

    @property
    def size(self) -> int:
        """Edge of the slices that are judged."""
        return self.reconstruction.size or self.scan.n_columns

    def _config(self, rows: Rows, changes: Mapping[str, Any]) -> ReconstructConfig:
        values = self.reconstruction.model_dump(exclude_unset=True)
        if changes.get("algorithm", "fbp") != "fbp":
            values.pop("filter", None)
            # Iterations explain all that the detector saw: slices are as wide, and so
            # much wider than what is judged that their middle is the same voxels.
            room = max(0, self.scan.n_columns - self.size)
            values["size"] = self.size + 2 * ((room + 1) // 2)
        return ReconstructConfig.create(**{**values, "rows": rows, **changes})


@dataclass(frozen=True, eq=False)
class Cell:
    """What is taken of the scan, and one algorithm."""

    bench: Bench
    taken: Taken
    name: str

    @property
    def folder(self) -> Path:
        """For what cells of the same projections and exposure share."""
        return self.bench.folder / self.taken.label

    @property
    def options(self) -> dict[str, Any]:
        """Settings that the person gave for this algorithm."""
        return dict(self.bench.config.options.get(self.name, {}))

    def scan(self) -> Projections:
        """What is taken of the whole scan."""
        return take(self.bench.scan, self.taken, self.bench.config)[0]

    def lesson_steps(
        self, rows: Rows, should_stop: ShouldStop
    ) -> Generator[Step, None, tuple[Path, Path]]:
        """Reconstruct rows of what networks learn on: what is given, what shall be."""
        bench = self.bench
        given, wanted = to_learn_on(bench.scan, self.taken, bench.config)
        name = f"{rows[0]}-{rows[1]}.ome.tif"
        path = self.folder / f"given-{name}"
        source, _ = yield from bench.kept_steps(given, rows, path, should_stop)
        if wanted is bench.scan:
            target, _ = yield from bench.full_steps(rows, should_stop)
        else:
            path = self.folder / f"wanted-{name}"
            target, _ = yield from bench.kept_steps(wanted, rows, path, should_stop)
        return source, target

    def classical_steps(
        self,
        algorithm: str,
        candidates: Sequence[Mapping[str, Any]],
        should_stop: ShouldStop,
    ) -> Generator[Step, None, None]:
        """Reconstruct the judged rows by an algorithm of `tomography.algorithms`.

        Parameters
        ----------
        candidates : sequence of mapping
            Settings, ascending, of which the one with the smallest error, in some of
            the rows that networks are trained on, is taken.
        """
        bench, scan = self.bench, self.scan()
        settings = self.options
        left = [c for c in candidates if not settings.keys() & c.keys()]
        if left and bench.config.tune and bench.taught is not None:
            chosen = yield from self._tuned(algorithm, left, should_stop)
            settings = {**chosen, **settings}
        path = self.folder / f"{self.name}.ome.tif"
        if algorithm == "fbp" and not settings:
            path = self.folder / "few-judged.ome.tif"
        path, seconds = yield from bench.kept_steps(
            scan,
            bench.judged,
            path,
            should_stop,
            algorithm=algorithm,
            options=settings,
        )
        voxels = bench.cropped(io.read(path))
        yield ResultReady(result=Outcome(voxels, seconds, settings=settings))

    def _tuned(
        self,
        algorithm: str,
        candidates: Sequence[Mapping[str, Any]],
        should_stop: ShouldStop,
    ) -> Generator[Step, None, dict[str, Any]]:
        """The candidate nearest to a reconstruction with noise of its own.

        Candidates are in an order along which the error falls and rises again: from the
        middle on they are tried downhill, as far as it goes.
        """
        bench, taught = self.bench, self.bench.taught
        assert taught is not None
        n = min(_TUNING_ROWS, taught[1] - taught[0])
        first = (taught[0] + taught[1] - n) // 2
        rows = (first, first + n)
        source, target = to_tune_on(bench.scan, self.taken, bench.config)
        wanted = yield from bench.in_memory_steps(target, rows, should_stop)
        errors: dict[int, float] = {}

        def error_steps(i: int) -> Generator[Step, None, float]:
            if not 0 <= i < len(candidates):
                return np.inf
            if i not in errors:
                found = yield from bench.in_memory_steps(
                    source,
                    rows,
                    should_stop,
                    algorithm=algorithm,
                    options={**self.options, **candidates[i]},
                )
                error = np.square(found - wanted, dtype=np.float64).mean()
                errors[i] = float(error)
            return errors[i]

        at = (len(candidates) - 1) // 2
        for step in (1, -1):
            while True:
                here = yield from error_steps(at)
                if not (yield from error_steps(at + step)) < here:
                    break
                at += step
        return dict(candidates[at])

    def learned_steps(
        self, method: str, settings: Mapping[str, Any], should_stop: ShouldStop
    ) -> Generator[Step, None, None]:
        """Train, and restore; see `napari_geosr.operations.study_training`."""
        from napari_geosr.operations.study_training import learned_steps

        return learned_steps(self, method, settings, should_stop)
