"""The table of illumination patterns, with editable directions and periods."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QTreeWidgetItem, QVBoxLayout, QWidget

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.gui.kit.lists import NUMBERS, list_tree
from napari_geosr.operations.sim import MIN_CONFIDENCE, PatternEstimate
from napari_geosr.operations.sim.config import parse_nanometres

#: Columns of the table of patterns.
_COLUMNS = ("Direction", "Period", "Modulation", "Peak")
#: Columns that can be edited.
_DIRECTION = 0
_PERIOD = 1
#: Columns that are right-aligned, because they contain numbers.
_NUMBERS = (1, 2, 3)
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")

#: Range of frequencies that a corrected pattern may have, relative to the cut-off. The
#: search suppresses lower frequencies; the objective does not transmit higher ones.
_RANGE = (0.1, 1.2)
#: Highest frequency along an axis that the camera resolves, in cycles per pixel.
_NYQUIST = 0.5


class PatternTable(QWidget):
    """Direction, period, phases, modulation and confidence for each angle.

    The table is hidden while no pattern is known.

    Signals
    -------
    edited : PatternSet
        The user entered a direction or a period; these are the patterns with the
        corresponding wave vector.
    failed : ConfigError
        The input is not a direction or a period.
    """

    edited = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._estimate: PatternEstimate | None = None
        self._is_filling = False
        self.tree = list_tree(
            _COLUMNS,
            "Patterns",
            "Illumination patterns. Double-click a direction or period to type a "
            "value; the pattern is then searched for near that value. Modulation "
            "is given for each harmonic; with a single one, it ranges from 0 to 1. "
            "Peak is the confidence, that is, the height of the "
            f"correlation peak relative to its surroundings; below {MIN_CONFIDENCE:g}, "
            "the pattern is marked as not found.",
            heights=(140, 190),
            numbers=_NUMBERS,
        )
        self.tree.setEditTriggers(self.tree.EditTrigger.NoEditTriggers)
        self.tree.itemDoubleClicked.connect(self._on_double_click)
        self.tree.itemChanged.connect(self._on_item)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.tree)
        self.setVisible(False)

    def show_estimate(self, estimate: PatternEstimate | None) -> None:
        """Show the patterns of an estimate; hide the table if there is none.

        If they are already shown, nothing changes, so that editing a cell is not
        interrupted.
        """
        if estimate is None or estimate is not self._estimate:
            self._estimate = estimate
            self.reset()

    def reset(self) -> None:
        """Fill the table with the values of the estimate, discarding what was typed."""
        estimate = self._estimate
        self._is_filling = True
        self.tree.clear()
        patterns = None if estimate is None else estimate.patterns
        self.setVisible(patterns is not None and bool(patterns.fringes))
        if estimate is not None and patterns is not None:
            for i, fringe in enumerate(patterns.fringes):
                self._add_row(i, fringe, estimate)
        self._is_filling = False

    def _add_row(
        self, i: int, fringe: FringePattern, estimate: PatternEstimate
    ) -> None:
        patterns = estimate.patterns
        known = i < len(patterns.confidence)
        peak = patterns.confidence[i] if known else math.nan
        row = QTreeWidgetItem(
            [
                f"{i + 1}: {fringe.direction:.1f}°",
                length_text(patterns.pixel_size / fringe.frequency, patterns.unit),
                " / ".join(f"{m:.2f}" for m in fringe.modulation),
                f"{peak:.1f}" if math.isfinite(peak) else "–",
            ]
        )
        for column in _NUMBERS:
            row.setTextAlignment(column, NUMBERS)
        row.setFlags(row.flags() | Qt.ItemFlag.ItemIsEditable)
        problem = estimate.fits[i].problem if i < len(estimate.fits) else ""
        if problem:
            row.setText(0, f"{row.text(0)} \N{WARNING SIGN}")
            for column in range(len(_COLUMNS)):
                row.setToolTip(column, problem)
        self.tree.addTopLevelItem(row)
        phases = " ".join(f"{math.degrees(p) % 360:.0f}°" for p in fringe.phases)
        below = QTreeWidgetItem([f"phases {phases}"])
        below.setToolTip(0, f"Phases of angle {i + 1} at the centre of the frames.")
        row.addChild(below)
        row.setExpanded(True)
        self.tree.setFirstColumnSpanned(0, self.tree.indexFromItem(row), True)

    def _on_double_click(self, item: QTreeWidgetItem, column: int) -> None:
        if column in (_DIRECTION, _PERIOD) and item.parent() is None:
            self.tree.editItem(item, column)

    def _on_item(self, item: QTreeWidgetItem, column: int) -> None:
        estimate = self._estimate
        if self._is_filling or estimate is None:
            return
        row = self.tree.indexOfTopLevelItem(item)
        text = item.text(column)
        patterns = estimate.patterns
        try:
            changed = with_typed(patterns, row, column == _PERIOD, text)
        except ConfigError as error:
            self.reset()
            self.failed.emit(error)
            return
        if changed is patterns:
            self.reset()
            return
        self.edited.emit(changed)


def with_typed(
    patterns: PatternSet, angle: int, is_period: bool, text: str
) -> PatternSet:
    """Return the patterns with a direction or period that the user entered.

    Parameters
    ----------
    patterns : PatternSet
    angle : int
        Index of the angle, from 0.
    is_period : bool
        Whether `text` is a period such as ``"221 nm"`` instead of a direction such as
        ``"1: 114.7°"``.
    text : str

    Returns
    -------
    PatternSet
        The same object if nothing has changed.

    Raises
    ------
    ConfigError
        If the text is not a valid direction or period.
    """
    fringe = patterns.fringes[angle]
    direction, period = fringe.direction, patterns.pixel_size / fringe.frequency
    if is_period:
        if text == length_text(period, patterns.unit):
            return patterns
        period = _length(text, patterns.unit)
    else:
        numbers = _NUMBER.findall(text.split(":")[-1])
        if not numbers:
            raise ConfigError(
                f"{text!r} is not a direction. Enter an angle in degrees, such as "
                "114.7."
            )
        typed = float(numbers[0].replace(",", "."))
        if f"{typed:.1f}" == f"{direction:.1f}":
            return patterns
        direction = typed
    frequency, turn = patterns.pixel_size / period, math.radians(direction)
    vector = (frequency * math.sin(turn), frequency * math.cos(turn))
    if max(abs(k) for k in vector) >= 0.5:
        raise ConfigError(
            f"A period of {length_text(period, patterns.unit)} is below two pixels, "
            "which the camera cannot resolve. Enter a longer period."
        )
    fringes = list(patterns.fringes)
    fringes[angle] = replace(fringe, wave_vector=vector)
    return replace(patterns, fringes=tuple(fringes))


def check_corrected(estimate: PatternEstimate, corrected: PatternSet) -> None:
    """Refuse corrected patterns that cannot be found in the frames.

    Parameters
    ----------
    estimate : PatternEstimate
        The patterns before the correction.
    corrected : PatternSet

    Raises
    ------
    ConfigError
        If the period of a changed pattern is too short or too long.
    """
    before = estimate.patterns.fringes
    for i, (old, new) in enumerate(zip(before, corrected.fringes, strict=True), 1):
        if new.wave_vector != old.wave_vector:
            problem = _problem(new, corrected, estimate.otf.cut_off)
            if problem:
                raise ConfigError(f"Angle {i}: {problem}")


def _problem(fringe: FringePattern, patterns: PatternSet, cut_off: float) -> str:
    """Return why a pattern cannot be found; empty if it can."""
    low, high = (factor * cut_off for factor in _RANGE)
    size, unit = patterns.pixel_size, patterns.unit
    if fringe.frequency < low:
        return (
            f"a pattern with a period above {length_text(size / low, unit)} cannot be "
            "distinguished from the sample. Move the circle away from the centre of "
            "the spectrum, or enter a shorter period."
        )
    period = length_text(size / fringe.frequency, unit)
    remedy = (
        "Move the circle towards the centre of the spectrum, or enter a longer period"
    )
    if max(abs(k) for k in fringe.wave_vector) >= _NYQUIST:
        return (
            f"a period of {period} is below two pixels, which the camera cannot "
            f"resolve. {remedy}."
        )
    if fringe.frequency > high:
        return (
            f"the objective does not transmit a period of {period}; its limit is "
            f"{length_text(size / cut_off, unit)}. {remedy}."
        )
    return ""


def _length(text: str, unit: str) -> float:
    """Convert a typed length to the unit of the patterns; without a unit, it is in nm.

    If the unit of the patterns is pixels, the length is in pixels.
    """
    problem = f"{text!r} is not a period. Enter a length, such as 221 nm."
    if unit == PIXEL:
        numbers = _NUMBER.findall(text)
        value = float(numbers[0].replace(",", ".")) if numbers else 0.0
    else:
        try:
            nanometres = parse_nanometres(text)
        except ValueError as error:
            raise ConfigError(problem) from error
        assert isinstance(nanometres, float), "a text gives a number"
        value = convert_length(nanometres, "nm", unit)
    if not value > 0:
        raise ConfigError(problem)
    return value


def length_text(length: float, unit: str) -> str:
    """Format a length with three significant digits, such as ``"221 nm"``."""
    if unit == "µm" and length < 1:
        length, unit = 1000 * length, "nm"
    return f"{float(f'{length:.3g}'):g} {unit}"
