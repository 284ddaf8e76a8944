"""Define the similarity index of a model: features and positions of patches.

It is written on request when a model is trained, as ``similarity.safetensors`` in the
bundle: numbers, and one entry of text that lists the volumes. The features of a patch
are means of the network's last feature maps, standardised and projected onto their
principal components, and the norm of the residual of this projection.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.documents import load_json
from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.types import AnyArray, AnyDict

SIMILARITY_FILE = "similarity.safetensors"
#: Maximum size of a similarity file in bytes.
MAX_INDEX_BYTES = 150_000
#: Maximum number of patches, of features of a patch, and of volumes.
MAX_PATCHES = 2000
MAX_FEATURES = 24
MAX_SOURCES = 64
#: Maximum number of feature maps that are used; if there are more, an evenly spaced
#: selection is used.
MAX_MAPS = 256
#: Minimum number of patches in a similarity file.
MIN_PATCHES = 8
#: Maximum length of the name of a volume, in characters.
MAX_NAME_LENGTH = 80
#: Minimum standard deviation of a feature map, as a fraction of the median over the
#: maps that vary.
_MIN_STD = 0.05
#: Percentiles of the distances between training patches, used for verdicts.
LEVELS = (50.0, 95.0, 99.0)
_TEXT = "sources"
_TYPES = {
    "features": np.float16,
    "places": np.int32,
    "mean": np.float32,
    "std": np.float32,
    "projection": np.float16,
    "distances": np.float32,
}

Verdict = Literal["similar", "unusual", "unlike"]


class PatchSource(Config):
    """A training volume from which patches of the index were taken."""

    name: str = Field(max_length=MAX_NAME_LENGTH)
    """File name of the volume."""
    voxel_size: tuple[float, float, float]
    """Voxel size along Z, Y and X; for an image, the size along Y is repeated for Z."""
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Position of the centre of the volume's first voxel."""
    unit: str
    """Unit of the voxel size and the position."""


class _IndexText(Config):
    """The text entry of an index file: edges of the patches, and the volumes."""

    edge: tuple[int, int, int]
    sources: tuple[PatchSource, ...] = Field(min_length=1, max_length=MAX_SOURCES)

    @model_validator(mode="after")
    def _check(self) -> _IndexText:
        if min(self.edge) < 1:
            raise ValueError("the edge of a patch must be at least 1 voxel")
        numbers = [n for s in self.sources for n in (*s.voxel_size, *s.origin)]
        if not all(math.isfinite(n) for n in numbers):
            raise ValueError("voxel sizes and origins must be finite")
        return self


@dataclass(frozen=True)
class SimilarPatch:
    """A training patch that was found in the index.

    Attributes
    ----------
    source : str
        File name of the training volume.
    corner : tuple of int
        First voxel of the patch, Z, Y, X.
    position : tuple of float
        Position of the centre of the patch, Z, Y, X.
    unit : str
        Unit of the position.
    distance : float
        Distance between the features of the compared patch and of this one, in units of
        the median distance between neighbouring training patches.
    """

    source: str
    corner: tuple[int, int, int]
    position: tuple[float, float, float]
    unit: str
    distance: float


