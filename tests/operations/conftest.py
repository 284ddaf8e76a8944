"""Small scans of a foam whose attenuation is known, on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_geosr.core.projections import Projections
from napari_geosr.io.projections import write_projections
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.physics.tomography_simulation import cylinder_sample, simulate_scan


@dataclass(frozen=True)
class FoamScan:
    """A scan, its object, and the region in which a reconstruction is evaluated."""

    path: Path
    scan: Projections
    clean: npt.NDArray[np.float32]
    inside: npt.NDArray[np.bool_]

    def psnr(self, volume: Any) -> float:
        """PSNR of a reconstruction inside the sample; the range is that of the foam."""
        found = np.asarray(volume)
        cut = (found.shape[-1] - self.clean.shape[-1]) // 2
        if cut:
            found = found[:, cut:-cut, cut:-cut]
        error = np.square(found - self.clean)[self.inside].mean()
        return float(10 * np.log10(self.clean.max() ** 2 / error))


def scan_foam(
    path: Path, shape: tuple[int, int, int] = (12, 48, 48), **settings: Any
) -> FoamScan:
    """Scan a foam and write the projections, with pixels of 2 µm, to `path`."""
    foam = sphere_foam(shape, porosity=0.3, radius=(3, 8), gap=1.0, seed=3)
    sample = cylinder_sample(foam)
    # An even margin, so that slices as wide as the detector contain those of the foam.
    scan = simulate_scan(sample.attenuation, ScanConfig(**settings))
    scan = scan.replace(pixel_size=(2.0, 2.0), unit="µm")
    truth = scan.provenance[0]["truth"]
    clean = sample.attenuation * np.float32(truth["attenuation_scale"]) / 2
    write_projections(scan, path)
    return FoamScan(path, scan, clean, np.asarray(sample.inside))


@pytest.fixture(scope="session")
def foam_scan(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., FoamScan]:
    """Scan a foam: ``foam_scan(projections=64, photons=150.0, …)``."""

    def make(**settings: Any) -> FoamScan:
        return scan_foam(tmp_path_factory.mktemp("scan") / "foam.h5", **settings)

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run torch with one thread, because other tests run in parallel."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
