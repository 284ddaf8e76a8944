"""Layers that outline the spots of a scan plan in the image."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer

from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers import add_described_labels, helper_metadata, same_place
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.porosity.pore_layers import position_text
from napari_geosr.operations.measure import percent_text

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels, Layer
    from napari.utils.colormaps import DirectLabelColormap
    from qtpy.QtCore import QEvent

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.measure.planning import ScanPlan

#: Index along one axis.
Key = int | slice
#: Colour of the spots; visible on all greys from black to white.
_COLOUR = "#e69f00"
#: Width of the outlines of the spots in voxels.
_CONTOUR = 2


@dataclass
class _Spots:
    """The layer with the spots of an image, and the two parts of its name."""

    layer: weakref.ref[Labels]
    image_name: str
    suffix: str


#: Layers of spots, by image; also those of docks that were closed.
_spots: weakref.WeakKeyDictionary[Layer, _Spots] = weakref.WeakKeyDictionary()


class SpotLayers(QObject):
    """Adds a layer of spots to an image; it is removed with the image."""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._connections = Connections(self)
        self._connections.connect(viewer.layers.events.removed, self._on_removed)
        self._orphans: list[weakref.ref[Labels]] = []
        self._cleaning = QTimer(self)
        self._cleaning.setSingleShot(True)
        self._cleaning.timeout.connect(self._remove_orphans)
        #: Images that are watched for renaming.
        self._followed: weakref.WeakSet[Layer] = weakref.WeakSet()
        for image in list(_spots):
            self._follow(image)

    def _follow(self, image: Layer) -> None:
        """Rename the spots of an image with the image."""
        if image not in self._followed:
            self._followed.add(image)
            self._connections.connect(image.events.name, self._on_renamed)

    def _on_renamed(self, _event: object = None) -> None:
        self.align()

    def align(self) -> None:
        """Put all spots where their images are, and name them after the images."""
        for image in list(_spots):
            spots = self._of(image)
            if spots is None or image not in self._viewer.layers:
                continue
            known = _spots[image]
            if known.image_name != image.name:
                if spots.name == f"{known.image_name}{known.suffix}":
                    spots.name = f"{image.name}{known.suffix}"
                known.image_name = image.name
            for name, value in same_place(image).items():
                if not np.array_equal(getattr(spots, name), value):
                    setattr(spots, name, value)

    def remove(self, image: Layer) -> None:
        """Remove the spots of an image."""
        if (layer := self._of(image)) is not None:
            self._viewer.layers.remove(layer)

    def _of(self, image: Layer) -> Labels | None:
        """Return the layer with the spots of an image, if it is open."""
        known = _spots.get(image)
        layer = None if known is None else known.layer()
        return layer if layer is not None and layer in self._viewer.layers else None

    def _on_removed(self, event: QEvent) -> None:
        """Remove the spots of an image that was removed, after napari has finished."""
        if (known := _spots.pop(event.value, None)) is not None:
            self._orphans.append(known.layer)
            self._cleaning.start(0)

    def _remove_orphans(self) -> None:
        while self._orphans:
            layer = self._orphans.pop()()
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def replace(
        self,
        image: Layer,
        volume: Volume,
        position: Mapping[str, int],
        plan: ScanPlan,
    ) -> None:
        """Outline the spots in every slice; the least porous one has the number 1.

        Parameters
        ----------
        image : Layer
        volume : Volume
            The image from which the plan was made; voxels are not needed.
        position : mapping of str to int
            Time point and channel.
        plan : ScanPlan
        """
        self.remove(image)
        if not plan.spots:
            return
        ndim = len(volume.voxel_size)
        size, origin = np.array(volume.voxel_size), np.array(volume.origin)
        centres = np.array([spot.centre[3 - ndim :] for spot in plan.spots])
        edges = plan.spot_edge / size
        starts = np.rint((centres - origin) / size - (edges - 1) / 2).astype(int)
        suffix = " · spots"
        if where := position_text(position):
            suffix += f" ({where})"
        words = {"T": "time", "C": "channel"}
        axes = geometry_of_layer(image).axes[: image.ndim - ndim]
        at = [position.get(words.get(axis, "")) for axis in axes]
        shape, whole = image.data.shape, np.rint(edges).astype(int)
        array = SpotArray(shape, starts, whole, at)
        porosities = [spot.porosity for spot in plan.spots]
        shown = add_described_labels(
            self._viewer,
            array,
            lambda label: spot_text(label, porosities),
            name=f"{image.name}{suffix}",
            colormap=spot_colormap(),
            features={  # row 0 is the background
                "index": [0, *(spot.stratum for spot in plan.spots)],
                "porosity": [np.nan, *porosities],
            },
            metadata=helper_metadata("spots"),
            contour=_CONTOUR,
            editable=False,
            **same_place(image),
        )
        _spots[image] = _Spots(weakref.ref(shown), image.name, suffix)
        self._follow(image)


def spot_text(label: int, porosities: Sequence[float]) -> str:
    """Describe a spot by its number and its porosity."""
    if not 0 < label <= len(porosities):
        return "no spot"
    return f"spot {label}: porosity {percent_text(porosities[label - 1])}"


def spot_colormap() -> DirectLabelColormap:
    """Return a colormap with one colour for all spots."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict={0: "transparent", None: _COLOUR})


