"""Find how many labelled slices suffice, from scratch and with a pre-trained model.

For each number of slices, models are trained on several draws of labelled slices
(`ptdr`), and segment the held-out slices. Finished cells are kept, so that an
interrupted study can be resumed.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.core.documents import read_json
from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
    recount,
)
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.learning.labels import check_painted
from napari_geosr.operations import restore, train
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.study.config import LabelsStudyConfig
from napari_geosr.operations.study.result import CellDone
from napari_geosr.operations.train.fine_tune import NETWORK_FIELDS, fine_tune_settings
from napari_geosr.operations.train.in_memory import entry_for

#: Value of voxels where nothing is painted.
_UNPAINTED = 255
#: Largest number of classes; more values indicate grey values or object numbers.
_MAX_CLASSES = 50
#: Maximum number of draws until one contains painted voxels of all classes; otherwise,
#: the best draw is used.
_TRIES = 50
#: Maximum difference in mean IoU at which a number of slices counts as equally good as
#: the largest one.
TOLERANCE = 0.01
_SCRATCH = "from scratch"
#: Settings that do not affect finished cells.
_LATE_SETTINGS = {"counts", "draws", "device", "threads"}


@dataclass(frozen=True)
class LabelsStudySummary:
    """Segmentation overlap for each number of labelled slices.

    Attributes
    ----------
    rows : list of dict
        One per model: ``method``, ``labels`` (number of slices), ``draw``, ``slices``,
        ``mean_iou``, ``iou`` of each class, ``seconds``.
    curve : list of dict
        Per method and number of slices: mean and standard deviation (``spread``) of
        ``mean_iou`` over the draws.
    fewest : dict
        By method, the smallest number of slices with a mean within 0.01 of the mean for
        the largest number.
    files : dict of Path
        ``csv`` and ``json``.
    """

    rows: list[AnyDict]
    curve: list[AnyDict]
    fewest: dict[str, int]
    files: dict[str, Path]


def study_labels_steps(
    source: Volume,
    labels: Volume,
    out: str | Path,
    config: LabelsStudyConfig | None = None,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, LabelsStudySummary]:
    """Learn from each number of labelled slices, and evaluate on held-out slices.

    Parameters
    ----------
    source : Volume
        The scan, (Z, Y, X).
    labels : Volume
        Classes 0, 1, 2 … of some or all slices; 255 where nothing is painted.
    out : path
        Folder for the results. An existing study with these data and settings is
        resumed; numbers of slices and draws may be added.
    config : LabelsStudyConfig, optional
    overwrite : bool
        Start a new study even if the folder contains another one.
    should_stop : callable

    Yields
    ------
    Step
        `StageStarted` and progress of each model, and `CellDone` after each model.

    Returns
    -------
    LabelsStudySummary

    Raises
    ------
    ConfigError, FileError, VolumeError, ModelError, TrainingError
        If the run fails; finished cells are kept.
    Cancelled
        If `should_stop` returns True; finished cells are kept.
    """
    config = config or LabelsStudyConfig()
    study = _LabelsStudy(source, labels, Path(out).expanduser(), config)
    yield from study.begin_steps(overwrite=overwrite, should_stop=should_stop)
    for count in config.counts:
        for method in study.methods:
            for draw in range(config.draws):
                if study.find(method, count, draw) is None:
                    row = yield from study.cell_steps(method, count, draw, should_stop)
                    yield CellDone(row=row)
    return study.summary()


class _LabelsStudy:
    """Data, settings and finished cells of a study of labelled slices."""

    def __init__(
        self, source: Volume, labels: Volume, folder: Path, config: LabelsStudyConfig
    ) -> None:
        if source.axes != "ZYX" or labels.shape != source.shape:
            raise VolumeError(
                f"The labels ({_shape(labels)} voxels) must have the shape of the scan "
                f"({_shape(source)}), and both must be stacks of slices (Z, Y, X)."
            )
        self.source, self.labels = source, labels
        self.folder, self.config = folder, config
        self.truth = np.asarray(labels.data)
        painted = self.truth[self.truth != _UNPAINTED]
        self.classes = int(painted.max()) + 1 if painted.size else 2
        if self.classes > _MAX_CLASSES:
            raise VolumeError(
                f"{labels.title} has values up to {self.classes - 1}, as in a "
                "grey-value image or numbered objects. Give the same number to all "
                f"voxels of a class, from 0 to at most {_MAX_CLASSES - 1}."
            )
        slices = check_painted([labels], self.classes, _UNPAINTED)[0]
        n_held_out = max(1, round(config.held_out * len(slices)))
        self.pool, self.held_out = slices[:-n_held_out], slices[-n_held_out:]
        if (most := max(config.counts)) > len(self.pool):
            raise VolumeError(
                f"{len(slices)} slices have labels, of which {n_held_out} are held "
                f"out, so {len(self.pool)} remain for training, but {most} were "
                "requested (--counts). Request fewer, hold out fewer (--held-out), or "
                "label more slices."
            )
        self.methods = [_SCRATCH]
        self.network: AnyDict = {}
        if config.start_from is not None:
            self.methods.append(f"from {Path(config.start_from).name}")
            found = fine_tune_settings(config.start_from, "ptdr")
            self.network = {k: v for k, v in found.items() if k in NETWORK_FIELDS}
            if self.network["dimensions"] != "2D":
                raise ConfigError(
                    f"The model {config.start_from!r} does not work on single slices: "
                    "train a model with --dimensions 2D."
                )
        #: Checksums of the scan and the labels, set by `begin_steps`.
        self.checksums: AnyDict = {}
        self.rows: list[AnyDict] = []
        self.files = {"csv": folder / "labels.csv", "json": folder / "labels.json"}

    def _essential(self) -> AnyDict:
        settings = self.config.model_dump(mode="json", exclude=_LATE_SETTINGS)
        return {
            "source": self.source.name,
            "shape": list(self.source.shape),
            "labelled": [*self.pool, *self.held_out],
            "checksums": self.checksums,
            **settings,
        }

    def begin_steps(
        self, *, overwrite: bool, should_stop: ShouldStop
    ) -> Generator[Step, None, None]:
        """Compute the checksums of the data and read finished cells.

        Raises
        ------
        ConfigError
            If finished cells have different data or settings, and `overwrite` is False.
        """
        for role, volume in (("source", self.source), ("labels", self.labels)):
            described = yield from provenance.describe_steps(volume, should_stop)
            self.checksums[role] = described["checksum"]
        if not self.files["json"].exists() or overwrite:
            return
        stored = read_json(self.files["json"])
        if stored.get("study") != self._essential():
            raise ConfigError(
                f"{self.folder} contains a study with different data or settings. "
                "Choose another folder, or replace it (--overwrite)."
            )
        self.rows = list(stored["rows"])

    def find(self, method: str, count: int, draw: int) -> AnyDict | None:
        """Return the row of a cell; None if the cell is unfinished."""
        cell = {"method": method, "labels": count, "draw": draw}
        return next((row for row in self.rows if cell.items() <= row.items()), None)

    def cell_steps(
        self, method: str, count: int, draw: int, should_stop: ShouldStop
    ) -> Generator[Step, None, AnyDict]:
        """Train with one draw of slices, and segment the held-out slices."""
        n = len(self.held_out)
        slices = "1 labelled slice" if count == 1 else f"{count} labelled slices"
        message = f"{slices}, {method}, draw {draw + 1}"
        yield StageStarted(message=message, total=n)
        picked = self._draw(count, draw)
        painted = np.full(self.truth.shape, _UNPAINTED, np.uint8)
        painted[picked] = self.truth[picked]
        target = self.labels.replace(data=painted, source=None, name="labels")
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        began = time.monotonic()
        volumes: dict[Path, Volume] = {}
        for volume in (self.source, target):
            volumes[entry_for(volume, volumes)] = volume
        source_entry, target_entry = volumes
        steps = train.training_steps(
            "ptdr",
            work,
            in_memory=volumes,
            should_stop=should_stop,
            source=(source_entry,),
            target=(target_entry,),
            **self._settings(method, draw),
        )
        model = yield from recount(steps)
        seconds = time.monotonic() - began
        test = self.source.replace(
            data=np.asarray(self.source.data)[self.held_out], source=None
        )
        restoring = RestoreConfig(
            model=str(model.path),
            device=self.config.device,
            threads=self.config.threads,
        )
        done = yield from recount(
            restore.restore_steps(test, restoring, should_stop=should_stop)
        )
        if not done.complete:
            raise Cancelled("Stopped during the segmentation of the held-out slices.")
        found = overlaps(
            np.asarray(done.volume.data), self.truth[self.held_out], self.classes
        )
        shutil.rmtree(work, ignore_errors=True)
        row: AnyDict = {
            "method": method,
            "labels": count,
            "draw": draw,
            "slices": [int(z) for z in picked],
            "mean_iou": float(np.nanmean(found)),
            "iou": [None if np.isnan(each) else float(each) for each in found],
            "seconds": round(seconds, 1),
        }
        self.rows.append(row)
        self._write()
        yield BlockDone(n, n)
        return row

    def _draw(self, count: int, draw: int) -> list[int]:
        """Draw slices, the same for all methods, with all classes if possible."""
        rng = np.random.default_rng([self.config.seed, count, draw])
        best: tuple[int, list[int]] = (0, [])
        for _ in range(_TRIES):
            picked = sorted(rng.choice(self.pool, count, replace=False).tolist())
            values = set(np.unique(self.truth[picked]).tolist()) - {_UNPAINTED}
            best = max(best, (len(values), picked), key=lambda each: each[0])
            if len(values) == self.classes:
                break
        return best[1]

    def _settings(self, method: str, draw: int) -> AnyDict:
        config = self.config
        settings: AnyDict = {
            **self.network,
            "classes": self.classes,
            "steps": config.steps,
            "batch_size": config.batch_size,
            "patch": min(config.patch, *self.source.shape[-2:]),
            "learning_rate": config.learning_rate,
            "seed": draw,
            "device": config.device,
            "threads": config.threads,
        }
        if method != _SCRATCH:
            settings["from_model"] = config.start_from
        return settings

    def _write(self) -> None:
        """Write the finished cells as JSON and CSV."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"study": self._essential(), "rows": self.rows, "curve": self._curve()}
        atomic.write_text(
            self.files["json"], json.dumps(record, indent=1) + "\n", overwrite=True
        )
        table = StringIO()
        classes = [f"iou_{k}" for k in range(self.classes)]
        names = ["method", "labels", "draw", "slices", "mean_iou", *classes, "seconds"]
        writer = csv.DictWriter(table, names, extrasaction="ignore")
        writer.writeheader()
        for row in self.rows:
            flat = dict(zip(classes, row["iou"], strict=True))
            slices = " ".join(map(str, row["slices"]))
            writer.writerow({**row, **flat, "slices": slices})
        atomic.write_text(self.files["csv"], table.getvalue(), overwrite=True)

    def _curve(self) -> list[AnyDict]:
        curve = []
        for method in self.methods:
            for count in sorted({row["labels"] for row in self.rows}):
                values = [
                    row["mean_iou"]
                    for row in self.rows
                    if (row["method"], row["labels"]) == (method, count)
                ]
                if not values:
                    continue
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
                curve.append(
                    {
                        "method": method,
                        "labels": count,
                        "draws": len(values),
                        "mean_iou": float(np.mean(values)),
                        "spread": spread,
                    }
                )
        return curve

    def summary(self) -> LabelsStudySummary:
        """Summarise all finished cells."""
        curve = self._curve()
        fewest = {}
        for method in self.methods:
            own = [each for each in curve if each["method"] == method]
            last = own[-1]["mean_iou"]
            good = [r["labels"] for r in own if r["mean_iou"] >= last - TOLERANCE]
            fewest[method] = min(good)
        return LabelsStudySummary(self.rows, curve, fewest, self.files)


def overlaps(found: AnyArray, truth: AnyArray, classes: int) -> Sequence[float]:
    """Return the intersection over union of each class; NaN for absent classes.

    Voxels where `truth` is 255 are ignored.
    """
    known = truth != _UNPAINTED
    values = []
    for label in range(classes):
        one, other = (found == label) & known, truth == label
        union = int((one | other).sum())
        values.append(int((one & other).sum()) / union if union else float("nan"))
    return values


def _shape(volume: Volume) -> str:
    return " × ".join(map(str, volume.shape))
