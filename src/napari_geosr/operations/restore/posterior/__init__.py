"""Restores a volume with samples of a diffusion model, and measures each sample.

Every finished sample is kept in a hidden folder next to the result, so that a run that
was stopped or killed resumes with the next sample. The mean and the standard deviation
are computed at the end, from all samples in the same order.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.array_parts.boxes import Box
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    DeviceMemoryError,
    GeoSRError,
    ModelError,
    VolumeError,
)
from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.core.steps import (
    BlockDone,
    SamplesKept,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    TileDone,
    WarningIssued,
)
from napari_geosr.core.types import AnyArray, AnyDict, AnyDType
from napari_geosr.core.volume import Volume
from napari_geosr.io.mapping import create_npy
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.learning import diffusion
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.porosity import porosity_steps
from napari_geosr.operations.restore.run import TileProgress, VolumeRun
from napari_geosr.operations.restore.targets import OutputLayout, Targets

if TYPE_CHECKING:
    from napari_geosr.inference.members._samples import SampledNetwork
    from napari_geosr.operations.restore.preparation import PreparedRestoration
    from napari_geosr.operations.restore.resume import FinishedPart

#: Maximum RMS difference of an accepted sample from the scan, in units of the noise.
_MAX_MISFIT = 1.3
#: Maximum RMS difference between a noise-free scan and an accepted sample, in standard
#: deviations of the training data.
_TOLERANCE = 0.02
#: Noise correlation of adjacent voxels above which a warning is given.
_CORRELATED = 0.15
#: Number of voxels of the result that are averaged at a time.
_AT_ONCE = 1 << 22
#: Number of thresholds at which the porosity of the samples is recorded.
_LEVELS = 65


@dataclass(frozen=True)
class SampleStore:
    """Stores the samples of one run in files."""

    folder: Path

    def path(self, number: int) -> Path:
        """Return the path of a finished sample."""
        return self.folder / f"sample_{number:03d}.npy"

    def open_for(self, key: str) -> None:
        """Keep samples of an earlier run with the same key; remove all others."""
        note = self.folder / "run.json"
        with explained(self.folder):
            if note.exists() and note.read_text(encoding="utf-8") == key:
                return
            self.remove()
            self.folder.mkdir(parents=True)
            note.write_text(key, encoding="utf-8")

    def sample(self, number: int) -> AnyArray:
        """Return a finished sample, memory-mapped."""
        sample: AnyArray = np.load(self.path(number), mmap_mode="r")
        return sample

    def finished(self) -> int:
        """Return the number of finished samples."""
        return len(list(self.folder.glob("sample_*.npy")))

    def remove(self) -> None:
        """Remove all samples."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def new(self, number: int, shape: tuple[int, ...]) -> Iterator[AnyArray]:
        """Provide an array to fill, which becomes the sample when it is complete."""
        part = self.folder / "unfinished.npy"
        with explained(self.folder):
            array = create_npy(part, np.float32, shape)
            yield array
            array.flush()
            del array
            part.replace(self.path(number))


