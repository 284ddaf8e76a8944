"""Compares the inputs and settings of a measurement with the current ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.core.errors import GeoSRError

if TYPE_CHECKING:
    from napari_geosr.gui.porosity.preview.levels_reader import Key, LevelsReader
    from napari_geosr.gui.porosity.settings import PorositySettings
    from napari_geosr.operations.measure import MeasureConfig

#: Settings that select the sample, and settings that distinguish pores from solid.
_SAMPLE = ("sample_mask", "mask_closing")
_PORES = ("threshold", "phase", "local_window", "hysteresis")


class MeasuredInputs:
    """Remembers the grey values, the sample and the threshold of a measurement.

    Parameters
    ----------
    levels : LevelsReader
        Identifies the current grey values and the current sample.
    settings : PorositySettings
    """

    def __init__(self, levels: LevelsReader, settings: PorositySettings) -> None:
        self._levels, self._settings = levels, settings
        self._begun: tuple[Key, MeasureConfig] | None = None
        self._measured: tuple[Key, MeasureConfig] | None = None

    def begin(self, config: MeasureConfig) -> None:
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
            return _changed(f"The grey values of {layer.name!r} were")
        if not is_sample or self._differs(config, _SAMPLE):
            return _changed("The sample was")
        if self._differs(config, _PORES):
            return _changed("The threshold settings were")
        return ""

    def _differs(self, config: MeasureConfig, names: tuple[str, ...]) -> bool:
        try:
            current = self._settings.config()
        except GeoSRError:  # shown next to the setting
            return False
        if config.sample_mask == current.sample_mask == "none":
            names = tuple(name for name in names if name != "mask_closing")
        return any(getattr(config, name) != getattr(current, name) for name in names)


def _changed(what: str) -> str:
    return f"{what} changed after the measurement. Press Measure to measure again."
