"""Small noisy foams on disk for training runs of a few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from napari_geosr.physics.specimens.phantoms import sphere_foam


@dataclass(frozen=True)
class NoisyPair:
    """Two noisy scans of a foam, the foam, and labels of one slice: 1 is pore."""

    first: Path
    second: Path
    truth: Path
    painted: Path
    clean: npt.NDArray[np.float32]


@pytest.fixture(scope="session")
def noisy_pair(tmp_path_factory: pytest.TempPathFactory) -> NoisyPair:
    """Two scans of a 16 × 64 × 64 foam of contrast 1 with independent noise of 0.3."""
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
    labels = np.full(clean.shape, 255, np.uint8)
    labels[7, :, :40] = clean[7, :, :40] <= 0.5
    paths["painted"] = folder / "painted.tif"
    tifffile.imwrite(paths["painted"], labels, imagej=True, metadata={"axes": "ZYX"})
    return NoisyPair(**paths, clean=clean)


@pytest.fixture
def build_trainer(noisy_pair: NoisyPair) -> Iterator[Callable[..., Any]]:
    """Make the trainer of a method that learns the foam from its first scan."""
    import torch

    from napari_geosr.io import read
    from napari_geosr.learning.methods import METHODS, config_class
    from napari_geosr.learning.sampling.patches import Patches
    from napari_geosr.learning.training.trainer import Trainer

    def build(name: str, folder: Path | None = None, **settings: Any) -> Trainer:
        values = {
            "source": [noisy_pair.first],
            "target": [noisy_pair.truth],
            "steps": 4,
            "batch_size": 2,
            "patch": 16,
            "warm_up": 0,
            "sampling": "uniform",
            "device": "cpu",
            "checkpoint_seconds": 60.0,
        }
        config = config_class(name).create(**(values | settings))
        kind = METHODS.load(name).Method
        kind.check(config)
        method = kind(config)
        given = {r: [read(p) for p in getattr(config, r)] for r in method.roles}
        patches = Patches(
            method.scenes(given),
            config,
            paired=method.paired,
            factors={"target": method.upscale_factor},
            one_object=method.one_object,
            labels=method.label_roles,
        )
        return Trainer(method, patches, folder)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield build
    torch.set_num_threads(threads)


@pytest.fixture
def fine_foam(noisy_pair: NoisyPair, tmp_path: Path) -> Callable[[int, int], Path]:
    """Write the foam with voxels `factor` times smaller along the last `ndim` axes."""

    def write(factor: int, ndim: int) -> Path:
        fine = noisy_pair.clean
        for axis in range(3 - ndim, 3):
            fine = fine.repeat(factor, axis=axis)
        path = tmp_path / f"fine{factor}{ndim}.tif"
        tifffile.imwrite(path, fine, imagej=True, metadata={"axes": "ZYX"})
        return path

    return write


@pytest.fixture
def run_steps() -> Callable[..., list[dict[str, float]]]:
    """Continue a trainer for some steps, and return the named losses of each."""

    def run(trainer: Any, n: int = 1) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        method, stop_at = trainer.method, trainer.step + n
        original = type(method).train_step

        def noted(*given: Any) -> dict[str, float]:
            found.append(original(method, *given))
            return found[-1]

        method.train_step = noted
        for _ in trainer.run(lambda: trainer.step >= stop_at):
            pass
        del method.train_step
        return found

    return run