@dataclass(frozen=True, eq=False)
class SimilarityIndex:
    """Index of the features and positions of training patches.

    Attributes
    ----------
    features : ndarray of shape (n, k), float16
    places : ndarray of shape (n, 4), int32
        Index of the volume and first voxel (Z, Y, X) of each patch.
    mean, std : ndarray of shape (maps,), float32
        Mean and standard deviation of each feature map.
    projection : ndarray of shape (maps, k - 1), float16
        Principal components of the standardised feature maps.
    distances : ndarray of shape (3,), float32
        Median, 95th and 99th percentiles of the distance from a training patch to the
        nearest patch in another volume; if there is only one volume, to the nearest
        patch elsewhere in this volume.
    edge : tuple of int
        Edge lengths of a patch along Z, Y and X.
    sources : tuple of PatchSource
    """

    features: npt.NDArray[np.float16]
    places: npt.NDArray[np.int32]
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    projection: npt.NDArray[np.float16]
    distances: npt.NDArray[np.float32]
    edge: tuple[int, int, int]
    sources: tuple[PatchSource, ...]

    def __post_init__(self) -> None:
        n, k, maps = len(self.features), self.features.shape[-1], len(self.mean)
        shapes = {
            "features": (n, k),
            "places": (n, 4),
            "mean": (maps,),
            "std": (maps,),
            "projection": (maps, k - 1),
            "distances": (len(LEVELS),),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != _TYPES[name]:
                raise ModelError(
                    f"{name} is {array.dtype} of shape {array.shape}, not "
                    f"{np.dtype(_TYPES[name])} of shape {shape}"
                )
            if not np.isfinite(array).all():
                raise ModelError(f"{name} has values that are NaN or infinite")
        if not MIN_PATCHES <= n <= MAX_PATCHES:
            raise ModelError(
                f"it has {n} patches; it must have {MIN_PATCHES} to {MAX_PATCHES:,}"
            )
        if not 2 <= k <= MAX_FEATURES or not 1 <= maps <= MAX_MAPS:
            raise ModelError(
                f"it has {k} features from {maps} feature maps, which is outside the "
                "allowed range"
            )
        files = self.places[:, 0]
        if self.places.min() < 0 or files.max() >= len(self.sources):
            raise ModelError("it has patches outside the training volumes")
        rising = bool((np.diff(self.distances) >= 0).all())
        if not (self.std > 0).all() or not (rising and self.distances[0] > 0):
            raise ModelError("its deviations or distances are not positive")

    @cached_property
    def is_across_volumes(self) -> bool:
        """Whether the distances are those between patches of different volumes.

        Otherwise, they are distances within a single volume, and a patch of another
        scan of the same material is usually further away.
        """
        return len(np.unique(self.places[:, 0])) > 1

    @cached_property
    def _wide(self) -> npt.NDArray[np.float64]:
        return self.features.astype(np.float64)

    def features_of(self, maps: AnyArray) -> AnyArray:
        """Return features of patches from the means of their feature maps (n, maps)."""
        chosen = np.asarray(maps, np.float64)[..., chosen_maps(np.shape(maps)[-1])]
        if chosen.shape[-1] != len(self.mean):
            raise ModelError(
                f"The similarity index was made for {len(self.mean)} feature maps, but "
                f"the network has {chosen.shape[-1]}: the files of the model do not "
                "belong together. Copy the bundle again."
            )
        scaled = (chosen - self.mean) / self.std
        return _projected(scaled, self.projection.astype(np.float64))

    def nearest(self, maps: AnyArray, n: int = 5) -> list[SimilarPatch]:
        """Return the `n` training patches most similar to one patch, nearest first.

        Parameters
        ----------
        maps : ndarray of shape (maps,)
            Means of the feature maps of the patch.
        """
        distances = np.linalg.norm(self._wide - self.features_of(maps), axis=1)
        unit = float(self.distances[0])
        order = np.argsort(distances, kind="stable")[:n]
        return [self._patch(int(i), float(distances[i]) / unit) for i in order]

    def verdict(self, distance: float) -> Verdict:
        """Compare a distance, in units of the median, with those of training patches.

        `is_across_volumes` determines the scans for which the comparison is valid.
        """
        _, high, highest = self.distances / self.distances[0]
        if distance <= high:
            return "similar"
        return "unusual" if distance <= highest else "unlike"

    def _patch(self, i: int, distance: float) -> SimilarPatch:
        file, *corner = (int(n) for n in self.places[i])
        source = self.sources[file]
        z, y, x = (
            o + v * (c + (e - 1) / 2)
            for o, v, c, e in zip(
                source.origin, source.voxel_size, corner, self.edge, strict=True
            )
        )
        place = (corner[0], corner[1], corner[2])
        return SimilarPatch(source.name, place, (z, y, x), source.unit, distance)

    def to_bytes(self) -> bytes:
        """Return the index as the contents of a safetensors file."""
        from safetensors.numpy import save

        text = _IndexText(edge=self.edge, sources=self.sources)
        # Use a single entry of text: safetensors writes several in random order.
        values = json.dumps(text.model_dump(mode="json"), ensure_ascii=False)
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _TYPES}
        content: bytes = save(arrays, metadata={_TEXT: values})
        return content

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> SimilarityIndex:
        """Read the contents of a file; no code in it is executed.

        Parameters
        ----------
        name : str
            Name of the file, for messages.

        Raises
        ------
        ModelError
            If the file is damaged or too large.
        """
        try:
            if len(content) > MAX_INDEX_BYTES:
                raise ModelError(
                    f"it has {len(content):,} bytes; at most {MAX_INDEX_BYTES:,} are "
                    "allowed"
                )
            return cls(**_parsed(content))
        except (ModelError, ConfigError, ValueError, TypeError, KeyError) as error:
            reason = str(error).rstrip(".")
            raise ModelError(
                f"{name} is not a similarity index ({reason}). Copy the bundle again, "
                "or repeat the training with the setting similarity_index."
            ) from error


