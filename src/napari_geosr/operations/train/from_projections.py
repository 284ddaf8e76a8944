"""Train on projections: reconstruct the training volumes, train and restore.

Noise2Inverse uses reconstructions of disjoint subsets of the projections. Methods that
learn from pairs use a reconstruction from fewer projections or photons, paired with one
from the remaining photons or the whole scan. All reconstructions are made once and
stored in the job's folder, so that a job that was stopped or killed resumes at the
unfinished block of slices.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_geosr import io
from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued, never_stop, recount
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.suffixes import incomplete_path
from napari_geosr.io.unfinished_files.unfinished import (
    remove_unfinished,
    usable_unfinished_steps,
)
from napari_geosr.learning.methods import config_class
from napari_geosr.models import zoo
from napari_geosr.operations import restore, train
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.reconstruct.fewer_views import (
    MAX_INPUT_LIGHT,
    Acquisition,
    ScanPair,
    ScanPart,
    check_same_detector,
    fewer_views,
    reason_without_counts,
    remaining_light,
    splits,
    thinned,
)
from napari_geosr.operations.reconstruct.inputs import open_projections
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.train.job import TrainJob
from napari_geosr.operations.train.parts import (
    REPORTED_STEPS,
    preview_slice_steps,
    reconstruct_parts_steps,
    shared_settings_steps,
    were_views_joined,
)
from napari_geosr.operations.train.scans import (
    METHODS_FROM_PROJECTIONS,
    ScansConfig,
)

if TYPE_CHECKING:
    from napari_geosr.operations.restore import RestorationResult

__all__ = [
    "METHODS_FROM_PROJECTIONS",
    "ProjectionsTrainJob",
    "ScansConfig",
    "train_from_projections_steps",
]

#: Operation of these jobs, as written in their ``config.yaml``.
OPERATION = "train from projections"
_INPUTS = "inputs"
_SUFFIX = ".ome.tif"
#: Number of projections below which streaks dominate the reconstruction.
_MIN_PROJECTIONS = 12


class ProjectionsTrainJob(Config):
    """Complete description of training from projections."""

    method: str
    """Name of the learning method."""
    scans: ScansConfig
    """The projections, and the training volumes to reconstruct from them."""
    training: Any
    """Settings of the method, without sources and targets, which this job creates."""

    @classmethod
    def create_for(
        cls, method: str, scans: ScansConfig, training: AnyMapping
    ) -> ProjectionsTrainJob:
        """Create a job after checking the settings of the method and the scans.

        Raises
        ------
        ConfigError
            If the method cannot learn from projections, or volumes are given as well.
        """
        if method not in METHODS_FROM_PROJECTIONS:
            raise ConfigError(
                f"The method {method} does not learn from projections. Choose one of "
                f"{', '.join(METHODS_FROM_PROJECTIONS)}, or give volumes (--source)."
            )
        if training.get("source") or training.get("target"):
            raise ConfigError(
                "Both projections and volumes (source or target) are given. Give only "
                "the projections, from which volumes are reconstructed, or only the "
                "volumes."
            )
        scans.check_for(method)
        made = config_class(method).create(**training)
        return cls(method=method, scans=scans, training=made).with_absolute_paths()

    @classmethod
    def from_values(cls, values: AnyMapping) -> ProjectionsTrainJob:
        """Validate the contents of ``config.yaml``."""
        method = str(values.get("method", ""))
        # Jobs of earlier releases lack this setting; their targets used all photons.
        given = {"target_light": "all", **(values.get("scans") or {})}
        scans = ScansConfig.from_mapping(given)
        training = dict(values.get("training") or {})
        for role in ("source", "target"):
            training.pop(role, None)
        return cls.create_for(method, scans, training)

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` reads."""
        return {
            "operation": OPERATION,
            "method": self.method,
            "scans": self.scans.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
        }

    def outputs(self) -> tuple[Path, ...]:
        """Return the file that the job writes outside its folder."""
        return () if self.scans.restore is None else (self.scans.restore,)

    def with_absolute_paths(self) -> ProjectionsTrainJob:
        """Return the job with absolute paths."""
        return self.model_copy(update={"scans": self.scans.with_absolute_paths()})

    def check(self) -> None:
        """Check settings and files before anything is reconstructed.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        scan = self.open()
        parts, _ = self.plan(scan)
        self.train_job(Path(), parts).check_settings()
        rows = scan.rows(*self.scans.rows) if self.scans.rows else scan
        if rows.n_rows == 1 < self.training.planes:
            raise ConfigError(
                f"{scan.title} has a single row, but a 2.5D network takes "
                f"{self.training.planes} slices at once. Set dimensions to 2D."
            )
        if self.scans.restore is not None:
            self._check_restore(parts)

    def _check_restore(self, parts: Sequence[ScanPair | ScanPart]) -> None:
        assert self.scans.restore is not None
        if self.method != "noise2inverse" and len(parts) > 1:
            raise ConfigError(
                f"There are {len(parts)} kinds of training scans, so --restore is "
                "ambiguous. Omit it, and restore the scan of your choice with the "
                "model afterwards."
            )
        # A job that was killed during the restoration resumes it.
        io.check_output(
            self.scans.restore, overwrite=self.scans.overwrite, continues=True
        )

    def open(self) -> Projections:
        """Open the projections."""
        assert self.scans.projections is not None
        return open_projections(self.scans.projections, self.scans.reading())

    def plan(
        self, scan: Projections, *, joined: bool = False
    ) -> tuple[Sequence[ScanPair | ScanPart], list[ScanPart]]:
        """Return the training pairs or parts, and the scans to reconstruct for them.

        Parameters
        ----------
        joined : bool
            Whether opposite views are joined, which is known once the rotation axis is
            known. Joining affects the views of a part, but neither the name of the part
            nor the number of parts.

        Raises
        ------
        ProjectionsError, ConfigError
            If the scan does not provide such pairs or parts.
        """
        if self.method == "noise2inverse":
            parts = splits(scan, self.scans.splits, joined=joined)
            return parts, parts
        pairs = _scan_pairs(scan, self.scans)
        by_name: dict[str, ScanPart] = {}
        for pair in pairs:
            by_name |= {part.name: part for part in (pair.target, pair.source)}
        if self.scans.restore is not None:
            by_name |= {pair.to_restore.name: pair.to_restore for pair in pairs}
        return pairs, list(by_name.values())

    def train_job(self, folder: Path, parts: Sequence[ScanPair | ScanPart]) -> TrainJob:
        """Create the training description for the reconstructions in a job's folder."""

        def path(part: ScanPart) -> Path:
            return reconstruction_path(folder, part)

        source = tuple(path(p.source if isinstance(p, ScanPair) else p) for p in parts)
        target = tuple(path(p.target) for p in parts if isinstance(p, ScanPair))
        training = self.training.model_copy(update={"source": source, "target": target})
        return TrainJob(method=self.method, training=training, reading=InputConfig())


