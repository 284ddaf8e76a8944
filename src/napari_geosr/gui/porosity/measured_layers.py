"""Follow the layers in which pores were measured; note when results are outdated."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import MILLIMETRES, convert_length, same_sizes
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import (
    alignment_with,
    chosen_position,
    geometry,
    volume_from_layer,
)
from napari_geosr.gui.layers.camera import preserve_point
from napari_geosr.gui.layers.contents import contents_key, is_untouched
from napari_geosr.gui.porosity.pore_layers import position_text

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels, Layer

    from napari_geosr.gui.porosity.preview.levels_reader import Key, LevelsReader
    from napari_geosr.gui.porosity.settings import PorositySettings
    from napari_geosr.operations.measure import MeasureConfig
    from napari_geosr.operations.measure.planning import PlanConfig

    InputSettings = MeasureConfig | PlanConfig

#: Events of a layer that change its position or voxel size.
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units")
#: Delay in milliseconds until a moved slider or layer is taken into account.
_DELAY = 50
#: Delay in milliseconds from the last redraw until the labels are checked for edits.
_CHECK_DELAY = 300
#: Maximum size in bytes of labels that are compared with the original ones after edits,
#: to find out whether the edits were undone.
_MAX_BYTES = 2**30
#: Settings that select the sample, and settings that distinguish pores from solid.
_SAMPLE = ("sample_mask", "mask_closing")
_PORES = ("threshold", "phase", "local_window", "hysteresis")


@dataclass(frozen=True)
class NoteWords:
    """Wording of the notes about outdated results.

    Attributes
    ----------
    results, action : str
        Subject and noun, such as "These results" and "measurement".
    belong : str
        The verb that follows `results`.
    again : str
        What the user should do, such as "Press Measure to measure"; the object of the
        measurement is appended.
    """

    results: str = "These results"
    belong: str = "belong"
    action: str = "measurement"
    again: str = "Press Measure to measure"

    def other_image(self) -> str:
        """Return a note on results of another image."""
        return (
            f"{self.results} {self.belong} to a different image from the one chosen "
            f"under Settings. {self.again} the chosen image."
        )

    def other_position(self, measured: str, shown: str) -> str:
        """Return a note on results of another time point or channel."""
        return (
            f"{self.results} {self.belong} to {measured}, but {shown} is shown. "
            f"{self.again} {shown}."
        )

    def changed(self, what: str) -> str:
        """Return a note on an input that was changed."""
        return f"{what} changed after the {self.action}. {self.again} again."


class MeasuredScans(Protocol):
    """The volumes that were measured, without voxels, and where they come from."""

    @property
    def volumes(self) -> Mapping[str, Volume]: ...
    @property
    def origins(self) -> Mapping[str, AnyDict]: ...


class MeasuredLayers(QObject):
    """Follows the layers that were measured.

    If a layer is moved or its voxel size is changed, the layers of the results follow.

    Signals
    -------
    changed
        The note about the results may have changed.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        results_of: Callable[[str], Iterator[Layer]],
        parent: QObject,
        words: NoteWords | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._results_of = viewer, results_of
        self._words = words or NoteWords()
        self._measured: MeasuredScans | None = None
        self._sources: dict[str, weakref.ref[Layer]] = {}
        self._places: dict[str, AnyDict] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY)
        self._timer.timeout.connect(self._follow)
        self._followed = Connections(self)
        self._sliders = Connections(self)
        self._sliders.connect(viewer.dims.events.point, self._on_event)

    def set_measured(
        self, measured: MeasuredScans, sources: Mapping[str, weakref.ref[Layer]]
    ) -> None:
        """Follow the layers of a new measurement.

        Parameters
        ----------
        measured : MeasuredScans
        sources : mapping of weakref
            Layers measured, by key of the report.
        """
        self._measured, self._sources = measured, dict(sources)
        self._places = {
            key: geometry(measured.volumes[key]) | alignment_with(layer)
            for key, layer in self._existing()
        }
        self._followed.end()
        for _, layer in self._existing():
            for name in _PLACE:
                self._followed.connect(getattr(layer.events, name), self._on_event)
        self._timer.start()  # a layer may have been moved during the measurement

    def _existing(self) -> Iterator[tuple[str, Layer]]:
        for key, reference in self._sources.items():
            layer = reference()
            if layer is not None and layer in self._viewer.layers:
                yield key, layer

    def _on_event(self, _event: object = None) -> None:
        if self._measured is not None:
            self._timer.start()

    def _follow(self) -> None:
        """Put the layers of the results where the measured layers are."""
        for key, layer in self._existing():
            try:
                volume = volume_from_layer(layer, self._viewer)
            except GeoSRError:
                continue
            place = geometry(volume) | alignment_with(layer)
            if _is_same(place, self._places[key]):
                continue
            self._places[key] = place
            with preserve_point(self._viewer):
                for shown in self._results_of(key):
                    if shown.ndim == volume.ndim:
                        for name, value in place.items():
                            setattr(shown, name, value)
        self.changed.emit()

    def note(self, chosen: Layer | None) -> str:
        """Return why the results do not belong to the chosen image as it is now shown.

        Parameters
        ----------
        chosen : Layer or None
            The image that is chosen for the next measurement.
        """
        if self._measured is None or chosen is None:
            return ""
        keys = [key for key, layer in self._existing() if layer is chosen]
        if not keys:
            return self._words.other_image()
        for key, layer in self._existing():
            measured = self._measured.volumes[key]
            try:
                volume = volume_from_layer(layer, self._viewer)
            except GeoSRError:
                continue
            if not _has_same_voxels(volume, measured):
                return self._words.changed(f"The voxel size of {layer.name!r} was")
        origin = self._measured.origins.get(keys[0], {})
        position = chosen_position(chosen, self._viewer)
        if any(origin.get(name, at) != at for name, at in position.items()):
            return self._words.other_position(
                position_text(origin), position_text(position)
            )
        return ""


