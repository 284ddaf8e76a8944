"""Volumes to write and read back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr.core.volume import Volume

sys.path.insert(0, str(Path(__file__).parent))

Maker = Callable[..., Volume]


@pytest.fixture
def make_volume(rng: np.random.Generator) -> Maker:
    """A function that makes a random volume with odd geometry."""

    def make(
        shape: tuple[int, ...] = (5, 6, 7),
        axes: str = "ZYX",
        dtype: Any = "uint16",
        **more: Any,
    ) -> Volume:
        n = sum(a in "ZYX" for a in axes)
        geometry = {
            "voxel_size": (0.5, 0.123456789, 1 / 3)[-n:],
            "unit": "µm",
            "origin": (-1.5, 2 / 3, 1e-3)[-n:],
        }
        data = (rng.random(shape) * 250).astype(dtype)
        return Volume(data=data, axes=axes, **(geometry | more))

    return make