def _shared_noise_warning(
    scan: Projections, config: ScansConfig, parts: Sequence[ScanPair | ScanPart]
) -> str:
    """Warn about pairs whose source and target share most of their noise."""
    pairs = [part for part in parts if isinstance(part, ScanPair)]
    # The views of a continuous scan are averaged, so the source uses all of them.
    is_continuous = config.acquisition == "continuous"
    affected = [
        pair.source.title
        for pair in pairs
        if pair.target.scan is scan
        # The intensity is None for a second scan.
        and pair.source.light is not None
        and (is_continuous or 2 * pair.source.scan.n_angles > scan.n_angles)
    ]
    if not affected:
        return ""
    remedy = "divide the photons (--target-light left-out)"
    if reason_without_counts(scan):
        remedy = "learn without pairs (noise2inverse)"
    share = "all" if is_continuous else "more than half"
    fewer = (
        "Use step-and-shoot acquisition"
        if is_continuous
        else "Use fewer projections (--counts)"
    )
    return (
        f"{', '.join(affected)}: {share} of the target's data come from the same "
        "views as the input, and the noise that both share is learned as structure. "
        f"{fewer}, or {remedy}."
    )


def _reconstruction_paths(
    job: ProjectionsTrainJob, scan: Projections, folder: Path, joined: bool
) -> list[tuple[ScanPart, Path]]:
    """Return the parts to reconstruct, with the paths of their reconstructions."""
    _, needed = job.plan(scan, joined=joined)
    return [(part, reconstruction_path(folder, part)) for part in needed]