def _parsed(content: bytes) -> AnyDict:
    """Return the arrays and text in the contents of an index file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        length = int.from_bytes(content[:8], "little")
        header = load_json(content[8 : 8 + length], MAX_INDEX_BYTES)
    except SafetensorError as error:
        raise ModelError(f"it is not a safetensors file: {error}") from error
    if set(arrays) != set(_TYPES):
        raise ModelError(f"it contains {', '.join(sorted(arrays)) or 'nothing'}")
    if any(
        a.ndim != (1 if n in ("mean", "std", "distances") else 2)
        for n, a in arrays.items()
    ):
        raise ModelError("its arrays have the wrong number of axes")
    text = load_json(header["__metadata__"][_TEXT], MAX_INDEX_BYTES)
    if not isinstance(text, dict):
        raise ModelError("its list of volumes cannot be used")
    known = _IndexText.from_mapping(text)
    return {**arrays, "edge": known.edge, "sources": known.sources}


def chosen_maps(n: int) -> npt.NDArray[np.intp]:
    """Return the indices of the feature maps that are used, out of `n`."""
    return np.linspace(0, n - 1, min(n, MAX_MAPS)).round().astype(np.intp)


def build_index(
    maps: AnyArray,
    places: AnyArray,
    edge: tuple[int, int, int],
    sources: Sequence[PatchSource],
) -> SimilarityIndex:
    """Build the index of training patches; it never exceeds the maximum size.

    Parameters
    ----------
    maps : ndarray of shape (n, maps)
        Means of the feature maps of each patch.
    places : ndarray of shape (n, 4)
        Index of the volume and first voxel of each patch. If there are too many
        patches, the first ones are used.

    Raises
    ------
    ModelError
        If there are too few patches, or they do not differ.
    """
    if len(maps) < MIN_PATCHES:
        raise ModelError(
            f"only {len(maps)} patches fit into the training volumes; at least "
            f"{MIN_PATCHES} are needed"
        )
    maps = np.asarray(maps[:MAX_PATCHES], np.float64)
    maps = maps[:, chosen_maps(maps.shape[1])]
    mean, std = maps.mean(axis=0), maps.std(axis=0)
    usual = float(np.median(std[std > 0])) if (std > 0).any() else 0.0
    if not np.isfinite(maps).all() or not usual > 0:
        raise ModelError("the feature maps of the training patches do not differ")
    # Keep maps that are constant in the training data: if they vary in a scan, they
    # reveal new structure.
    std = np.maximum(std, _MIN_STD * usual)
    mean, std = mean.astype(np.float32), std.astype(np.float32)
    scaled = (maps - mean) / std
    n_components = max(1, min(MAX_FEATURES - 1, *(n - 1 for n in scaled.shape)))
    _, _, rows = np.linalg.svd(scaled, full_matrices=False)
    projection = rows[:n_components].T.astype(np.float16)
    features = _projected(scaled, projection.astype(np.float64)).astype(np.float16)
    found = np.asarray(places[:MAX_PATCHES], np.int32)
    index = SimilarityIndex(
        features,
        found,
        mean,
        std,
        projection,
        _neighbour_distances(features, found, edge),
        edge,
        tuple(sources),
    )
    return _shortened(index)


def _shortened(index: SimilarityIndex) -> SimilarityIndex:
    """Return the index with as many patches as fit into the maximum size."""
    excess = len(index.to_bytes()) - MAX_INDEX_BYTES
    if excess <= 0:
        return index
    per_patch = index.features[0].nbytes + index.places[0].nbytes
    n = len(index.features) - math.ceil(excess / per_patch) - 1
    features, places = index.features[:n], index.places[:n]
    distances = _neighbour_distances(features, places, index.edge)
    return replace(index, features=features, places=places, distances=distances)


def _projected(scaled: AnyArray, projection: AnyArray) -> AnyArray:
    """Project onto the principal components; append the norm of the residual."""
    components = scaled @ projection
    rest = scaled - components @ projection.T
    length = np.linalg.norm(rest, axis=-1, keepdims=True)
    features: AnyArray = np.concatenate([components, length], axis=-1)
    return features


def _neighbour_distances(
    features: AnyArray, places: AnyArray, edge: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    """Return percentiles of the distance from patches to the nearest patch elsewhere.

    Patches of one volume resemble each other more than they resemble those of a new
    scan. With several volumes, each patch is therefore compared only with those of the
    other volumes. In a single volume, patches that overlap, or that lie within one edge
    length of each other (including along Z for a network on planes), show the same
    structure and are not compared.
    """
    wide = features.astype(np.float64)
    near = max(edge)
    several = len(np.unique(places[:, 0])) > 1
    nearest = []
    for i, (row, place) in enumerate(zip(wide, places, strict=True)):
        distances = np.linalg.norm(wide - row, axis=1)
        if several:
            other = places[:, 0] != place[0]
        else:
            steps = np.abs(places[:, 1:].astype(np.int64) - place[1:])
            other = steps.max(axis=1) >= near
        if not other.any():  # all patches of the volume are nearby
            other = np.arange(len(wide)) != i
        nearest.append(float(distances[other].min()))
    found = np.percentile(nearest, LEVELS)
    return np.asarray(np.maximum(found, 1e-6), np.float32)