class PosteriorRun(VolumeRun):
    """A run that draws samples of the whole volume, one after another."""

    def __init__(self, prepared: PreparedRestoration) -> None:
        super().__init__(prepared)
        self.network: SampledNetwork = prepared.network

    def doubts(self) -> Iterator[str]:
        """Yield sentences on unusual voxels, and on limits of the samples."""
        yield from super().doubts()
        noise = self.prepared.noise
        assert noise is not None
        worst = max(noise.correlation.values(), default=0.0)
        if worst > _CORRELATED and not self.prepared.model.card.gives_samples:
            yield (
                f"The noise of adjacent voxels is correlated ({worst:.2f}), but the "
                "samples assume independent noise: they differ too little, and "
                "noise may be mistaken for structure."
            )
        if len(list(self._pieces())) > 1:
            yield (
                "The model is 2D, so the slices of a sample are independent of each "
                "other: the porosity of the volume varies too little between samples. "
                "For the porosity of a volume, use a 3D model."
            )
        sampler: Any = self.network.sampler
        times = diffusion.in_windows.duration(
            self.network.network, self._sample_shape(), sampler.at_once
        )
        if times > 1:
            yield (
                "A sample does not fit into the memory of this run, so it is drawn in "
                f"windows, which takes about {times:.0f} times as long. To avoid "
                "this, crop the scan or allow more memory (--memory)."
            )

    def output_layout(self, dtype: AnyDType) -> OutputLayout:
        """Return a layout with blocks of whole slices, for computing the mean."""
        volume = self.prepared.volume
        shape = _fine_shape(self.prepared)
        planes = (1,) if len(shape) == 3 else ()
        return OutputLayout((*planes, *shape[-2:]), max(volume.nbytes, 1 << 26))

    def fill(
        self,
        targets: Targets,
        first: tuple[slice, ...] | None,
        kept: FinishedPart | None,
        should_stop: ShouldStop,
    ) -> Generator[Step, None, TileProgress]:
        """Draw the samples, then write their mean and standard deviation."""
        with contextlib.ExitStack() as stack:
            path = targets.result.path
            if path is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                store = SampleStore(folder / "samples")
            else:
                store = SampleStore(path.parent / f".{path.name}.samples")
                if kept is None:
                    store.remove()
            try:
                store.open_for(self._key(targets))
                misfits = yield from self._draw_steps(store, should_stop)
                used = self._fitting(misfits)
                if len(used) < len(misfits):
                    yield WarningIssued(
                        message=f"{len(misfits) - len(used)} of {len(misfits)} samples "
                        "differ from the scan by more than its noise and were left "
                        "out: the model may not have been trained on "
                        "this kind of object."
                    )
                places = yield from self._average_steps(store, used, targets)
                samples = yield from self._measure_steps(
                    store, used, targets, should_stop
                )
            except Cancelled:
                return TileProgress(None, False, [])
            except GeoSRError as error:
                return TileProgress(None, False, [], error)
            samples["left_out"] = len(misfits) - len(used)
            samples["misfit"] = [round(m, 4) for m in misfits]
            store.remove()
        return TileProgress(None, True, places, samples=samples)

    def _key(self, targets: Targets) -> str:
        """Return a key that identifies everything on which the samples depend."""
        record = targets.result.volume.provenance[-1]
        settings = self.prepared.config.model_dump(mode="json")
        names = ("uncertainty_members", "output_dtype", "device", "threads", "memory")
        for name in names:
            settings.pop(name)
        assert self.network.noise is not None
        facts = {
            "inputs": record.get("inputs"),
            "model": self.prepared.model.card.weights_sha256,
            "settings": settings,
            "noise": self.network.noise.level,
        }
        return json.dumps(facts, sort_keys=True, default=str)

    def _draw_steps(
        self, store: SampleStore, should_stop: ShouldStop
    ) -> Generator[Step, None, list[float]]:
        """Draw the missing samples; return the misfit of each to the scan.

        The misfit is the root-mean-square difference, in standard deviations of the
        training data.
        """
        sampler: Any = self.network.sampler
        self.network.to(self.prepared.device)
        pieces = list(self._pieces())
        total = self.network.number * len(pieces)
        yield StageStarted(message="Drawing samples", total=total)
        # The journal of a resumed run is new, so report the existing samples.
        if n_kept := store.finished():
            yield SamplesKept(total=total, number=n_kept)
        shape, misfits = _fine_shape(self.prepared), []

        def check(_step: int) -> None:
            if should_stop():
                raise Cancelled("Stopped; the finished samples are kept.")

        for i in range(self.network.number):
            if not store.path(i).exists():
                with store.new(i, shape) as array:
                    for n, piece in enumerate(pieces):
                        key = (self.network.seed, i, *piece)
                        array[piece] = yield from self._drawn_steps(
                            sampler, piece, key, check
                        )
                        yield BlockDone(i * len(pieces) + n + 1, total)
                yield SamplesKept((i + 1) * len(pieces), total, number=store.finished())
            sample = store.sample(i)
            squares = [
                sampler.residual(self._scan(piece), sample[piece]) ** 2
                for piece in pieces
            ]
            misfits.append(math.sqrt(float(np.mean(squares))))
            yield BlockDone((i + 1) * len(pieces), total)
        return misfits

    def _drawn_steps(
        self, sampler: Any, piece: tuple[int, ...], key: tuple[int, ...], check: Any
    ) -> Generator[Step, None, AnyArray]:
        """Draw a part of a sample, in smaller windows if memory runs out."""
        while True:
            try:
                drawn: AnyArray = sampler(self._scan(piece), key, check)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                fewest = self._fewest_voxels()
                if sampler.at_once <= fewest:
                    raise DeviceMemoryError(
                        "A sample of the diffusion model does not fit into the memory "
                        f"of {self.prepared.device}. Crop the scan."
                    ) from error
                half = min(sampler.at_once, math.prod(self._sample_shape())) // 2
                sampler.at_once = max(half, fewest)
                times = diffusion.in_windows.duration(
                    self.network.network, self._sample_shape(), sampler.at_once
                )
                yield WarningIssued(
                    message=f"{self.prepared.device} ran out of memory. The samples "
                    "are now drawn in windows, which takes about "
                    f"{times:.0f} times as long."
                )
            else:
                return drawn

    def _sample_shape(self) -> tuple[int, ...]:
        """Return the shape of what is drawn in one pass: a slice or the volume."""
        return _fine_shape(self.prepared)[-len(self.network.spec.axes) :]

    def _fewest_voxels(self) -> int:
        """Return the number of voxels of the smallest possible window."""
        shape = self._sample_shape()
        return diffusion.in_windows.fewest_voxels(self.network.network, shape)

    def _pieces(self) -> Iterator[tuple[int, ...]]:
        """Yield the index of each part drawn in one pass: a slice or the volume."""
        volume = self.prepared.volume
        if len(volume.axes) > len(self.network.spec.axes):
            yield from ((z,) for z in range(volume.shape[0]))
        else:
            yield ()

    def _scan(self, piece: tuple[int, ...]) -> AnyArray:
        """Return a part of the scan in the network's grey scale."""
        statistics = self.prepared.statistics
        data = self.prepared.seen_volume.data
        values = np.asarray(data[piece] if piece else data[:], np.float64)
        zero = self.prepared.config.nonfinite == "zero"
        fill = 0.0 if zero else statistics.mean
        values = np.where(np.isfinite(values), values, fill)
        scaled = (values - statistics.input_mean) / statistics.input_std
        return scaled.astype(np.float32)

    def _fitting(self, misfits: list[float]) -> list[int]:
        """Return the indices of the samples that agree with the scan.

        Raises
        ------
        ModelError
            If fewer than two samples agree.
        """
        assert self.network.noise is not None
        limit = math.hypot(_MAX_MISFIT * self.network.noise.level, _TOLERANCE)
        # In training pairs, the two scans may differ by more than the noise of this
        # scan.
        usual = float(getattr(self.network.network, "misfit", 0.0))
        limit = max(limit, _MAX_MISFIT * usual)
        used = [i for i, misfit in enumerate(misfits) if misfit <= limit]
        if len(used) < 2:
            std = self.prepared.statistics.input_std
            raise ModelError(
                f"{len(misfits) - len(used)} of {len(misfits)} samples of "
                f"{self.prepared.model.card.name} differ from the scan by more than "
                f"its noise (by at least {min(misfits) * std:.4g}; noise "
                f"{self.network.noise.level * std:.4g}), so the model has not "
                "learned this kind of object. Train a model on scans of this kind, "
                "or train longer."
            )
        return used

    def _average_steps(
        self, store: SampleStore, used: list[int], targets: Targets
    ) -> Generator[Step, None, list[Box]]:
        """Write mean and standard deviation slab by slab."""
        statistics, prepared = self.prepared.statistics, self.prepared
        assert targets.deviation is not None
        samples = [store.sample(i) for i in used]
        shape = samples[0].shape
        factors = prepared.factors
        depth = max(1, _AT_ONCE // math.prod(shape[1:]) // factors[0]) * factors[0]
        places: list[Box] = []
        for start in range(0, shape[0], depth):
            slab = slice(start, min(start + depth, shape[0]))
            stack = np.stack([sample[slab] for sample in samples]).astype(np.float64)
            mean = stack.mean(0) * statistics.output_std + statistics.output_mean
            spread = stack.std(0, ddof=1) * statistics.output_std
            coarse = slice(slab.start // factors[0], slab.stop // factors[0])
            missing = ~np.isfinite(np.asarray(prepared.volume.data[coarse]))
            if missing.any():
                for axis, n in enumerate(factors):
                    missing = np.repeat(missing, n, axis)
                spread[missing] = np.nan
                if prepared.output_dtype.kind == "f":
                    mean[missing] = np.nan
            if prepared.output_dtype.kind in "iu":
                limits = np.iinfo(prepared.output_dtype)
                mean = np.clip(np.rint(mean), limits.min, limits.max)
            box = (slab, *(slice(0, n) for n in shape[1:]))
            targets.result.array[box] = mean.astype(prepared.output_dtype)
            targets.deviation.array[box] = spread.astype(np.float32)
            places.append(box)
            yield TileDone(slab.stop, shape[0], slices=box)
        return places

    def _measure_steps(
        self,
        store: SampleStore,
        used: list[int],
        targets: Targets,
        should_stop: ShouldStop,
    ) -> Generator[Step, None, AnyDict]:
        """Measure the pores of every sample, with Otsu's threshold of the mean."""
        statistics, made = self.prepared.statistics, targets.result.volume
        scale = statistics.output_std, statistics.output_mean
        yield StageStarted(message="Measuring the samples", total=len(used))
        mean = np.mean([store.sample(i) for i in used], axis=0, dtype=np.float64)
        grey: AnyArray = np.asarray(mean * scale[0] + scale[1], np.float32)
        try:
            threshold = (
                yield from _report_steps(made, grey, PorosityConfig(), should_stop)
            ).threshold
        except VolumeError as error:
            yield WarningIssued(message=f"The samples were not measured: {error}")
            return {}
        found: AnyDict = {
            "threshold": threshold,
            "phase": "dark",
            "porosity": [],
            "pore_count": [],
            "euler_number": [],
            "largest_pore_share": [],
            "shape": list(made.shape),
        }
        levels = np.linspace(grey.min(), grey.max(), _LEVELS)
        shares = []
        config = PorosityConfig(threshold=threshold)
        for n, i in enumerate(used):
            values: AnyArray = store.sample(i) * scale[0] + scale[1]
            values = values.astype(np.float32)
            report = yield from _report_steps(made, values, config, should_stop)
            voxels = np.asarray(report.table["voxels"], np.float64)
            pores = report.porosity * values.size
            largest = float(voxels.max(initial=0) / pores) if pores else 0.0
            found["porosity"].append(round(float(report.porosity), 6))
            found["pore_count"].append(int(report.pore_count))
            found["euler_number"].append(int(report.euler_number))
            found["largest_pore_share"].append(round(largest, 4))
            below = np.searchsorted(np.sort(values, axis=None), levels, side="right")
            shares.append([round(float(b) / values.size, 5) for b in below])
            yield BlockDone(n + 1, len(used))
        found["levels"] = [round(float(level), 6) for level in levels]
        found["below_level"] = shares
        return found


def _report_steps(
    made: Volume, values: AnyArray, config: PorosityConfig, should_stop: ShouldStop
) -> Generator[Step, None, Any]:
    """Measure one sample without reporting its progress."""
    volume = made.replace(data=values, metadata={})
    steps = porosity_steps(volume, config, keep_labels=False, should_stop=should_stop)
    with StepIterator(steps) as iterator:
        for _ in iterator:
            pass
    yield from ()
    return iterator.result


def _fine_shape(prepared: PreparedRestoration) -> tuple[int, ...]:
    volume = prepared.volume
    return tuple(n * s for n, s in zip(volume.shape, prepared.factors, strict=True))


def refuse_for_samples(*, workers: bool, series: bool) -> None:
    """Refuse runs in which samples cannot be drawn.

    Raises
    ------
    ConfigError
        If the volume is a series, or workers are requested.
    """
    if series:
        raise ConfigError(
            "Samples of a diffusion model are drawn for one volume: choose a time "
            "point and channel (--time, --channel)."
        )
    if workers:
        raise ConfigError(
            "Samples of a diffusion model are drawn by one process: omit --workers."
        )
