"""Determine the verdict on a run and rank the models, in the background.

This work waits while the dock prepares, previews or restores, so that it does not
compete with the user's requests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.notify import error_sentence
from napari_geosr.operations.restore.ranking import RankConfig, rank_steps
from napari_geosr.operations.restore.verdict.run_verdict import SEVERITY, RunVerdict
from napari_geosr.operations.restore.verdict.steps import verdict_steps

if TYPE_CHECKING:
    from napari_geosr.core.noise import Noise
    from napari_geosr.operations.restore import PreparedRestoration
    from napari_geosr.operations.restore.ranking import Ranking

#: Names of the operations.
RANK, VERDICT = "rank", "verdict"
#: Key of the verdict on the volume on screen.
_ON_SCREEN = ""

Others = Callable[[], Iterable[tuple[str, "PreparedRestoration"]]]


def _no_others() -> tuple[()]:
    return ()


def _verdicts_steps(
    prepared: PreparedRestoration,
    others: Others,
    noise: Noise | None,
    ranking: Ranking | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, dict[str, RunVerdict]]:
    """Examine the run on the volume on screen, and then on other points of a series."""
    found = {
        _ON_SCREEN: (
            yield from verdict_steps(
                prepared, noise=noise, ranking=ranking, should_stop=should_stop
            )
        )
    }
    for name, other in others():
        try:
            found[name] = yield from verdict_steps(other, should_stop=should_stop)
        except Cancelled:
            raise
        except GeoSRError as error:  # the other verdicts remain
            sentence = f"The effect of the model could not be checked: {error}"
            found[name] = RunVerdict("caution", sentence)
    return found


def _worst_verdict(verdicts: Mapping[str, RunVerdict]) -> tuple[RunVerdict, str]:
    """Return the most severe verdict, with other harmful ones added, and its place.

    Of equally severe verdicts, the first one counts: that of the volume on screen.
    """
    worst = max(verdicts, key=lambda name: SEVERITY[verdicts[name].level])
    verdict = verdicts[worst]
    also = [
        f"{name}: {each.sentence}"
        for name, each in verdicts.items()
        if each.is_harmful and name != worst
    ]
    return replace(verdict, reasons=(*verdict.reasons, *also)), worst


class VerdictActivity(Activity):
    """Ranks the models for a scan once, and examines the effect of the chosen one.

    Signals
    -------
    verdictReady : RunVerdict, str
        Expected effect of the prepared run, and the name of the channel or time point
        for which the effect is worst, if it is not on screen.
    ranked : Ranking
        The models, ordered by expected error on the scan.
    verdictEnded
        The examination of the prepared run has ended or failed.
    unavailable : str
        What could not be determined, and why.
    """

    verdictReady = Signal(object, str)
    ranked = Signal(object)
    verdictEnded = Signal()
    unavailable = Signal(str)

    # Start nothing while settings change rapidly.
    _debounce_ms = _pause_ms = 150

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._volume: Volume | None = None
        #: Settings of pending rankings, and the upscale factors requested by the user.
        self._wanted: list[RankConfig] = []
        self._requested: set[int] = set()
        self._verdict_first = False
        self._prepared: PreparedRestoration | None = None
        self._others: Others = _no_others
        self._has_verdict = self._is_ranked = True
        self._noise: Noise | None = None
        self._rankings: dict[int, Ranking] = {}
        self._is_paused = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing is running or pending."""
        return not (self._busy or self._timer.isActive() or self._next())

    def set_volume(self, volume: Volume | None, config: RankConfig | None) -> None:
        """Set another scan; with `config`, rank the models for it automatically."""
        self._volume, self._noise, self._rankings = volume, None, {}
        self._wanted = [] if config is None or volume is None else [config]
        self._requested = set()
        self.set_prepared(None)

    def set_prepared(
        self,
        prepared: PreparedRestoration | None,
        others: Others | None = None,
        *,
        is_ranked: bool = True,
    ) -> None:
        """Examine this run; None if there is no run.

        Parameters
        ----------
        prepared : PreparedRestoration or None
        others : callable, optional
            Returns the runs for channels and time points that are not on screen, with
            their names; called in the worker, because it reads voxels.
        is_ranked : bool
            Whether the gains of the ranking apply to the run.
        """
        self._is_ranked = is_ranked
        self._prepared, self._has_verdict = prepared, prepared is None
        self._others = others or _no_others
        self.cancel()
        self._restart_later()

    @property
    def has_verdict(self) -> bool:
        """Whether the prepared run, if there is one, has been examined."""
        return self._has_verdict

    def find_verdict(self) -> None:
        """Examine the prepared run before ranking, because it is about to start."""
        if self._has_verdict and self._prepared is not None:
            return
        # If the run is still being prepared, it is examined afterwards.
        self._verdict_first = True
        if self._busy == RANK:
            self.cancel()
        self._timer.start(0)

    @property
    def rankings(self) -> dict[int, Ranking]:
        """Rankings of the scan by upscale factor; the key 1 stands for denoisers."""
        return self._rankings

    def request_ranking(self, config: RankConfig) -> None:
        """Rank models for the scan on request, before any rankings that are waiting."""
        if self._volume is None:
            return
        factor = config.upscale_factor
        waiting = [each for each in self._wanted if each.upscale_factor != factor]
        self._wanted = [config, *waiting]
        self._requested.add(factor)
        if self._busy == RANK:
            self.cancel()
        self._timer.start(0)

    def set_paused(self, paused: bool) -> None:
        """Cancel the work while the dock is busy, and restart it afterwards."""
        if paused == self._is_paused:
            return
        self._is_paused = paused
        if paused:
            self.cancel()
        else:
            self._restart_later()

    def _next(self) -> str:
        if self._is_paused:
            return ""
        if self._wanted and not (self._verdict_first and not self._has_verdict):
            return RANK
        return "" if self._has_verdict else VERDICT

    def _start_next(self) -> None:
        operation = self._next()
        if not operation:
            return
        volume, prepared, noise = self._volume, self._prepared, self._noise
        if operation == RANK:
            assert volume is not None
            scan: Volume = volume
            config = self._wanted[0]
            self.start(
                operation,
                lambda stop: rank_steps(scan, config, stop, noise=noise),
                lambda ranking: self._on_ranked(ranking, scan),
                on_error=lambda error: self._on_not_ranked(error, scan, config),
            )
            return
        assert prepared is not None
        ready: PreparedRestoration = prepared
        factor = ready.model.card.upscale_factor
        ranking = self._rankings.get(factor) if self._is_ranked else None
        others = self._others
        self.start(
            operation,
            lambda stop: _verdicts_steps(ready, others, noise, ranking, stop),
            lambda verdicts: self._on_verdicts(verdicts, ready),
            on_error=lambda error: self._on_verdict_failed(error, ready),
        )

    def _on_ranked(self, ranking: Ranking, volume: Volume) -> None:
        if volume is not self._volume:
            return
        factor = ranking.upscale_factor
        self._forget(factor)
        self._noise = ranking.noise
        self._rankings[factor] = ranking
        if self._prepared is not None:
            self._has_verdict = False  # examine again, with the gain from the ranking
        self.ranked.emit(ranking)

    def _on_verdicts(
        self, verdicts: Mapping[str, RunVerdict], prepared: PreparedRestoration
    ) -> None:
        if prepared is not self._prepared:
            return
        self._has_verdict, self._verdict_first = True, False
        self._noise = self._noise or verdicts[_ON_SCREEN].noise
        self.verdictReady.emit(*_worst_verdict(verdicts))
        self.verdictEnded.emit()

    def _on_verdict_failed(
        self, error: Exception, prepared: PreparedRestoration
    ) -> None:
        if isinstance(error, Cancelled) or prepared is not self._prepared:
            return
        self._has_verdict, self._verdict_first = True, False
        self.unavailable.emit(
            f"The effect of the model could not be checked: {error_sentence(error)}"
        )
        self.verdictEnded.emit()

    def _on_not_ranked(
        self, error: Exception, volume: Volume, config: RankConfig
    ) -> None:
        if isinstance(error, Cancelled) or volume is not self._volume:
            return
        was_requested = self._forget(config.upscale_factor)
        if was_requested or not isinstance(error, GeoSRError):
            self.failed.emit(error)
        else:
            self.unavailable.emit(f"The models could not be compared: {error}")

    def _forget(self, factor: int) -> bool:
        """Discard a ranking that has ended; return whether it had been requested."""
        self._wanted = [one for one in self._wanted if one.upscale_factor != factor]
        was_requested = factor in self._requested
        self._requested.discard(factor)
        return was_requested