def _has_same_voxels(first: Volume, second: Volume) -> bool:
    if first.unit == second.unit:
        return same_sizes(first.voxel_size, second.voxel_size)
    if first.unit not in MILLIMETRES or second.unit not in MILLIMETRES:
        return False
    factor = convert_length(1.0, first.unit, second.unit)
    return same_sizes([factor * edge for edge in first.voxel_size], second.voxel_size)


def _is_same(first: AnyDict, second: AnyDict) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


class MeasuredInputs:
    """Remembers the grey values, the sample and the threshold of a measurement.

    Parameters
    ----------
    levels : LevelsReader
        Identifies the current grey values and the current sample.
    settings : PorositySettings
    words : NoteWords, optional
    """

    def __init__(
        self,
        levels: LevelsReader,
        settings: PorositySettings,
        words: NoteWords | None = None,
    ) -> None:
        self._levels, self._settings = levels, settings
        self._words = words or NoteWords()
        self._begun: tuple[Key, InputSettings] | None = None
        self._measured: tuple[Key, InputSettings] | None = None

    def begin(self, config: InputSettings) -> None:
        """Store the inputs when a measurement starts."""
        self._begun = self._levels.key(), config

    def finish(self) -> None:
        """Adopt the inputs of the measurement that has finished."""
        self._measured = self._begun

    def forget(self) -> None:
        """Forget the inputs, because other results are shown."""
        self._measured = None

    @property
    def is_current(self) -> bool:
        """Whether the measured grey values and sample are the current ones."""
        return self._measured is not None and self._measured[0] == self._levels.key()

    def note(self) -> str:
        """Return which input was changed after the measurement; empty if none was.

        Another layer, time point or channel is described by `MeasuredLayers.note`.
        """
        if self._measured is None:
            return ""
        (before, config), now = self._measured, self._levels.key()
        layer = self._levels.layer()
        if layer is None or not before or not now:
            return ""
        same = [a == b for a, b in zip(before, now, strict=True)]
        is_layer, is_grey, is_position, is_sample = same
        if not (is_layer and is_position):
            return ""
        if not is_grey:
            return self._words.changed(f"The grey values of {layer.name!r} were")
        if not is_sample or self._differs(config, _SAMPLE):
            return self._words.changed("The sample was")
        if self._differs(config, _PORES):
            return self._words.changed("The threshold settings were")
        return ""

    def _differs(self, config: InputSettings, names: tuple[str, ...]) -> bool:
        try:
            current = self._settings.config()
        except GeoSRError:  # shown next to the setting
            return False
        if config.sample_mask == current.sample_mask == "none":
            names = tuple(name for name in names if name != "mask_closing")
        return any(getattr(config, name) != getattr(current, name) for name in names)