class SpotArray:
    """A lazy label array of boxes; each part is computed when it is requested.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array, including leading axes that the boxes lack, such as time.
    starts : ndarray of shape (n, ndim), int
        First voxels of the boxes.
    edges : ndarray of shape (ndim,), int
        Edge lengths of the boxes, in voxels.
    at : sequence of int or None, optional
        Positions along the leading axes at which the boxes are; None for all positions
        along an axis.
    """

    def __init__(
        self,
        shape: Sequence[int],
        starts: npt.NDArray[np.int64],
        edges: npt.NDArray[np.int64],
        at: Sequence[int | None] = (),
    ) -> None:
        self._starts, self._edges = starts, edges
        self._at = tuple(at) or (None,) * (len(shape) - len(edges))
        self.shape = tuple(int(n) for n in shape)
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape))
        self.dtype = np.dtype(np.uint16 if len(starts) < 2**16 else np.uint32)

    def __getitem__(self, key: Key | tuple[Key, ...]) -> npt.NDArray[np.generic]:
        keys = list(key) if isinstance(key, tuple) else [key]
        keys += [slice(None)] * (self.ndim - len(keys))
        places = [np.arange(n)[k] for n, k in zip(self.shape, keys, strict=True)]
        found = np.zeros([len(p) for p in places if p.ndim], self.dtype)
        n_leading = self.ndim - len(self._edges)
        near = np.ones(len(self._starts), bool)
        first, last = np.zeros((2, *self._starts.shape), int)
        for i, (p, edge) in enumerate(
            zip(places[n_leading:], self._edges, strict=True)
        ):
            first[:, i], last[:, i] = _ranges(
                np.atleast_1d(p), self._starts[:, i], edge
            )
            near &= first[:, i] < last[:, i]
        lead = []
        for p, here in zip(places[:n_leading], self._at, strict=True):
            hits = np.flatnonzero((np.atleast_1d(p) == here) | (here is None))
            if not hits.size:
                return found
            if p.ndim:
                lead.append(slice(int(hits[0]), int(hits[-1]) + 1))
        kept = [i for i, p in enumerate(places[n_leading:]) if p.ndim]
        for number in np.flatnonzero(near):
            ends = zip(first[number, kept], last[number, kept], strict=True)
            box = [slice(low, high) for low, high in ends]
            found[(*lead, *box)] = number + 1
        return found

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[np.generic]:
        return np.asarray(self[(slice(None),) * self.ndim], dtype=dtype)


def _ranges(
    places: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], edge: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the range of evenly spaced places in each box; the end is excluded."""
    if len(places) > 1 and places[0] > places[-1]:
        first, last = _ranges(places[::-1], starts, edge)
        return len(places) - last, len(places) - first
    return np.searchsorted(places, starts), np.searchsorted(places, starts + edge)
