"""Simulated dental radiographs, in which the tissue of each pixel is known.

Teeth of random shapes are placed in jaws. The thickness of each tissue along the rays
determines the intensity by the Beer–Lambert law; scattered radiation, blur and photon
noise are then added. Number, size and tilt of the teeth, bone loss, missing teeth,
restorations, exposure and contrast are random, so that the grey value of a pixel does
not determine its tissue: the pulp, for example, can only be recognised by its shape.

The attenuation coefficients are rounded values for 35 keV, the approximate effective
energy at 65 kV [1]_.

References
----------
.. [1] Hubbell, Seltzer. X-ray mass attenuation coefficients. NIST Standard Reference
   Database 126 (2004). doi:10.18434/T4D01F
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.shapes.exposure import (
    Array,
    ExposureRange,
    Radiograph,
    blurred,
    exposed,
    smooth_field,
)

#: Tissues by their label. The background includes the cheeks.
TISSUES = ("background", "gum", "bone", "dentine", "enamel", "pulp")
#: Label of fillings: they are not tissue, so training and evaluation exclude them.
RESTORATION = 255
#: Width of the detector, in mm.
WIDTH = 32.0
#: Attenuation of soft tissue, assumed equal to that of water, per mm at 35 keV.
_SOFT = 0.031
#: Attenuation of compact bone per mm at 35 keV.
_CORTICAL = 0.15
#: Attenuation of dentine per mm at 35 keV.
_DENTINE = 0.16
#: Attenuation of enamel per mm at 35 keV.
_ENAMEL = 0.33
#: Attenuation of fillings (composite or metal) per mm at 35 keV: even thin layers are
#: opaque.
_FILLING = 1.5
_MATERIALS = ("soft", "bone", "dentine", "enamel", "filling")
#: Volume fraction of bone between the cortical plates.
_TRABECULAE = 0.3
#: Ranges of the exposure conditions of an intraoral sensor.
_EXPOSURE = ExposureRange(
    blur=(0.05, 0.15),
    scatter_width=5.0,
    scatter=(0.15, 0.6),
    photons=(3e3, 6e4),
    reference_pixel=0.125,
)
#: Smallest number of pixels along an edge.
_MIN_EDGE = 32
#: Teeth from the middle of the jaw outwards: width, length of the crown, length of the
#: root, thickness (all in mm), and number of roots.
_KINDS = (
    (7.0, 9.5, 13.0, 6.5, 1),
    (6.2, 9.0, 13.0, 6.0, 1),
    (7.2, 10.0, 16.0, 7.5, 1),
    (7.0, 8.5, 14.0, 8.5, 1),
    (7.0, 8.0, 14.0, 8.5, 1),
    (10.5, 7.5, 13.0, 10.5, 2),
    (10.0, 7.0, 12.5, 10.0, 2),
    (9.0, 6.8, 11.0, 9.5, 2),
)


def radiographs(
    number: int, edge: int = 256, *, seed: int, start: int = 0
) -> Iterator[Radiograph]:
    """Generate radiographs, each determined by the seed, its index and its size.

    The anatomy does not depend on the number of pixels.

    Parameters
    ----------
    number : int
        Number of radiographs.
    edge : int
        Number of pixels along Y and X.
    seed : int
    start : int
        Index of the first radiograph.

    Raises
    ------
    ConfigError
        If there are fewer than 32 pixels along an edge.

    Examples
    --------
    >>> from napari_geosr.physics.shapes.radiographs import TISSUES, radiographs
    >>> image = next(radiographs(1, 64, seed=0))
    >>> image.grey.shape, sorted(TISSUES[k] for k in set(image.labels.flat) - {255})
    ((64, 64), ['background', 'bone', 'dentine', 'enamel', 'gum', 'pulp'])
    """
    if edge < _MIN_EDGE:
        raise ConfigError(
            f"Radiographs must have at least {_MIN_EDGE} pixels per edge, not {edge}."
        )
    for i in range(start, start + number):
        # The anatomy does not depend on the number of pixels, but textures do.
        rng, grain = np.random.default_rng([seed, i]).spawn(2)
        yield _exposed(_anatomy(edge, rng, grain), rng, grain)


@dataclass(eq=False)
class _Maps:
    """Thickness of the materials along the rays, in mm, and labels."""

    pixel: float
    x: Array
    labels: npt.NDArray[np.uint8] = field(init=False)
    soft: Array = field(init=False)
    bone: Array = field(init=False)
    dentine: Array = field(init=False)
    enamel: Array = field(init=False)
    filling: Array = field(init=False)

    def __post_init__(self) -> None:
        self.labels = np.zeros(self.x.shape, np.uint8)
        for name in _MATERIALS:
            setattr(self, name, np.zeros(self.x.shape))

    def cropped(self, box: tuple[slice, slice]) -> _Maps:
        """Return the maps of a part, which share the memory of the whole maps."""
        part = _Maps(self.pixel, self.x[box])
        for name in ("labels", *_MATERIALS):
            setattr(part, name, getattr(self, name)[box])
        return part


def _anatomy(edge: int, rng: np.random.Generator, grain: np.random.Generator) -> _Maps:
    """Draw one or two jaws at a random angle on the detector."""
    pixel = WIDTH / edge
    row, column = (np.indices((edge, edge), np.float32) + 0.5) * pixel - WIDTH / 2
    turn, zoom = math.radians(6) * rng.standard_normal(), rng.uniform(0.9, 1.15)
    y = (row * math.cos(turn) - column * math.sin(turn)) / zoom
    x = (row * math.sin(turn) + column * math.cos(turn)) / zoom
    x = x if rng.random() < 0.5 else -x
    # The occlusal line is near an edge (one jaw is shown) or in the middle (two jaws).
    bite = rng.uniform(-14, -6) if rng.random() < 0.6 else rng.uniform(-6, 3)
    bite = bite + rng.uniform(-0.006, 0.012) * x**2
    maps = _Maps(pixel, x)
    maps.soft += rng.uniform(8, 16) * (1 + 0.25 * smooth_field(edge, 8 / pixel, grain))
    first, gap = rng.uniform(-1, 4.5), rng.uniform(0.3, 2.5)
    lower, upper = y - bite - gap / 2, bite - gap / 2 - y
    for depth in (lower, upper):
        _add_jaw(maps, depth, first + rng.uniform(-0.5, 0.5), rng.spawn(1)[0], grain)
    if rng.random() < 0.5:
        for name in ("labels", *_MATERIALS):
            setattr(maps, name, getattr(maps, name)[::-1])
    return maps


def _add_jaw(
    maps: _Maps,
    depth: Array,
    first: float,
    rng: np.random.Generator,
    grain: np.random.Generator,
) -> None:
    """Add the teeth, bone and gum of a jaw.

    `depth` is the distance from the occlusal line, in mm.
    """
    if depth.max() < 0:
        return
    teeth = _row_of_teeth(first, rng)
    edge, x = len(depth), maps.x
    recession = rng.choice([0.0, rng.uniform(0, 5)])
    phases = rng.uniform(0, 2 * np.pi, 3)
    wave = sum(np.sin(x / n + a) for n, a in zip((1.8, 3.1, 5.3), phases, strict=True))
    neck = np.interp(x, teeth[:, 0], teeth[:, 2])
    crest = neck + 1.5 + recession + 0.5 * wave
    thick = rng.uniform(8, 13)
    plates = rng.uniform(1.2, 2.6)
    ramp = np.clip((depth - crest) / 1.2, 0, 1)
    strands = _trabeculae(edge, maps.pixel, rng, grain)
    bone = ramp * (plates + (thick - plates) * _TRABECULAE * strands)
    papilla = crest - rng.uniform(1.5, 3.5)
    gum = np.clip((depth - papilla) / 3, 0, 1) * rng.uniform(5, 9)
    maps.labels[depth > papilla] = TISSUES.index("gum")
    maps.labels[depth > crest] = TISSUES.index("bone")
    maps.soft += gum * (1 - ramp)
    for tooth, own in zip(teeth, rng.spawn(len(teeth)), strict=True):
        if own.random() < 0.06:  # a missing tooth
            continue
        _add_tooth(maps, depth, ramp, bone, tooth, own)
    maps.bone += bone


def _row_of_teeth(first: float, rng: np.random.Generator) -> Array:
    """Draw a table of teeth: middle, width, crown, root, thickness, number of roots."""
    rows, left = [], -WIDTH / 2 - rng.uniform(2, 9)
    kind = first
    size = rng.uniform(0.9, 1.1)
    while left < WIDTH / 2 + 4:
        base = _KINDS[int(np.clip(round(kind), 0, len(_KINDS) - 1))]
        width, crown, root, thick = (
            size * n * (1 + 0.07 * rng.standard_normal()) for n in base[:4]
        )
        rows.append([left + width / 2, width, crown, root, thick, base[4]])
        left += width + (0.1 if rng.random() < 0.7 else rng.uniform(0.2, 1.5))
        kind += 1
    return np.array(rows)


def _add_tooth(
    maps: _Maps,
    depth: Array,
    ramp: Array,
    bone: Array,
    tooth: Array,
    rng: np.random.Generator,
) -> None:
    """Add a tooth, and its socket in the bone."""
    middle, width, crown, root, thick, roots = tooth
    length = crown + root
    tilt = math.radians(6) * rng.standard_normal()
    raised = 0.5 * rng.standard_normal()
    across, along = maps.x - middle, depth - raised - 0.5 * length
    u = across * math.cos(tilt) + along * math.sin(tilt)
    s = along * math.cos(tilt) - across * math.sin(tilt) + 0.5 * length
    near = (np.abs(u) < width) & (s > -2) & (s < length + 2)
    if not near.any():
        return
    box = _bounding_box(near)
    maps, bone, ramp, u, s = maps.cropped(box), bone[box], ramp[box], u[box], s[box]
    shape = _ToothShape(width, crown, root, int(roots), rng)
    whole = shape.whole(u, s)
    cap = rng.uniform(0.8, 1.4)
    core = np.minimum(whole, shape.core(u, s, cap))
    pulp = shape.pulp(u, s)
    side = thick * np.sqrt(np.clip(whole, 0, None))
    facing = np.clip(thick - 2 * shape.cap(s, cap), 0, None)
    inner = np.minimum(facing * np.sqrt(np.clip(core, 0, None)), side)
    cavity = 0.28 * thick * np.sqrt(np.clip(pulp, 0, None)) * (pulp > 0)
    # the tooth replaces bone; a dark slit and a bright wall surround the root
    socket = shape.around(u, s)
    slit = _bump(socket, 0.12, 0.18) * (s > crown)
    wall = _bump(socket, 0.5, 0.3) * (s > crown)
    taken = np.clip(side / thick, 0, 1)
    bone *= (1 - 0.75 * taken) * (1 - 0.35 * slit)
    bone += 0.9 * ramp * wall
    maps.soft -= np.clip(maps.soft - 6, 0, 0.3 * side)
    maps.dentine += np.clip(inner - cavity, 0, None)
    maps.enamel += side - inner
    maps.soft += cavity
    labels = maps.labels
    labels[whole > 0] = TISSUES.index("dentine")
    labels[(whole > 0) & (core <= 0) & (s < crown)] = TISSUES.index("enamel")
    labels[(whole > 0) & (pulp > 0)] = TISSUES.index("pulp")
    _restore(maps, shape, (u, s, whole), rng)


def _restore(
    maps: _Maps,
    shape: _ToothShape,
    parts: tuple[Array, Array, Array],
    rng: np.random.Generator,
) -> None:
    """Add, in some teeth, a filling, caries (a loss of mineral) or a filled root."""
    u, s, whole = parts
    chance, w = rng.random(), shape.width / 2
    place, size = rng.uniform(-0.7, 0.7) * w, rng.uniform(0.15, 0.4) * w
    low = rng.uniform(1.5, 3.5)
    spot = ((u - place) / size) ** 2 + ((s - low / 2) / (0.8 * low)) ** 2
    spot = spot + 0.3 * np.sin(3 * u + 2 * place)
    if chance < 0.14:
        metal = (whole > 0) & (spot < 1) & (s < low + 0.5)
        maps.filling += metal * rng.uniform(0.6, 3.0)
        maps.labels[metal] = RESTORATION
    elif chance < 0.22:
        hole = np.clip(1 - spot, 0, 1) * (whole > 0) * rng.uniform(0.2, 0.6)
        maps.enamel *= 1 - hole
        maps.dentine *= 1 - hole
    elif chance < 0.25:  # a root canal filled with radiopaque material
        canal = shape.pulp(u, s) > 0
        maps.filling += canal * rng.uniform(0.3, 0.8)
        maps.labels[canal & (whole > 0)] = RESTORATION


class _ToothShape:
    """Outline of a tooth.

    `u` is the position across the tooth, and `s` the position along it from the tip.
    The outlines are positive inside and at most 1, so that the square root is the
    relative thickness of an ellipse.
    """

    def __init__(
        self,
        width: float,
        crown: float,
        root: float,
        roots: int,
        rng: np.random.Generator,
    ) -> None:
        self.width, self.crown, self.root, self.roots = width, crown, root, roots
        self.neck = rng.uniform(0.68, 0.82)
        self.bend = rng.uniform(-1.5, 1.5) * (1 if roots == 1 else 0.5)
        self.taper = rng.uniform(0.55, 0.85)
        self.spread = rng.uniform(0.16, 0.32) * width
        self.fork = crown + rng.uniform(2.0, 4.5)
        self.chamber = rng.uniform(0.14, 0.26)
        self.canal = rng.uniform(0.06, 0.13)
        self.horn = crown * rng.uniform(0.38, 0.6)
        self.cusps = rng.uniform(0.3, 1.2) * (roots > 1 or rng.random() < 0.5)
        self.flat = rng.uniform(3.0, 6.0)

    def whole(self, u: Array, s: Array) -> Array:
        """Return the outline of the whole tooth."""
        return self._outline(u, s, 0)

    def core(self, u: Array, s: Array, cap: float) -> Array:
        """Return the outline of dentine and pulp, i.e. without the enamel cap."""
        return self._outline(u, s, self.cap(s, cap))

    def cap(self, s: Array, thickness: float) -> Array:
        """Return the thickness of the enamel, which tapers towards the neck."""
        part = np.clip((self.crown + 0.3 - s) / (0.6 * self.crown), 0, 1)
        return thickness * np.asarray(part**0.7)

    def around(self, u: Array, s: Array) -> Array:
        """Return the approximate distance from the roots' surface in mm; < 0 inside."""
        return -self._outline(u, s, 0) * self.width / 5

    def _outline(self, u: Array, s: Array, inset: Array | float) -> Array:
        w, crown = self.width / 2, self.crown
        part = np.clip(s / crown, 0, 1)
        half = w * (1 - (1 - self.neck) * part**2.2) - inset
        tip = self.cusps * np.cos(2 * np.pi * u / self.width) + 1.1 * inset
        rounding = np.abs(np.clip((s - tip) / (0.45 * crown), 0, 1) - 1) ** self.flat
        body = np.where(s <= self.fork, 1 - (u / np.maximum(half, 0.1)) ** 2, -1)
        body = np.where(s < tip, -1, body - 1.0 * rounding * (s < 0.45 * crown + tip))
        return np.maximum(body, self._roots(u, s))

    def _root_axis(self, s: Array, i: int) -> tuple[Array, Array]:
        """Return the position along a root (0 … 1), and the middle of the root."""
        part = np.clip((s - self.crown) / self.root, 0, 1)
        if self.roots == 1:
            return part, self.bend * part**2
        side = (-1, 1)[i]
        width = self.neck * self.width / 4
        return part, side * (width + self.spread * part) + self.bend * part**2

    def _roots(self, u: Array, s: Array) -> Array:
        found = np.full(u.shape, -1.0)
        for i in range(self.roots):
            part, axis = self._root_axis(s, i)
            thick = self.neck * self.width / 2 / self.roots
            half = thick * np.clip(1 - part ** (1 / self.taper + 0.6), 0, 1) ** 0.7
            inside = 1 - ((u - axis) / np.maximum(half, 0.05)) ** 2
            now = (s > self.crown) & (part < 1)
            found = np.maximum(found, np.where(now, np.maximum(inside, -1), -1))
        return found

    def pulp(self, u: Array, s: Array) -> Array:
        """Return the outline of the pulp: a chamber with horns and the root canals."""
        w, bottom = self.width / 2, self.fork - 0.8
        found = np.full(u.shape, -1.0)
        horns = 0.8 * np.cos(2 * np.pi * u / (0.5 * self.width)) * (self.roots > 1)
        top = self.horn + 0.4 + horns
        chamber: Array | float = self.chamber * w * (1.0 + 0.9 * (self.roots > 1))
        if self.roots == 1:  # the chamber narrows to the canal, and its top is round
            bottom, canal = self.fork, self.width * self.canal
            chamber = chamber + (canal - chamber) * np.clip(
                (s - top) / (bottom - top), 0, 1
            )
            chamber = chamber * np.sqrt(np.clip((s - top) / 1.5, 0.02, 1))
        inside = 1 - (u / chamber) ** 2
        now = (s > top) & (s < bottom)
        found = np.where(now, np.maximum(inside, -1), found)
        for i in range(self.roots):
            part, axis = self._root_axis(s, i)
            half = self.width * self.canal / self.roots**0.5 * (1 - 0.75 * part)
            inside = 1 - ((u - axis) / np.maximum(half, 0.05)) ** 2
            start = self.fork - 0.1 if self.roots == 1 else self.fork - 1.6
            now = (s > start) & (part < 0.96)
            found = np.maximum(found, np.where(now, np.maximum(inside, -1), -1))
        return found


