"""The part of a scan that a cell of a study uses: projections and their exposure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyMapping
from napari_geosr.operations.reconstruct.fewer_views import (
    MAX_INPUT_LIGHT,
    fewer_views,
    reason_without_counts,
    remaining_light,
    thinned,
    unused_views,
)
from napari_geosr.operations.study.config import StudyConfig


@dataclass(frozen=True)
class ScanSubset:
    """A given number of projections of a scan, each with a fraction of the exposure.

    Attributes
    ----------
    projections : int
    exposure : float
        Fraction of the full exposure; 1 for the whole scan.
    """

    projections: int
    exposure: float = 1.0

    @classmethod
    def of(cls, row: AnyMapping) -> ScanSubset:
        """Return the subset of a row; earlier releases stored no exposure."""
        return cls(int(row["projections"]), float(row.get("exposure", 1.0)))

    @property
    def label(self) -> str:
        """Text for names of files and models."""
        if self.exposure == 1:
            return str(self.projections)
        return f"{self.projections}-exposure-{self.exposure}".replace(".", "-")

    @property
    def short(self) -> str:
        """Text for tables and legends."""
        at = "" if self.exposure == 1 else f" at {share_text(self.exposure)}"
        return f"{self.projections}{at}"

    @property
    def title(self) -> str:
        """Text for sentences."""
        at = "" if self.exposure == 1 else f" at {share_text(self.exposure)} exposure"
        return f"{self.projections} projections{at}"


class TrainingPair(NamedTuple):
    """Input and target for training or tuning.

    Attributes
    ----------
    source : Projections
        Input of a network or an algorithm.
    target : Projections
        Data with which the results are compared.
    target_description : str
        Description of `target`, in a few words.
    """

    source: Projections
    target: Projections
    target_description: str


#: Descriptions of training targets: the noise of the first two is independent of that
#: of the source; the whole scan contains the noise of the source.
_LIGHT, _VIEWS, _WHOLE = "light left out", "views left out", "the whole scan"


def share_text(share: float) -> str:
    """Format a fraction as a percentage."""
    return f"{100 * share:.3g} %"


def is_over_exposure(rows: Iterable[AnyMapping]) -> bool:
    """Return whether only the exposure varies and is therefore the horizontal axis."""
    subsets = {ScanSubset.of(row) for row in rows}
    return len({t.projections for t in subsets}) == 1 < len(subsets)


def all_subsets(config: StudyConfig, n_angles: int | None = None) -> list[ScanSubset]:
    """Return all subsets, by ascending number of projections and descending exposure.

    Parameters
    ----------
    n_angles : int, optional
        Number of projections of the whole scan, which is not a cell of its study.
    """
    return [
        ScanSubset(count, exposure)
        for count in config.counts
        for exposure in config.exposure
        if (count, exposure) != (n_angles, 1.0)
    ]


def check_subsets(scan: Projections, config: StudyConfig) -> None:
    """Refuse subsets that the scan cannot provide.

    Raises
    ------
    ConfigError
        If the scan cannot provide them; the message states what is possible.
    """
    n = scan.n_angles
    shorter = min(config.exposure) < 1
    most = n if shorter else n - 1
    if max(config.counts) > most or not all_subsets(config, n):
        raise ConfigError(
            f"{scan.title} has {n} projections, but {max(config.counts)} were "
            f"requested. Choose numbers {'up to' if shorter else 'below'} {n} "
            "(--counts)."
        )
    if shorter and (what := reason_without_counts(scan)):
        raise ConfigError(
            f"{scan.title} contains {what}: a shorter exposure can be simulated only "
            "from photon or detector counts. Omit shorter exposures (--exposure 1)."
        )


def take_subset(
    scan: Projections, subset: ScanSubset, config: StudyConfig
) -> tuple[Projections, str]:
    """Return the subset of a scan, and a note on how it was made.

    Parameters
    ----------
    scan : Projections
    subset : ScanSubset
    config : StudyConfig

    Returns
    -------
    projections : Projections
    note : str
        A sentence; may be empty.

    Raises
    ------
    ProjectionsError
        If the scan has too few projections, or a shorter exposure cannot be simulated.
    """
    exposed, note = _exposed(scan, subset, config, rest=False)
    return fewer_views(exposed, subset.projections, config.acquisition), note


def training_pair(
    scan: Projections, subset: ScanSubset, config: StudyConfig
) -> TrainingPair:
    """Return training data for networks: source and target projections.

    Source and target show the same object, with independent noise. The source has at
    most four fifths of the photons of the selected views; the target has the remaining
    photons and all other views. Without counts, the source is the subset and the target
    is the whole scan, as in the publications; their noise is then correlated.

    Parameters
    ----------
    scan : Projections
    subset : ScanSubset
    config : StudyConfig
    """
    if reason_without_counts(scan):
        return TrainingPair(take_subset(scan, subset, config)[0], scan, _WHOLE)
    share = min(_share(scan, subset, config), MAX_INPUT_LIGHT)
    given = _thinned(scan, share, config, rest=False)
    left = remaining_light(
        scan,
        share,
        subset.projections,
        config.acquisition,
        seed=config.seed,
        counts_per_photon=config.counts_per_photon,
    )
    few = fewer_views(given, subset.projections, config.acquisition)
    return TrainingPair(few, left, _LIGHT)


def photon_note(scan: Projections, config: StudyConfig) -> str:
    """Return a note if the photons of full exposures have to be divided."""
    if reason_without_counts(scan):
        return ""
    return _new_notes(_thinned(scan, MAX_INPUT_LIGHT, config, rest=False), scan)


def is_target_noisier(
    scan: Projections, subset: ScanSubset, config: StudyConfig
) -> bool:
    """Return whether the target's reconstructions are noisier than the source's.

    Parameters
    ----------
    scan : Projections
    subset : ScanSubset
    config : StudyConfig
    """
    share = min(_share(scan, subset, config), MAX_INPUT_LIGHT)
    part = subset.projections / scan.n_angles if config.acquisition == "step" else 1.0
    return 1 - part + part / (1 - share) > 1 / (part * share)


def tuning_pair(
    scan: Projections, subset: ScanSubset, config: StudyConfig
) -> TrainingPair:
    """Return projections for tuning settings, and others for comparing the results.

    Both scans contain the same object with independent noise; with common noise,
    settings that preserve the noise would seem best. Therefore, the other projections
    are the unused views, or contain the remaining photons of shorter exposures. If only
    a few views are unused, they reveal coarse structure better than fine structure. In
    this case, photons are reserved, as for networks; without counts, some of the
    selected views are reserved.

    Parameters
    ----------
    scan : Projections
    subset : ScanSubset
    config : StudyConfig
    """
    n, step = scan.n_angles, config.acquisition == "step"
    if step and 2 * subset.projections <= n:
        source = take_subset(scan, subset, config)[0]
        return TrainingPair(source, unused_views(scan, subset.projections), _VIEWS)
    if not reason_without_counts(scan):
        return training_pair(scan, subset, config)
    if step:
        fewer = max(min(subset.projections, n - n // 4), 2)
        return TrainingPair(fewer_views(scan, fewer), unused_views(scan, fewer), _VIEWS)
    half, other = scan.every(2), scan.every(2, 1)
    count = min(subset.projections, half.n_angles)
    return TrainingPair(fewer_views(half, count, config.acquisition), other, _VIEWS)


def effective_settings(scan: Projections, config: StudyConfig) -> StudyConfig:
    """Return the settings, with ``light="all"`` if photons cannot be removed."""
    if _is_quick(config) and reason_without_counts(scan):
        return config.model_copy(update={"light": "all"})
    return config


def _exposed(
    scan: Projections, subset: ScanSubset, config: StudyConfig, *, rest: bool
) -> tuple[Projections, str]:
    """Return the scan with a fraction of its photons, and a note.

    The note is empty unless the photons differ from those requested.
    """
    share = _share(scan, subset, config)
    if share >= 1:
        return scan, ""
    if subset.exposure == 1 and (what := reason_without_counts(scan)):
        return scan, (
            f"The scan contains {what} instead of counts, so each view of a "
            "continuous scan has the photons of all projections that are averaged in "
            "it (--light all)."
        )
    made = _thinned(scan, share, config, rest=rest)
    return made, _new_notes(made, scan)


def _new_notes(made: Projections, scan: Projections) -> str:
    known = scan.metadata.get("notes", ())
    return " ".join(n for n in made.metadata.get("notes", ()) if n not in known)


def _share(scan: Projections, subset: ScanSubset, config: StudyConfig) -> float:
    """Return the fraction of the photons of selected or averaged views to keep."""
    quick = subset.projections / scan.n_angles if _is_quick(config) else 1.0
    return subset.exposure * quick


def _is_quick(config: StudyConfig) -> bool:
    """Return whether a mean of projections has no more photons than one projection."""
    return config.acquisition == "continuous" and config.light == "one"


def _thinned(
    scan: Projections, share: float, config: StudyConfig, *, rest: bool
) -> Projections:
    gain = config.counts_per_photon
    return thinned(scan, share, rest=rest, seed=config.seed, counts_per_photon=gain)
