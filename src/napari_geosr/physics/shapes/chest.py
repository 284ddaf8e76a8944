"""Simulated chest radiographs, in which the organ of each pixel is known.

A torso with lungs, heart, spine, ribs and clavicles of random shape is projected from
back to front. The thickness of soft tissue and bone along the rays determines the
intensity by the Beer–Lambert law; scattered radiation, blur and photon noise are then
added. Rib shadows cross the lungs and the heart, so that the grey value of a pixel does
not determine its label. The shapes are simplified: such images do not show how well
real radiographs would be segmented.

The attenuation coefficients are rounded values for 60 keV, the approximate effective
energy at 120 kV [1]_.

References
----------
.. [1] Hubbell, Seltzer. X-ray mass attenuation coefficients. NIST Standard Reference
   Database 126 (2004). doi:10.18434/T4D01F
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.shapes.exposure import (
    Array,
    ExposureRange,
    Radiograph,
    exposed,
    smooth_field,
)

#: Organs by their label. The background is air outside the body; soft tissue is
#: everything without a label of its own, such as muscle, vessels and the spine.
ORGANS = ("background", "soft tissue", "lung", "heart", "rib", "clavicle")
#: Label of foreign objects, which are excluded from training and evaluation.
FOREIGN = 255
#: Width of the detector, in mm.
CHEST_WIDTH = 420.0
#: Attenuation of soft tissue, assumed equal to that of water, per mm at 60 keV.
_SOFT = 0.0206
#: Attenuation of compact bone per mm at 60 keV.
_CORTICAL = 0.060
#: Attenuation of a metal object per mm at 60 keV (titanium).
_METAL = 0.35
#: Volume fraction of bone inside ribs, clavicles and vertebrae.
_TRABECULAE = 0.15
#: Volume fraction of air in the lungs.
_AIR = 0.75
#: Smallest number of pixels along an edge.
_MIN_EDGE = 32
#: Number of ribs on each side that cross the lungs.
_RIBS = 9
_EXPOSURE = ExposureRange(
    blur=(0.2, 0.5),
    scatter_width=35.0,
    scatter=(0.2, 0.9),
    photons=(3e3, 4e4),
    reference_pixel=1.6,
)


@dataclass(eq=False)
class _Chest:
    """Thickness of the materials along the rays, in mm, and labels.

    The origin of x (to the right) and y (downwards) is the middle of the chest.
    """

    x: Array
    y: Array
    soft: Array
    bone: Array
    metal: Array
    labels: npt.NDArray[np.uint8]


def chest_radiographs(
    number: int, edge: int = 256, *, seed: int, start: int = 0
) -> Iterator[Radiograph]:
    """Generate chest radiographs, each determined by the seed, its index and its size.

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
    >>> from napari_geosr.physics.shapes.chest import ORGANS, chest_radiographs
    >>> image = next(chest_radiographs(1, 64, seed=0))
    >>> image.grey.shape, sorted(ORGANS[k] for k in set(image.labels.flat) - {255})
    ((64, 64), ['background', 'clavicle', 'heart', 'lung', 'rib', 'soft tissue'])
    """
    if edge < _MIN_EDGE:
        raise ConfigError(
            f"Radiographs must have at least {_MIN_EDGE} pixels per edge, not {edge}."
        )
    for i in range(start, start + number):
        # The anatomy does not depend on the number of pixels, but textures do.
        rng, grain = np.random.default_rng([seed, i, 1]).spawn(2)
        chest, pixel = _anatomy(edge, rng, grain), CHEST_WIDTH / edge
        hardness = rng.uniform(0.85, 1.15)
        exponent = _SOFT * chest.soft + hardness * (
            _CORTICAL * chest.bone + _METAL * chest.metal
        )
        yield exposed(exponent, chest.labels, pixel, _EXPOSURE, rng, grain)


def _anatomy(edge: int, rng: np.random.Generator, grain: np.random.Generator) -> _Chest:
    """Draw a person at a random position and angle in front of the detector."""
    pixel = CHEST_WIDTH / edge
    row, column = (np.indices((edge, edge)) + 0.5) * pixel - CHEST_WIDTH / 2
    turn, zoom = math.radians(3) * rng.standard_normal(), rng.uniform(0.85, 1.12)
    row, column = row - rng.uniform(-15, 15), column - rng.uniform(-12, 12)
    y = (row * math.cos(turn) - column * math.sin(turn)) / zoom
    x = (row * math.sin(turn) + column * math.cos(turn)) / zoom
    soft, bone, metal = np.zeros((3, *x.shape))
    chest = _Chest(x, y, soft, bone, metal, np.zeros(x.shape, np.uint8))
    _add_torso(chest, rng)
    thickness = _add_lungs(chest, rng, smooth_field(edge, 6 / pixel, grain))
    _add_heart(chest, thickness, rng)
    _add_spine(chest, rng)
    _add_ribs(chest, rng)
    _add_clavicles(chest, rng)
    if rng.random() < 0.3:
        _add_device(chest, rng)
    return chest


def _add_torso(chest: _Chest, rng: np.random.Generator) -> None:
    """Add the outline: neck, sloping shoulders and a trunk, elliptical in section."""
    x, y = np.abs(chest.x), chest.y
    shoulder = rng.uniform(-150, -125)
    neck, trunk = rng.uniform(48, 62), rng.uniform(168, 200)
    width = np.interp(
        y,
        [shoulder - 45, shoulder - 10, shoulder + 25, shoulder + 70, 220],
        [neck, neck + 25, trunk + 15, trunk, trunk - rng.uniform(0, 20)],
    )
    depth = np.interp(y, [shoulder - 40, shoulder + 60], [110, rng.uniform(190, 250)])
    section = np.sqrt(np.clip(1 - (x / width) ** 2, 0, None))
    chest.soft += depth * section
    chest.labels[section > 0] = ORGANS.index("soft tissue")


def _add_lungs(chest: _Chest, rng: np.random.Generator, texture: Array) -> Array:
    """Add both lungs; return the thickness of tissue that their air replaces, in mm."""
    replaced = np.zeros(chest.x.shape)
    inner, outer = rng.uniform(14, 24), rng.uniform(132, 152)
    top, bottom = rng.uniform(-140, -120), rng.uniform(75, 120)
    deep = rng.uniform(130, 175)
    for side in (-1, 1):
        u = side * chest.x
        low = bottom + (12 if side > 0 else 0) + rng.uniform(-6, 6)
        s = (chest.y - top) / (low - top)  # 0 at the apex, 1 at the diaphragm
        half = 0.5 * (outer - inner) * np.clip(s, 0, 1) ** rng.uniform(0.24, 0.34)
        middle = inner + 0.5 * (outer - inner) * (0.72 + 0.28 * np.clip(s, 0, 1))
        across = (u - middle) / np.maximum(half, 1e-3)
        dome = 1 - rng.uniform(0.06, 0.13) * (1 - np.clip(across, -1, 1) ** 2)
        inside = np.clip(1 - across**2, 0, None) * (s > 0) * (s < dome)
        if rng.random() < 0.2:  # fluid fills the lowest part of a lung
            inside = inside * (s < rng.uniform(0.65, 0.9))
        thick = deep * np.sqrt(inside)
        chest.labels[thick > 0] = ORGANS.index("lung")
        replaced += thick * _AIR * (1 + 0.06 * texture)
    replaced = np.minimum(replaced, 0.8 * chest.soft)
    chest.soft -= replaced
    return replaced


def _add_heart(chest: _Chest, replaced: Array, rng: np.random.Generator) -> None:
    """Add the heart, in which there is no air."""
    tilt = math.radians(rng.uniform(25, 50))
    x, y = chest.x - rng.uniform(16, 30), chest.y - rng.uniform(25, 50)
    u = x * math.cos(tilt) + y * math.sin(tilt)
    v = y * math.cos(tilt) - x * math.sin(tilt)
    size = rng.uniform(0.9, 1.15)
    inside = 1 - (u / (68 * size)) ** 2 - (v / (50 * size)) ** 2
    found = (inside > 0) & (chest.labels > 0)
    # Near the edge of the heart, there is lung in front of and behind it.
    chest.soft += replaced * np.sqrt(np.clip(inside, 0, None)) * found
    chest.labels[found] = ORGANS.index("heart")


def _add_spine(chest: _Chest, rng: np.random.Generator) -> None:
    """Add vertebrae, which are not labelled separately."""
    bend = rng.uniform(-6, 6) * np.sin(chest.y / 90 + rng.uniform(0, 6))
    width, spacing = rng.uniform(15, 20), rng.uniform(24, 29)
    across = np.clip(1 - ((chest.x - bend) / width) ** 2, 0, None)
    disc = 0.75 + 0.25 * np.cos(2 * np.pi * chest.y / spacing)
    is_body = chest.labels > 0
    chest.bone += 32 * _TRABECULAE * np.sqrt(across) * disc * is_body
    chest.bone += 2.5 * (across > 0) * np.exp(-(((across - 0.1) / 0.1) ** 2)) * is_body


def _add_ribs(chest: _Chest, rng: np.random.Generator) -> None:
    """Add the posterior and anterior parts of each rib: tubes that slope downwards."""
    cage, radius = rng.uniform(138, 158), rng.uniform(4.5, 6.5)
    first, spacing = rng.uniform(-150, -130), rng.uniform(23, 28)
    slope, drop = rng.uniform(15, 40), rng.uniform(55, 85)
    for side in (-1, 1):
        shift = rng.uniform(-5, 5)
        for i in range(_RIBS):
            reach = cage * (0.55 + 0.45 * min(1, (i + 1) / 4))
            u = side * chest.x / reach
            start = first + i * spacing + shift + rng.uniform(-2, 2)
            behind = start - 14 * np.sin(np.pi * np.clip(u, 0, 1)) + slope * u**2
            _add_tube(chest, chest.y - behind, (u > 0.1) & (u < 1), radius, "rib")
            if 0 < i < _RIBS - 2:  # the middle is cartilage, which casts no shadow
                ahead = start + slope + drop * np.clip(1 - u, 0, None) ** 0.9
                near = (u > 0.42) & (u < 1)
                _add_tube(chest, chest.y - ahead, near, 0.85 * radius, "rib")


def _add_clavicles(chest: _Chest, rng: np.random.Generator) -> None:
    height, rise = rng.uniform(-128, -108), rng.uniform(15, 40)
    for side in (-1, 1):
        u = side * chest.x
        axis = height - rise * (u / 140) + 6 * np.sin(np.pi * u / 140)
        near = (u > 14) & (u < 150)
        _add_tube(chest, chest.y - axis, near, rng.uniform(5.5, 7.5), "clavicle")


def _add_tube(
    chest: _Chest,
    distance: Array,
    where: npt.NDArray[np.bool_],
    radius: float,
    name: str,
) -> None:
    """Add a bone with a cortical shell 1.3 mm thick, at a vertical `distance` in mm."""
    outer = 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    inner = 2 * np.sqrt(np.clip((radius - 1.3) ** 2 - distance**2, 0, None))
    inside = where & (outer > 0) & (chest.labels > 0)
    chest.bone += inside * (outer - inner + _TRABECULAE * inner)
    chest.labels[inside] = ORGANS.index(name)


def _add_device(chest: _Chest, rng: np.random.Generator) -> None:
    """Add a metal object with a wire, such as a pacemaker."""
    side = rng.choice([-1, 1])
    x, y = side * chest.x - rng.uniform(80, 110), chest.y - rng.uniform(-100, -75)
    case = (x / 22) ** 4 + (y / 26) ** 4 < 1
    end = rng.uniform(30, 70)
    wire = np.abs(side * chest.x - 90 + 1.1 * np.clip(y, 0, None) * 0.7) < 1.2
    wire &= (y > 0) & (y < end)
    chest.metal += 6.0 * case + 1.5 * wire
    chest.labels[case | wire] = FOREIGN
