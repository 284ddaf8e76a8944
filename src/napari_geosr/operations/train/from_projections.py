"""Learn from projections: reconstruct what a method needs, train, restore with it.

Noise2Inverse gets reconstructions of disjoint parts of the projections; methods that
learn from pairs get reconstructions from fewer views or less light beside that of the
whole scan. They are kept in the folder of the job and reconstructed once: a job that is
stopped or killed continues from the block of slices it was working on.
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
from napari_geosr.io.unfinished import remove_unfinished, usable_unfinished
from napari_geosr.learning.methods import config_class
from napari_geosr.models import zoo
from napari_geosr.operations import restore, train
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.reconstruct.fewer_views import (
    MOST_LIGHT,
    Acquisition,
    ScanPair,
    ScanPart,
    check_same_detector,
    fewer_views,
    light_left_over,
    splits,
    thinned,
    why_no_counts,
)
from napari_geosr.operations.reconstruct.inputs import open_projections
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.train.job import TrainJob
from napari_geosr.operations.train.parts import (
    TOLD,
    joined_before,
    parts_steps,
    preview_of,
    settings_for_all_steps,
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

#: What jobs made here ask for.
OPERATION = "train from projections"
_INPUTS = "inputs"
_SUFFIX = ".ome.tif"
#: Parts with fewer projections than this have more streaks than structure.
_FEW = 12


class ProjectionsTrainJob(Config):
    """All that is needed to train from projections, here or elsewhere."""

    method: str
    """Name of the learning method."""
    scans: ScansConfig
    """Which projections, and what to make of them."""
    training: Any
    """Settings of the method; its sources and targets are made here."""

    @classmethod
    def create_for(
        cls, method: str, scans: ScansConfig, training: AnyMapping
    ) -> ProjectionsTrainJob:
        """Check settings of the method beside those of the scans.

        Raises
        ------
        ConfigError
            If the method does not learn from projections, or volumes are given too.
        """
        if method not in METHODS_FROM_PROJECTIONS:
            raise ConfigError(
                f"The method {method} does not learn from projections. Choose one of "
                f"{', '.join(METHODS_FROM_PROJECTIONS)}, or give volumes (--source)."
            )
        if training.get("source") or training.get("target"):
            raise ConfigError(
                "Projections are given, and volumes as well (source or target): what "
                "to learn from is reconstructed. Leave one of them out."
            )
        scans.check_for(method)
        made = config_class(method).create(**training)
        return cls(method=method, scans=scans, training=made).with_absolute_paths()

    @classmethod
    def from_values(cls, values: AnyMapping) -> ProjectionsTrainJob:
        """Validate what ``config.yaml`` held."""
        method = str(values.get("method", ""))
        # Jobs of earlier releases do not say so: they learned from the whole scan.
        given = {"target_light": "all", **(values.get("scans") or {})}
        scans = ScansConfig.from_mapping(given)
        training = dict(values.get("training") or {})
        for role in ("source", "target"):
            training.pop(role, None)
        return cls.create_for(method, scans, training)

    def to_values(self) -> AnyDict:
        """What `from_values` reads."""
        return {
            "operation": OPERATION,
            "method": self.method,
            "scans": self.scans.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
        }

    def with_absolute_paths(self) -> ProjectionsTrainJob:
        """Return the job with paths that hold in any working folder."""
        return self.model_copy(update={"scans": self.scans.with_absolute_paths()})

    def check(self) -> None:
        """Refuse what can be seen to be wrong before anything is reconstructed.

        Raises
        ------
        GeoSRError
            With one sentence.
        """
        scan = self.open()
        parts, _ = self.plan(scan)
        self.train_job(Path(), parts).check_settings()
        rows = scan.rows(*self.scans.rows) if self.scans.rows else scan
        if rows.n_rows == 1 < self.training.planes:
            raise ConfigError(
                f"{scan.title} has a single row, but a 2.5D network sees "
                f"{self.training.planes} slices at once. Set dimensions to 2D."
            )
        if self.scans.restore is not None:
            self._check_restore(parts)

    def _check_restore(self, parts: Sequence[ScanPair | ScanPart]) -> None:
        assert self.scans.restore is not None
        if self.method != "noise2inverse" and len(parts) > 1:
            raise ConfigError(
                f"There are {len(parts)} kinds of scans to learn from, and --restore "
                "does not say which to restore. Leave it out, and restore the one "
                "that you want with the model."
            )
        # A job that was killed while it restored goes on with that.
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
        """What to learn from, and the scans to be reconstructed for it.

        Parameters
        ----------
        joined : bool
            Whether opposite views are joined, which is known with the rotation axis.
            It says which views are in a part, not what it is called, or how many.

        Raises
        ------
        ProjectionsError, ConfigError
            If the scan does not allow it.
        """
        if self.method == "noise2inverse":
            parts = splits(scan, self.scans.splits, joined=joined)
            return parts, parts
        pairs = _pairs(scan, self.scans)
        found: dict[str, ScanPart] = {}
        for pair in pairs:
            found |= {part.name: part for part in (pair.target, pair.source)}
        if self.scans.restore is not None:
            found |= {pair.wanted.name: pair.wanted for pair in pairs}
        return pairs, list(found.values())

    def train_job(self, folder: Path, parts: Sequence[ScanPair | ScanPart]) -> TrainJob:
        """The training of reconstructions in the folder of a job."""

        def place(part: ScanPart) -> Path:
            return path_of(folder, part)

        source = tuple(place(p.source if isinstance(p, ScanPair) else p) for p in parts)
        target = tuple(place(p.target) for p in parts if isinstance(p, ScanPair))
        training = self.training.model_copy(update={"source": source, "target": target})
        return TrainJob(method=self.method, training=training, reading=InputConfig())


def _shared(
    scan: Projections, config: ScansConfig, parts: Sequence[ScanPair | ScanPart]
) -> str:
    """What to say of pairs whose noise is mostly the same."""
    pairs = [part for part in parts if isinstance(part, ScanPair)]
    every = config.acquisition == "continuous"  # a mean over all views
    much = [
        pair.source.title
        for pair in pairs
        if pair.target.scan is scan
        and pair.source.light is not None  # of this scan, and not a second one
        and (every or 2 * pair.source.scan.n_angles > scan.n_angles)
    ]
    if not much:
        return ""
    remedy = "share the light out (--target-light left-out)"
    if why_no_counts(scan):
        remedy = "learn without pairs (noise2inverse)"
    what = "all" if every else "more than half"
    fewer = "Take them step by step" if every else "Take fewer (--counts)"
    return (
        f"{', '.join(much)}: {what} of what the target shows was measured in the same "
        "views, and noise that both share is learned as if it were the object. "
        f"{fewer}, or {remedy}."
    )


def _places(
    job: ProjectionsTrainJob, scan: Projections, folder: Path, joined: bool
) -> list[tuple[ScanPart, Path]]:
    """What is to be reconstructed, and where it is kept."""
    _, needed = job.plan(scan, joined=joined)
    return [(part, path_of(folder, part)) for part in needed]


def path_of(folder: Path, part: ScanPart) -> Path:
    """Where the reconstruction of a part is kept."""
    return folder / _INPUTS / f"{part.name}{_SUFFIX}"


def train_from_projections_steps(
    job: ProjectionsTrainJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Reconstruct, train and, where asked for, restore; or go on where it stopped.

    Parameters
    ----------
    folder : Path
        Gets ``inputs/`` with the reconstructions, ``checkpoints/`` and
        ``result/NAME``.
    keep_unfinished : callable
        See `napari_geosr.operations.train.train_steps`.

    Returns
    -------
    Path or None
        Of the bundle; None if `should_stop` ended it early.

    Raises
    ------
    GeoSRError
        With one sentence; what was done up to then is kept.
    """
    scan = job.open()
    parts, needed = job.plan(scan)
    scarce = min(part.scan.n_angles for part in needed)
    if scarce < _FEW:
        yield WarningIssued(
            message=f"Some reconstructions are from {scarce} projections: so few give "
            "more streaks than structure to learn from."
        )
    if note := _shared(scan, job.scans, parts):
        yield WarningIssued(message=note)
    joined = joined_before(path_of(folder, part) for part in needed)
    places: list[tuple[ScanPart, Path]] = []
    if joined is not None:
        places = _places(job, scan, folder, joined)
    try:
        config = yield from settings_for_all_steps(
            scan, job.scans, job.training, places, should_stop
        )
        if joined is None:
            places = _places(job, scan, folder, config.full_turn == "join")
        yield from parts_steps(places, config, should_stop)
    except Cancelled:
        return None  # finished slices are kept beside their files
    yield from preview_of(places[0][1], job.training.preview_slice)
    training = job.train_job(folder, parts)
    model = yield from train.train_steps(
        training,
        folder,
        should_stop=should_stop,
        keep_unfinished=keep_unfinished,
        opened=training.check(),
    )
    if model is not None and job.scans.restore is not None:
        # Who asked for the model as it is wants the volume of it.
        stop: ShouldStop = lambda: should_stop() and not keep_unfinished()  # noqa: E731
        try:
            made = [p.wanted if isinstance(p, ScanPair) else p for p in parts]
            paths = [path_of(folder, part) for part in made]
            yield from recount(_restore_steps(job, paths, model, stop), *TOLD)
        except Cancelled:
            model = None
    return model