def _bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _bump(distance: Array, middle: float, width: float) -> Array:
    found: Array = np.exp(-(((distance - middle) / width) ** 2))
    return found


def _trabeculae(
    edge: int, pixel: float, rng: np.random.Generator, grain: np.random.Generator
) -> Array:
    """Draw the relative thickness of spongy bone along the rays (strands; mean 1)."""
    width = rng.uniform(0.18, 0.35) / pixel
    noise = grain.standard_normal((edge, edge))
    strands = blurred(noise, (width * 0.8, width * 1.3), "wrap")
    strands = strands / max(float(strands.std()), 1e-12)
    coarse = smooth_field(edge, 2.5 / pixel, grain)
    amount = rng.uniform(0.2, 0.55)
    found: Array = np.clip(1 + amount * strands + 0.25 * coarse, 0.1, None)
    return found


def _exposed(
    maps: _Maps, rng: np.random.Generator, grain: np.random.Generator
) -> Radiograph:
    """Simulate the radiograph: the transmitted intensity, stored as grey values."""
    hardness = rng.uniform(0.8, 1.2)
    exponent = _SOFT * maps.soft + hardness * (
        _CORTICAL * maps.bone
        + _DENTINE * maps.dentine
        + _ENAMEL * maps.enamel
        + _FILLING * maps.filling
    )
    labels = np.ascontiguousarray(maps.labels)
    return exposed(exponent, labels, maps.pixel, _EXPOSURE, rng, grain)
