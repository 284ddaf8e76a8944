"""The spectrum of the frames, with the patterns as peaks that can be moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, Signal

from napari_geosr.core.layer_data import pint_unit
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers import helper_metadata
from napari_geosr.gui.layers.camera import remove_together
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.sim.steps import FoundPatterns

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer, Points, Shapes
    from napari.utils.events import Event

#: Gap between the frames and the spectrum, as a fraction of the width of a frame.
_GAP = 0.05
#: Minimum distance, in pixels of the spectrum, at which a peak counts as moved.
_MOVED = 0.25
#: Colours of the angles, used cyclically; distinguishable by colour-blind users.
_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7")
#: Diameter of the circles around peaks, as a fraction of the width of the spectrum.
_DIAMETER = 0.02


def peak_places(
    wave_vectors: Sequence[tuple[float, float]], shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Return the positions of wave vectors and of their negatives in a spectrum.

    Parameters
    ----------
    wave_vectors : sequence of (float, float)
        Wave vectors (ky, kx) in cycles per camera pixel.
    shape : (int, int)
        Rows and columns of the spectrum; frequency zero is at
        ``(rows // 2, columns // 2)``.

    Returns
    -------
    ndarray of shape (2 n, 2)
        In pixels: the first wave vector, its negative, the second wave vector, …
    """
    size = np.asarray(shape, float)
    middle = np.asarray([n // 2 for n in shape], float)
    steps = np.asarray(wave_vectors, float).reshape(-1, 2) * size
    return np.stack([middle + steps, middle - steps], 1).reshape(-1, 2)


def moved_vectors(
    places: npt.NDArray[np.float64],
    wave_vectors: Sequence[tuple[float, float]],
    shape: tuple[int, int],
) -> list[tuple[float, float]]:
    """Return the wave vectors after the user has moved one of their peaks.

    Parameters
    ----------
    places : ndarray of shape (2 n, 2)
        Current positions, in the order of `peak_places`.
    wave_vectors : sequence of (float, float)
        Previous wave vectors.

    Returns
    -------
    list of (float, float)
        Wave vectors without a moved peak are unchanged.
    """
    before = peak_places(wave_vectors, shape)
    distances = np.linalg.norm(places - before, axis=1)
    middle = np.asarray([n // 2 for n in shape], float)
    found = []
    for i, vector in enumerate(wave_vectors):
        which = 2 * i + int(distances[2 * i + 1] > distances[2 * i])
        if distances[which] <= _MOVED:
            found.append(vector)
            continue
        sign = 1 if which % 2 == 0 else -1
        ky, kx = sign * (places[which] - middle) / np.asarray(shape, float)
        found.append((float(ky), float(kx)))
    return found


class PatternLayers(QObject):
    """Three helper layers to the right of the frames: spectrum, cut-off and peaks.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    parent : QObject

    Signals
    -------
    moved : PatternSet
        The user has moved a peak; these are the patterns with its new wave vector.
    """

    moved = Signal(object)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._patterns: PatternSet | None = None
        self._is_updating = False
        self.spectrum: Image | None = None
        self.peaks: Points | None = None
        self.cut_off: Shapes | None = None

    @property
    def layers(self) -> list[Layer]:
        """The layers that are in the viewer."""
        made = (self.spectrum, self.cut_off, self.peaks)
        return [la for la in made if la is not None and la in self._viewer.layers]

    def show(self, found: FoundPatterns, source: Layer) -> None:
        """Show the spectrum of frames next to their layer; replace an earlier one."""
        patterns = found.estimate.patterns
        self.remove()
        active = self._viewer.layers.selection.active
        options = beside(source, found.spectrum.shape)
        name = source.name
        self.spectrum = unwrapped(
            self._viewer.add_image(
                found.spectrum,
                name=f"{name} spectrum",
                colormap="magma",
                contrast_limits=_limits(found.spectrum),
                metadata=helper_metadata("spectrum"),
                **options,
            )
        )
        y, x = found.spectrum.shape
        radius = found.estimate.otf.cut_off
        box = np.asarray([(-1, -1), (-1, 1), (1, 1), (1, -1)], float)
        self.cut_off = unwrapped(
            self._viewer.add_shapes(
                [(y // 2, x // 2) + box * radius * np.asarray((y, x))],
                shape_type="ellipse",
                name=f"{name} cut-off",
                edge_color="white",
                face_color="transparent",
                edge_width=max(1.0, x / 300),
                metadata=helper_metadata("spectrum"),
                **options,
            )
        )
        if patterns.fringes:
            self._add_peaks(f"{name} patterns", patterns, options)
        self._viewer.layers.selection.active = active

    def _add_peaks(self, name: str, patterns: PatternSet, options: AnyDict) -> None:
        shape = patterns.shape
        colours = [
            _COLOURS[i % len(_COLOURS)]
            for i in range(len(patterns.fringes))
            for _ in "+-"
        ]
        self.peaks = unwrapped(
            self._viewer.add_points(
                peak_places(_vectors(patterns), shape),
                name=name,
                size=max(6.0, _DIAMETER * shape[1]),
                face_color="transparent",
                border_color=colours,
                border_width=0.15,
                metadata=helper_metadata("spectrum"),
                **options,
            )
        )
        self._patterns = patterns
        self.peaks.events.data.connect(self._on_data)

    def update_patterns(self, patterns: PatternSet) -> None:
        """Move the peaks to the positions for other patterns of the same frames."""
        self._patterns = patterns
        if self.peaks is None or self.peaks not in self._viewer.layers:
            return
        self._is_updating = True
        self.peaks.data = peak_places(_vectors(patterns), patterns.shape)
        self._is_updating = False

    def remove(self) -> None:
        """Remove those layers that are still in the viewer."""
        remove_together(self._viewer, *self.layers)
        self.spectrum = self.peaks = self.cut_off = None
        self._patterns = None

    def _on_data(self, event: Event) -> None:
        patterns = self._patterns
        action = str(getattr(event, "action", ""))
        if self._is_updating or patterns is None or self.peaks is None:
            return
        if "ing" in action:  # the action has not finished
            return
        before = _vectors(patterns)
        places = np.asarray(self.peaks.data, float)
        if len(places) != 2 * len(before):  # a peak was added or deleted
            self.update_patterns(patterns)
            return
        vectors = moved_vectors(places, before, patterns.shape)
        if vectors == before:
            return
        fringes = tuple(
            replace(fringe, wave_vector=vector)
            for fringe, vector in zip(patterns.fringes, vectors, strict=True)
        )
        self.moved.emit(replace(patterns, fringes=fringes))


def _vectors(patterns: PatternSet) -> list[tuple[float, float]]:
    return [fringe.wave_vector for fringe in patterns.fringes]


def _limits(spectrum: npt.NDArray[np.float32]) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(spectrum, (20, 99.98)))
    return (low, high) if low < high else (low, low + 1)


def beside(source: Layer, shape: tuple[int, ...], place: int = 1) -> AnyDict:
    """Return the options that place an image to the right of the layer of frames.

    Parameters
    ----------
    source : Layer
    shape : tuple of int
        Shape of a frame, in pixels.
    place : int
        1 for the position next to the frames, 2 for the one after that.
    """
    known = geometry_of_layer(source)
    scale = np.asarray(known.voxel_size[-2:], float)
    corner = np.asarray(known.origin[-2:], float)
    corner = corner + np.asarray((0, place * (1 + _GAP) * shape[1] * scale[1]))
    units = (pint_unit(str(source.units[-1])),) * 2
    affine = known.affine[-3:, -3:]
    return {"scale": scale, "translate": corner, "affine": affine, "units": units}