def _restore_steps(
    job: ProjectionsTrainJob,
    paths: Sequence[Path],
    model: Path,
    should_stop: ShouldStop,
) -> Generator[Step, None, RestorationResult]:
    """Write what the model makes of reconstructions."""
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
    unfinished = _left_by(config.model, Path(job.scans.restore))
    steps = restore.restore_steps(volumes[0], config, unfinished=unfinished, **more)
    return (yield from steps)


def _left_by(model: str, out: Path) -> Volume | None:
    """What the same model left of `out`; what another one did is of no use now."""
    left = usable_unfinished(out)
    if left is None:
        return None
    made_with = (left.provenance[-1].get("model") or {}) if left.provenance else {}
    if made_with.get("weights_sha256") == zoo.find(model).card.weights_sha256:
        return left
    if left.source != incomplete_path(out):  # that one has a name, and stays
        remove_unfinished(left, out)
    return None


def _pairs(scan: Projections, config: ScansConfig) -> list[ScanPair]:
    """What a network shall be given, each beside what it shall make of it."""
    counts = [-(-scan.n_angles // k) for k in config.every]
    counts += [n for n in config.counts if n not in counts]
    is_shared_out = config.target_light == "left-out" and not why_no_counts(scan)
    if scan.n_angles in counts and not is_shared_out:
        raise ConfigError(
            f"{scan.title} has {scan.n_angles} projections: pairing all of them with "
            "all of them leaves nothing to learn. Use fewer (--counts, --every)."
        )
    whole = ScanPart("whole", f"the whole scan ({scan.n_angles} projections)", scan)
    photons: AnyDict = {
        "seed": config.photon_seed,
        "counts_per_photon": config.counts_per_photon,
    }
    halves = None
    if counts and is_shared_out:
        halves = [thinned(scan, MOST_LIGHT, rest=r, **photons) for r in (False, True)]
    found = []
    for count in counts:
        few = fewer_views(scan, count, config.acquisition)
        name = f"{count}-views" if config.acquisition == "step" else f"{count}-means"
        part = ScanPart(name, f"{count} of {scan.n_angles} projections", few)
        if halves is None:
            found.append(ScanPair(part, whole))
        else:
            found.append(_shared_out(scan, part, config.acquisition, *halves))
    for share in config.exposure:
        name = f"exposure-{share:g}".replace(".", "-")
        short, rest = (thinned(scan, share, rest=r, **photons) for r in (False, True))
        found.append(
            ScanPair(
                ScanPart(name, f"{share:g} of the exposure", short, share),
                # The rest of the photons, as noise that both share would be learned.
                ScanPart(
                    f"{name}-rest", f"{1 - share:g} of the exposure", rest, 1 - share
                ),
            )
        )
    if config.short is not None:
        other = open_projections(config.short, config.reading())
        check_same_detector(scan, other)
        found.append(ScanPair(ScanPart("short", other.title, other, None), whole))
    return found


def _shared_out(
    scan: Projections,
    few: ScanPart,
    acquisition: Acquisition,
    given: Projections,
    rest: Projections,
) -> ScanPair:
    """A pair that shares no photons: most of those of few views, and all the others.

    Parameters
    ----------
    given, rest : Projections
        The scan with most of its photons, and with those left out.
    """
    n = few.scan.n_angles
    some = f"{few.title}, {MOST_LIGHT:.0%} of their light"
    left = f"all projections, without the light of {few.title}"
    target = light_left_over(scan, MOST_LIGHT, n, acquisition, rest=rest)
    source = fewer_views(given, n, acquisition)
    return ScanPair(
        ScanPart(f"{few.name}-given", some, source, MOST_LIGHT),
        ScanPart(f"{few.name}-left", left, target),
        few,
    )