def reconstruction_path(folder: Path, part: ScanPart) -> Path:
    """Return the path of the reconstruction of a part."""
    return folder / _INPUTS / f"{part.name}{_SUFFIX}"


def train_from_projections_steps(
    job: ProjectionsTrainJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Reconstruct, train and, if requested, restore; resume after an interruption.

    Parameters
    ----------
    folder : Path
        Receives ``inputs/`` with the reconstructions, ``checkpoints/`` and
        ``result/NAME``.
    keep_unfinished : callable
        See `napari_geosr.operations.train.train_steps`.

    Returns
    -------
    Path or None
        Path of the bundle; None if `should_stop` ended the run early.

    Raises
    ------
    GeoSRError
        If the run fails; finished work is kept.
    """
    scan = job.open()
    parts, needed = job.plan(scan)
    fewest = min(part.scan.n_angles for part in needed)
    if fewest < _MIN_PROJECTIONS:
        yield WarningIssued(
            message=f"Some reconstructions use only {fewest} projections, so streaks "
            "may hide the structure."
        )
    if note := _shared_noise_warning(scan, job.scans, parts):
        yield WarningIssued(message=note)
    joined = were_views_joined(reconstruction_path(folder, part) for part in needed)
    places: list[tuple[ScanPart, Path]] = []
    if joined is not None:
        places = _reconstruction_paths(job, scan, folder, joined)
    try:
        config = yield from shared_settings_steps(
            scan, job.scans, job.training, places, should_stop
        )
        if joined is None:
            places = _reconstruction_paths(
                job, scan, folder, config.full_turn == "join"
            )
        yield from reconstruct_parts_steps(places, config, should_stop)
    except Cancelled:
        return None  # finished slices are kept for resuming
    yield from preview_slice_steps(places[0][1], job.training.preview_slice)
    training = job.train_job(folder, parts)
    model = yield from train.train_steps(
        training,
        folder,
        should_stop=should_stop,
        keep_unfinished=keep_unfinished,
        opened=training.check(),
    )
    if model is not None and job.scans.restore is not None:
        # After a request to finish early, the volume is still restored.
        stop: ShouldStop = lambda: should_stop() and not keep_unfinished()  # noqa: E731
        try:
            restored = [p.to_restore if isinstance(p, ScanPair) else p for p in parts]
            paths = [reconstruction_path(folder, part) for part in restored]
            yield from recount(_restore_steps(job, paths, model, stop), *REPORTED_STEPS)
        except Cancelled:
            model = None
    return model


def _restore_steps(
    job: ProjectionsTrainJob,
    paths: Sequence[Path],
    model: Path,
    should_stop: ShouldStop,
) -> Generator[Step, None, RestorationResult]:
    """Restore the reconstructions with the model and write the result."""
    assert job.scans.restore is not None
    volumes: list[Volume] = [io.read(path) for path in paths]
    config = RestoreConfig(
        model=str(model), device=job.training.device, threads=job.training.threads
    )
    more: AnyDict = {
        "out": job.scans.restore,
        "overwrite": job.scans.overwrite,
        "should_stop": should_stop,
    }
    if job.method == "noise2inverse":
        return (yield from restore.restore_average_steps(volumes, config, **more))
    unfinished = yield from _unfinished_restoration_steps(
        config.model, Path(job.scans.restore)
    )
    steps = restore.restore_steps(volumes[0], config, unfinished=unfinished, **more)
    return (yield from steps)


def _unfinished_restoration_steps(
    model: str, out: Path
) -> Generator[WarningIssued, None, Volume | None]:
    """Return the unfinished result of the same model, if any; discard any other."""
    unfinished = yield from usable_unfinished_steps(out)
    if unfinished is None:
        return None
    provenance = unfinished.provenance
    made_with = (provenance[-1].get("model") or {}) if provenance else {}
    if made_with.get("weights_sha256") == zoo.find(model).card.weights_sha256:
        return unfinished
    # Remove a temporary file of a killed run, but not the file saved by a stopped run.
    if unfinished.source != incomplete_path(out):
        remove_unfinished(unfinished, out)
    return None


def _scan_pairs(scan: Projections, config: ScansConfig) -> list[ScanPair]:
    """Return the pairs of scans with the network's inputs and targets."""
    counts = [-(-scan.n_angles // k) for k in config.every]
    counts += [n for n in config.counts if n not in counts]
    is_shared_out = config.target_light == "left-out" and not reason_without_counts(
        scan
    )
    if scan.n_angles in counts and not is_shared_out:
        raise ConfigError(
            f"{scan.title} has {scan.n_angles} projections, but nothing can be learned "
            "if input and target both use all of them. Use fewer "
            "projections (--counts, --every)."
        )
    whole = ScanPart("whole", f"the whole scan ({scan.n_angles} projections)", scan)
    photons: AnyDict = {
        "seed": config.photon_seed,
        "counts_per_photon": config.counts_per_photon,
    }
    halves = None
    if counts and is_shared_out:
        halves = [
            thinned(scan, MAX_INPUT_LIGHT, rest=r, **photons) for r in (False, True)
        ]
    pairs = []
    for count in counts:
        few = fewer_views(scan, count, config.acquisition)
        name = f"{count}-views" if config.acquisition == "step" else f"{count}-means"
        part = ScanPart(name, f"{count} of {scan.n_angles} projections", few)
        if halves is None:
            pairs.append(ScanPair(part, whole))
        else:
            pairs.append(_photon_split_pair(scan, part, config.acquisition, *halves))
    for share in config.exposure:
        name = f"exposure-{share:g}".replace(".", "-")
        short, rest = (thinned(scan, share, rest=r, **photons) for r in (False, True))
        pairs.append(
            ScanPair(
                ScanPart(name, f"{share:g} of the exposure", short, share),
                # Give the target only the remaining photons: otherwise, the network
                # would learn the noise that input and target share.
                ScanPart(
                    f"{name}-rest", f"{1 - share:g} of the exposure", rest, 1 - share
                ),
            )
        )
    if config.short is not None:
        other = open_projections(config.short, config.reading())
        check_same_detector(scan, other)
        pairs.append(ScanPair(ScanPart("short", other.title, other, None), whole))
    return pairs


def _photon_split_pair(
    scan: Projections,
    few: ScanPart,
    acquisition: Acquisition,
    given: Projections,
    rest: Projections,
) -> ScanPair:
    """Return a pair of scans whose photons are independent.

    The source has most photons of few projections; the target has all other photons.

    Parameters
    ----------
    given, rest : Projections
        The scan with most of its photons, and the scan with the remaining photons.
    """
    n = few.scan.n_angles
    source_title = f"{few.title}, {100 * MAX_INPUT_LIGHT:.0f} % of their photons"
    target_title = f"all projections, without the photons used for {few.title}"
    target = remaining_light(scan, MAX_INPUT_LIGHT, n, acquisition, rest=rest)
    source = fewer_views(given, n, acquisition)
    return ScanPair(
        ScanPart(f"{few.name}-given", source_title, source, MAX_INPUT_LIGHT),
        ScanPart(f"{few.name}-left", target_title, target),
        few,
    )
