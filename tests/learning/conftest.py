"""Small noisy foams on disk for trainings of a few steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from napari_geosr.physics.phantoms import sphere_foam


@dataclass(frozen=True)
class NoisyPair:
    """Two noisy scans of a foam and the foam."""

    first: Path
    second: Path
    truth: Path
    clean: npt.NDArray[np.float32]


@pytest.fixture(scope="session")
def noisy_pair(tmp_path_factory: pytest.TempPathFactory) -> NoisyPair:
    """A 16 × 64 × 64 foam of contrast 1 in independent noise of 0.3, twice."""
    folder = tmp_path_factory.mktemp("pair")
    foam = sphere_foam((16, 64, 64), porosity=0.3, radius=(4, 9), gap=1.0, seed=3)
    clean = (1 - foam.fraction).astype(np.float32)
    rng = np.random.default_rng(5)
    paths = {}
    for name in ("first", "second"):
        noise = rng.normal(0, 0.3, clean.shape).astype(np.float32)
        paths[name] = folder / f"{name}.tif"
        tifffile.imwrite(
            paths[name],
            clean + noise,
            imagej=True,
            metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
            resolution=(0.5, 0.5),
        )
    paths["truth"] = folder / "truth.tif"
    tifffile.imwrite(paths["truth"], clean, imagej=True, metadata={"axes": "ZYX"})
    return NoisyPair(**paths, clean=clean)
