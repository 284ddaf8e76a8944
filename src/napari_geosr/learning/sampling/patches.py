"""Draw patches of the training volumes reproducibly, reading them lazily."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_geosr.core.errors import FileError, GeoSRError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.types import AnyArray
from napari_geosr.core.units import same_sizes
from napari_geosr.core.volume import Volume
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.noise_input import noise_arrays
from napari_geosr.learning.sampling.augment import PatchSymmetry
from napari_geosr.learning.sampling.splits import Split, split
from napari_geosr.learning.statistics import GreyScale, grey_scale
from napari_geosr.physics.simulated import is_simulated

Array = AnyArray
#: Number of candidate patches if `sampling` is ``"structure"``; one of them is drawn
#: with a probability proportional to its standard deviation.
_CANDIDATES = 4

#: Lock for reading: patches are prefetched in a thread, and file handles must not be
#: used by two threads at once.
_READ_LOCK = threading.Lock()


@dataclass(frozen=True)
class TrainingSubject:
    """Aligned volumes, one per role, with their split into training and validation."""

    volumes: Mapping[str, Volume]
    split: Split
    #: Noise of the volumes for which it is known, standardised like the patches.
    noises: Mapping[str, Noise] = field(default_factory=dict)


class Patches:
    """All training volumes of a run.

    Parameters
    ----------
    volumes : mapping of str to sequence of Volume
        Volumes by role. Volumes of paired roles show the same regions in the same
        order.
    config : TrainingConfig
    paired : bool
        Whether volumes of different roles are aligned pairs.
    factors : mapping of str to int
        Voxels of a role per voxel of the source, along every axis; 1 by default.
    one_object : bool
        Whether all scenes show the same object: the same block is held out in all.
    labels : sequence of str
        Roles of labels, which are not scaled.
    """

    def __init__(
        self,
        volumes: Mapping[str, Sequence[Volume]],
        config: TrainingConfig,
        *,
        paired: bool = True,
        factors: Mapping[str, int] | None = None,
        one_object: bool = False,
        labels: Sequence[str] = (),
    ) -> None:
        self.config = config
        #: Whether patches are drawn from the held-out blocks, without augmentation.
        self.validation = False
        self.factors = dict.fromkeys(volumes, 1) | dict(factors or {})
        rng = np.random.default_rng([config.seed, 1])
        self.scenes = self._scenes(volumes, paired, rng)
        if one_object:
            held_out = self.scenes[0].split
            self.scenes = [replace(s, split=held_out) for s in self.scenes]
        self.grey = self._grey_scales(
            {r: v for r, v in volumes.items() if r not in labels}
        )
        self.grey |= dict.fromkeys(labels, GreyScale(0.0, 1.0))
        #: Shapes of patches along the network's axes, for training and validation.
        self.edge = self._fitting_edge(lambda cut: cut.train)
        self.validation_edge = self._fitting_edge(lambda cut: (cut.validation,))

    def _grey_scales(
        self, volumes: Mapping[str, Sequence[Volume]]
    ) -> dict[str, GreyScale]:
        """Return grey scales by role; roles with similar grey values share a scale.

        A residual network adds to its input, so a target on nearly the same scale must
        not be stretched merely because it has less noise. The grey values of small
        voxels vary more than those of large ones, so the scale of roles with small
        voxels is computed from means over blocks.
        """
        scales = {}
        for role, given in volumes.items():
            factor = self.factors[role]
            depth = factor if self.config.ndim == 3 else 1
            scales[role] = grey_scale(given, (depth, factor, factor))
        first = next(iter(scales.values()))
        for role, scale in scales.items():
            is_similar = abs(scale.mean - first.mean) < 0.5 * first.std
            if is_similar and 1 / 3 < scale.std / first.std < 3:
                scales[role] = first
        return scales

    def _scenes(
        self,
        volumes: Mapping[str, Sequence[Volume]],
        paired: bool,
        rng: np.random.Generator,
    ) -> list[TrainingSubject]:
        groups: list[dict[str, Volume]] = (
            [
                dict(zip(volumes, group, strict=True))
                for group in zip(*volumes.values(), strict=True)
            ]
            if paired
            else [{role: v} for role, given in volumes.items() for v in given]
        )
        scenes = []
        cuts: dict[tuple[int, ...], Split] = {}
        for group in groups:
            role, volume = next(iter(group.items()))
            shape = self._shape(volume, role)
            cut = cuts.get(shape)
            if cut is None:
                cut = split(shape, self.config.validation, self.config.planes, rng)
            scenes.append(TrainingSubject(group, cut))
            # Files of the same shape may show the same object, such as repeated scans,
            # and the held-out block must not be learned from another file. Simulated
            # volumes are different objects, so each is split separately.
            if not is_simulated(volume.name):
                cuts[shape] = cut
        return scenes

    def _shape(self, volume: Volume, role: str) -> tuple[int, ...]:
        """Return a volume's shape in source voxels, the unit of patch positions."""
        n_kept_axes, factor = len(volume.shape) - self.config.ndim, self.factors[role]
        return tuple(
            n if i < n_kept_axes else n // factor for i, n in enumerate(volume.shape)
        )

    def _fitting_edge(
        self, parts: Callable[[Split], tuple[tuple[int, int], ...]]
    ) -> tuple[int, ...]:
        """Return a patch shape along the network's axes that fits into all `parts`."""
        n = self.config.ndim
        edge = [self.config.patch] * n
        for scene in self.scenes:
            role, volume = next(iter(scene.volumes.items()))
            if len(volume.shape) < n:
                raise VolumeError(
                    f"{volume.title} is a single image; a 3D network needs volumes. "
                    "Set dimensions to 2D."
                )
            for part in parts(scene.split):
                room = _available_shape(
                    self._shape(volume, role), scene.split.axis, part
                )[-n:]
                edge = [min(e, size) for e, size in zip(edge, room, strict=True)]
        # Networks with strides need edges that are multiples of the strides.
        fitted = tuple(e - e % 8 if e >= 8 else e for e in edge)
        if min(fitted) < 4:
            raise VolumeError(
                "The volumes are too small for 3D patches: set dimensions to 2D or "
                "2.5D, or use larger volumes."
            )
        return fitted

    def set_noise(self, noises: Mapping[str, Sequence[Noise]]) -> None:
        """Store the noise of the volumes, for networks that need it.

        Parameters
        ----------
        noises : mapping of str to sequence of Noise
            Noise by role, in the order of the volumes and in their grey values.
        """
        remaining = {role: iter(values) for role, values in noises.items()}
        scenes = []
        for scene in self.scenes:
            known = {r: next(remaining[r]) for r in scene.volumes if r in remaining}
            scaled = {
                role: noise.standardised(self.grey[role].mean, self.grey[role].std)
                for role, noise in known.items()
            }
            scenes.append(replace(scene, noises=scaled))
        self.scenes = scenes

    def size_in_patches(self) -> int:
        """Return the size of the data that are trained on, in non-overlapping patches.

        The result is at least 1.
        """
        total = 0
        for scene in self.scenes:
            role, volume = next(iter(scene.volumes.items()))
            shape = self._shape(volume, role)
            for part in scene.split.train:
                total += math.prod(_available_shape(shape, scene.split.axis, part))
        return max(1, total // math.prod(self.edge))

    def held_out(self) -> Patches:
        """Return a copy that draws from the validation blocks of the same volumes."""
        other = copy.copy(self)
        other.validation = True
        return other

    def draw(
        self,
        rng: np.random.Generator,
        roles: Sequence[str],
        *,
        context_of: str | None = None,
        exchange: bool = True,
        slices: bool = False,
    ) -> dict[str, Array]:
        """Draw the same region of all `roles`: standardised float32 (C, [Z,] Y, X).

        If the noise is known (`set_noise`), a description of the noise of the role
        `context_of` is included; see `napari_geosr.learning.noise_input`.

        Parameters
        ----------
        context_of : str, optional
            Role with adjacent slices in 2.5D (C = adjacent slices); other roles have
            the middle slice only (C = 1). By default the first role.
        exchange : bool
            Whether augmentation may exchange Y and X; False for directional noise.
        slices : bool
            Whether to add ``"slices"`` (C, 1, 1): the index of the slice of each 2.5D
            channel. Near the ends of a volume, slices are repeated.
        """
        scenes = [s for s in self.scenes if roles[0] in s.volumes]
        scene = scenes[int(rng.integers(len(scenes)))]
        context_of = context_of or roles[0]
        place = self._place(scene, roles[0], rng)
        edge = self.validation_edge if self.validation else self.edge
        patches = {
            role: self.read(scene, role, place, edge, context=role == context_of)
            for role in roles
        }
        if slices:
            shape = scene.volumes[context_of].shape
            number = _slice_indices(shape, place, self.config.planes)
            patches["slices"] = number.reshape(-1, 1, 1)
        noise = scene.noises.get(context_of)
        noise_values = {} if noise is None else noise_arrays(noise)
        if self.validation or not self.config.augment:
            return patches | noise_values
        volume = scene.volumes[roles[0]]
        size = volume.voxel_size
        square = self.edge[-1] == self.edge[-2] and same_sizes(size[-1:], size[-2:-1])
        symmetry = PatchSymmetry(
            rng, square=square and exchange, depth=len(volume.shape) == 3
        )
        if noise is not None:
            noise_values = noise_arrays(noise, swapped=symmetry.swap)
        augmented = {n: np.ascontiguousarray(symmetry(p)) for n, p in patches.items()}
        return augmented | noise_values

    def _place(
        self, scene: TrainingSubject, role: str, rng: np.random.Generator
    ) -> tuple[int, ...]:
        """Draw the corner of a patch, (Z, Y, X) or (Y, X); in 2D, Z is the slice."""
        shape = self._shape(scene.volumes[role], role)
        parts = (scene.split.validation,) if self.validation else scene.split.train
        edge = self.validation_edge if self.validation else self.edge
        n = 1 if self.validation or self.config.sampling == "uniform" else _CANDIDATES
        corners: list[tuple[int, ...]] = []
        for _ in range(n):
            part = parts[int(rng.integers(len(parts)))]
            corners.append(self._corner(shape, scene.split.axis, part, edge, rng))
        if n == 1:
            return corners[0]
        spread = np.array(
            [
                float(self.read(scene, role, p, edge, context=False).std())
                for p in corners
            ]
        )
        chosen = rng.choice(n, p=(spread + 1e-6) / (spread + 1e-6).sum())
        return corners[int(chosen)]

    def _corner(
        self,
        shape: tuple[int, ...],
        axis: int,
        part: tuple[int, int],
        edge: tuple[int, ...],
        rng: np.random.Generator,
    ) -> tuple[int, ...]:
        size = (1,) * (len(shape) - len(edge)) + edge
        corner = []
        for i, (n, s) in enumerate(zip(shape, size, strict=True)):
            low, high = part if i == axis else (0, n)
            corner.append(low + int(rng.integers(high - low - s + 1)))
        return tuple(corner)

    def read(
        self,
        scene: TrainingSubject,
        role: str,
        corner: tuple[int, ...],
        edge: tuple[int, ...],
        *,
        context: bool,
    ) -> Array:
        """Read and standardise one patch of one role.

        Parameters
        ----------
        corner, edge : tuple of int
            First voxel and shape of the patch, in voxels of the source; `edge` only
            along the network's axes.
        context : bool
            Whether to read adjacent slices as channels (2.5D).
        """
        volume, factor = scene.volumes[role], self.factors[role]
        size = (1,) * (len(corner) - len(edge)) + edge
        stretched = [
            1 if len(edge) < len(corner) and i == 0 else factor
            for i in range(len(corner))
        ]
        key: list[Any] = [
            slice(c * f, (c + s) * f)
            for c, s, f in zip(corner, size, stretched, strict=True)
        ]
        planes = self.config.planes if context else 1
        raw = read_slab(volume, key, planes) if planes > 1 else _read(volume, key)
        if self.config.ndim == 3 or raw.ndim == 2:
            raw = raw[None]
        return self.grey[role].standardise(raw)


def read_slab(volume: Volume, key: Sequence[Any], planes: int) -> Array:
    """Read `planes` slices around the one at ``key[0].start``, mirrored at the ends.

    Parameters
    ----------
    volume : Volume
        (Z, Y, X), or (Y, X); the single slice of an image is repeated `planes` times.
    key : sequence of slice
        Region of the volume, along its axes.
    planes : int
        Number of slices, odd.
    """
    if len(volume.shape) == 2:
        return np.repeat(_read(volume, key)[None], planes, axis=0)
    indices = _slice_indices(volume.shape, (key[0].start,), planes)
    low, high = int(indices.min()), int(indices.max())
    read = _read(volume, [slice(low, high + 1), *key[1:]])
    slab: Array = read[indices - low]
    return slab


def _slice_indices(shape: Sequence[int], corner: Sequence[int], planes: int) -> Array:
    """Return indices of `planes` slices around `corner`'s slice; all 0 for an image."""
    if len(shape) == 2:
        return np.zeros(planes, int)
    around = np.arange(planes) - planes // 2
    return mirrored(corner[0] + around, shape[0])


def mirrored(index: Array, n: int) -> Array:
    """Mirror indices into 0 … n − 1: …, 2, 1, 0, 1, 2, …, as in tiled inference."""
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.asarray(np.where(index < n, index, 2 * n - 2 - index))


def _read(volume: Volume, key: Sequence[Any]) -> Array:
    try:
        with _READ_LOCK:
            return np.asarray(volume.data[tuple(key)])
    except (GeoSRError, MemoryError):
        raise
    except Exception as error:  # file libraries raise errors of any kind
        raise FileError(
            f"{volume.title} could not be read during training: {error}. Check that "
            "the file is still there and complete."
        ) from error


def _available_shape(
    shape: tuple[int, ...], axis: int, part: tuple[int, int]
) -> tuple[int, ...]:
    return tuple(part[1] - part[0] if i == axis else n for i, n in enumerate(shape))