class EditedPores(QObject):
    """Follows the pore layers of the last measurement.

    napari emits no event when an edit is undone or an array is changed in place, so the
    labels are also checked after the layer has been redrawn.

    Signals
    -------
    changed
        The note may have changed.
    """

    changed = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._followed = Connections(self)
        self._original: weakref.WeakKeyDictionary[Labels, Any] = (
            weakref.WeakKeyDictionary()
        )
        #: Number of edits of each edited layer.
        self._edits: weakref.WeakKeyDictionary[Labels, int] = (
            weakref.WeakKeyDictionary()
        )
        self._checks: weakref.WeakKeyDictionary[Labels, BackgroundTask] = (
            weakref.WeakKeyDictionary()
        )
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_CHECK_DELAY)
        self._timer.timeout.connect(self._check)

    def follow(self, layers: Iterable[Labels]) -> None:
        """Follow the layers of a new measurement, which are not edited yet."""
        self._followed.end()
        self._original.clear()
        self._edits.clear()
        for layer in layers:
            self._original[layer] = contents_key(layer)
            for event in (layer.events.paint, layer.events.data):
                self._followed.connect(event, self._on_edited)
            self._followed.connect(layer.events.set_data, self._on_drawn)

    def note(self, layer: Labels | None) -> str:
        """Return a note if a layer no longer matches the table; empty if it matches."""
        if layer is None or layer not in self._edits:
            return ""
        return (
            f"Layer {layer.name!r} was edited after the measurement, so it no longer "
            "matches the table. Undo the changes, or press Measure to measure again."
        )

    def _on_edited(self, event: Any) -> None:
        self._set_edited(event.source)

    def _on_drawn(self, _event: object = None) -> None:
        self._timer.start()

    def _set_edited(self, layer: Labels) -> None:
        if layer in self._original:
            self._edits[layer] = self._edits.get(layer, 0) + 1
            self._timer.start()
            self.changed.emit()

    def _check(self) -> None:
        """Compare the labels with those of the measurement."""
        for layer in list(self._original):
            is_same = contents_key(layer) == self._original[layer]
            if layer not in self._edits:
                if not is_same:
                    self._set_edited(layer)
            elif math.prod(layer.data.shape) * layer.data.dtype.itemsize <= _MAX_BYTES:
                self._compare(layer)

    def _compare(self, layer: Labels) -> None:
        """Check in a worker whether all edits of a layer were undone."""
        reference, edits = weakref.ref(layer), self._edits[layer]

        def steps(should_stop: ShouldStop) -> Generator[Step, None, bool]:
            yield from ()
            shown = reference()
            return shown is not None and is_untouched(shown, should_stop)

        if (earlier := self._checks.get(layer)) is not None:
            earlier.detach()
        self._checks[layer] = BackgroundTask(
            steps,
            owner=self,
            on_result=partial(self._on_compared, reference, edits),
        )

    def _on_compared(
        self, reference: weakref.ref[Labels], edits: int, is_undone: bool
    ) -> None:
        layer = reference()
        if layer is None or not is_undone or self._edits.get(layer) != edits:
            return
        del self._edits[layer]
        self._original[layer] = contents_key(layer)
        self.changed.emit()
