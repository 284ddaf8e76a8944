"""Finds out in the background what a run would do, and which model suits a scan best.

Waits while the dock prepares, previews or restores, so that nothing competes with what
a person asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.notify import sentence
from napari_geosr.gui.kit.worker import MakeSteps, Run
from napari_geosr.operations.restore.outlook import outlook_steps
from napari_geosr.operations.restore.ranking import rank_steps

if TYPE_CHECKING:
    from napari_geosr.core.noise import Noise
    from napari_geosr.operations.restore import PreparedRestoration
    from napari_geosr.operations.restore.outlook import Outlook
    from napari_geosr.operations.restore.ranking import Ranking

T = TypeVar("T")

#: Pause before looking, so that quick changes of settings start nothing.
_PAUSE_MS = 150


class Looking(QObject):
    """Ranks the models for a scan once, and looks at what the chosen one does.

    Signals
    -------
    looked : Outlook
        What the prepared run would do.
    ranked : Ranking
        The models in the order of their expected errors on the scan.
    busyChanged : str
        ``"rank"``, ``"look"`` or ``""``.
    told : str
        What is done now, in a few words.
    lookEnded
        The prepared run was looked at, or that failed.
    missed : str
        What could not be found out, and why.
    failed : object
        The error that ended a ranking that was asked for.
    """

    looked = Signal(object)
    ranked = Signal(object)
    busyChanged = Signal(str)
    told = Signal(str)
    lookEnded = Signal()
    missed = Signal(str)
    failed = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._volume: Volume | None = None
        self._wants_ranking = self._was_asked = self._looks_first = False
        self._prepared: PreparedRestoration | None = None
        self._has_looked = True
        self._noise: Noise | None = None
        self._is_paused = False
        self._busy = ""
        self._run: Run | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE_MS)
        self._timer.timeout.connect(self._advance)

    @property
    def busy(self) -> str:
        """What runs now: ``""``, ``"rank"`` or ``"look"``."""
        return self._busy

    @property
    def is_settled(self) -> bool:
        """Whether nothing runs and nothing is left to find out."""
        return not (self._busy or self._timer.isActive() or self._next())

    def set_volume(self, volume: Volume | None, *, rank: bool) -> None:
        """Take another scan; `rank` its models without being asked."""
        self._volume, self._noise = volume, None
        self._wants_ranking, self._was_asked = rank and volume is not None, False
        self.set_prepared(None)

    def set_prepared(self, prepared: PreparedRestoration | None) -> None:
        """Look at this run, or at none."""
        self._prepared, self._has_looked = prepared, prepared is None
        self._stop()
        self._timer.start()

    @property
    def has_looked(self) -> bool:
        """Whether the prepared run, if there is one, was looked at."""
        return self._has_looked

    def look_first(self) -> None:
        """Look at the prepared run before the models are ranked: it is to start."""
        if self._has_looked and self._prepared is not None:
            return
        # Of a run that is still being prepared: when it is.
        self._looks_first = True
        if self._busy == "rank":
            self._stop()
        self._timer.start(0)

    def find(self) -> None:
        """Rank the models for the scan, as a person asks."""
        if self._volume is not None:
            self._wants_ranking = self._was_asked = True
            self._timer.start(0)

    def set_paused(self, paused: bool) -> None:
        """Wait while the dock is at work, and start over afterwards."""
        if paused == self._is_paused:
            return
        self._is_paused = paused
        if paused:
            self._stop()
        else:
            self._timer.start()

    def _stop(self) -> None:
        if self._run is not None:
            self._run.cancel()

    def _next(self) -> str:
        if self._is_paused:
            return ""
        if self._wants_ranking and not (self._looks_first and not self._has_looked):
            return "rank"
        return "" if self._has_looked else "look"

    def _advance(self) -> None:
        what = self._next()
        if self._run is not None or not what:
            return
        volume, prepared, noise = self._volume, self._prepared, self._noise
        if what == "rank":
            assert volume is not None
            scan: Volume = volume
            self._start(
                what,
                lambda stop: rank_steps(scan, None, stop, noise=noise),
                lambda found: self._on_ranked(found, scan),
                scan,
            )
            return
        assert prepared is not None
        ready: PreparedRestoration = prepared
        self._start(
            what,
            lambda stop: outlook_steps(ready, noise=noise, should_stop=stop),
            lambda found: self._on_looked(found, ready),
            ready,
        )

    def _start(
        self,
        what: str,
        make_steps: MakeSteps[T],
        on_result: Callable[[T], None],
        of: Volume | PreparedRestoration,
    ) -> None:
        self._busy = what
        self._run = Run(
            make_steps,
            owner=self,
            on_step=self._on_step,
            on_result=on_result,
            on_error=lambda error: self._on_error(error, what, of),
            on_finished=self._on_finished,
        )
        self.busyChanged.emit(what)

    def _on_step(self, step: Step) -> None:
        if isinstance(step, StageStarted):
            self.told.emit(step.message)

    def _on_ranked(self, ranking: Ranking, volume: Volume) -> None:
        if volume is not self._volume:
            return
        self._wants_ranking = self._was_asked = False
        self._noise = ranking.noise
        self.ranked.emit(ranking)

    def _on_looked(self, outlook: Outlook, prepared: PreparedRestoration) -> None:
        if prepared is not self._prepared:
            return
        self._has_looked, self._looks_first = True, False
        self._noise = self._noise or outlook.noise
        self.looked.emit(outlook)
        self.lookEnded.emit()

    def _on_error(
        self, error: Exception, what: str, of: Volume | PreparedRestoration
    ) -> None:
        if isinstance(error, Cancelled):
            return
        if what == "look":
            if of is self._prepared:
                self._has_looked, self._looks_first = True, False
                self.missed.emit(f"What the model does is not known: {sentence(error)}")
                self.lookEnded.emit()
            return
        if of is not self._volume:
            return
        was_asked, self._wants_ranking = self._was_asked, False
        self._was_asked = False
        if was_asked or not isinstance(error, GeoSRError):
            self.failed.emit(error)
        else:
            self.missed.emit(f"The models could not be compared: {error}")

    def _on_finished(self) -> None:
        self._busy, self._run = "", None
        self.busyChanged.emit("")
        self._timer.start()
