"""Follow a running or finished study job from its folder, without Qt."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.core.documents import read_json
from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.jobs.watch import JobWatch
from napari_geosr.jobs.folder import JobStatus
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.job import RESULT
from napari_geosr.operations.study.store import StudyStore
from napari_geosr.operations.study.subset import ScanSubset, all_subsets


class StudyWatch:
    """Follows one study.

    Attributes
    ----------
    rows : list of dict
        Finished cells, by number of projections; see `napari_geosr.operations.study`.
    """

    def __init__(self, path: Path) -> None:
        self._watch = JobWatch(path)
        self._rows_by_cell: dict[tuple[ScanSubset, str], AnyDict] = {}
        self.config = StudyConfig()
        self.rows: list[AnyDict] = []
        self._store = StudyStore(self.path / RESULT)
        self.read()

    @property
    def path(self) -> Path:
        """Folder of the job."""
        return self._watch.folder.path

    @property
    def status(self) -> JobStatus:
        """State of the job, and the number of finished cells."""
        return self._watch.status

    @property
    def stage(self) -> str:
        """Current stage, in a few words."""
        return self._watch.stage

    @property
    def warnings(self) -> list[str]:
        """Warnings of the study."""
        return self._watch.warnings

    @property
    def is_stop_requested(self) -> bool:
        """Whether a pause is requested but not yet in effect."""
        return self._watch.pending_request != ""

    @property
    def n_cells(self) -> int:
        """Number of cells, from the status of the job if it matches the settings."""
        n_algorithms = len(self.config.algorithms)
        n = len(all_subsets(self.config)) * n_algorithms
        # `all_subsets` may include the whole scan, which is not a cell. After a change
        # of settings, the job's total may still be that of a smaller study.
        total = self.status.total
        return total if n - n_algorithms <= total <= n else n

    @property
    def report(self) -> Path | None:
        """The report page with all results, once the study is done."""
        result = self.status.result
        done = self.status.state == "done" and result is not None
        return result if done else None

    def pause(self) -> None:
        """Ask the job to stop after the current block."""
        self._watch.request("pause")

    def read(self) -> None:
        """Read new events and results.

        Raises
        ------
        GeoSRError
            If the folder is gone, or can no longer be read.
        """
        while self._watch.read():
            pass
        settings = self._watch.folder.values().get("settings")
        self.config = StudyConfig.from_mapping(settings or {})
        cells = [
            (subset, name)
            for subset in all_subsets(self.config)
            for name in self.config.algorithms
        ]
        for cell in cells:
            if (
                cell not in self._rows_by_cell
                and (row := self._store.row(*cell)) is not None
            ):
                self._rows_by_cell[cell] = row
        self.rows = [
            self._rows_by_cell[cell] for cell in cells if cell in self._rows_by_cell
        ]

    def conclusion(self) -> str:
        """Describe, by algorithm, the fewest projections or lowest exposure needed."""
        try:
            values = read_json(self._store.files["json"])
            # Studies of earlier releases, without "least", used only the full exposure.
            shorter = min(self.config.exposure) < 1 and "least" in values
            smallest = {
                name: None if value is None else _as_subset(value)
                for name, value in values["least" if shorter else "fewest"].items()
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GeoSRError(
                f"{self._store.files['json']} cannot be read ({error}). Start the "
                "study again; finished reconstructions are kept."
            ) from error
        titles = {row["algorithm"]: row["title"] for row in self.rows}
        texts = [
            f"{titles.get(name, name)} {subset.short}"
            for name, subset in smallest.items()
            if subset is not None
        ]
        text = ", ".join(texts) if texts else "none of those tried"
        quantity = "Lowest total exposure" if shorter else "Fewest projections"
        gives = "gives" if shorter else "give"
        return f"{quantity} that still {gives} the correct porosity: {text}."


def _as_subset(value: AnyDict | int) -> ScanSubset:
    return ScanSubset(value) if isinstance(value, int) else ScanSubset.of(value)
