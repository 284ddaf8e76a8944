"""A model that has memorised its training images is refused; a healthy one is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import napari_geosr as geosr
from napari_geosr.core.errors import ModelError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.generate import (
    GenerateConfig,
    GeneratedSamples,
    generate_steps,
)

#: Number of samples, and their edge in pixels.
N, EDGE = 3, 24


def images(n: int) -> np.ndarray:
    """Random structure, a different one in every image.

    Of the 33 rows, 24 are trained on: exactly one patch of each image.
    """
    rng = np.random.default_rng(1)
    smooth = gaussian_filter(
        rng.standard_normal((n, EDGE + 9, EDGE)), (0, 1.5, 1.5), mode="wrap"
    )
    return (1000 + 100 * smooth / smooth.std()).astype("f4")


def samples_of_a_model(scan: np.ndarray, folder: Path) -> GeneratedSamples:
    """Train on these images, and compare samples of the model with them."""
    geosr.train(
        "ddpm",
        folder / "job",
        scan,
        name="small",
        width=8,
        patch=EDGE,
        steps=400,
        learning_rate=3e-3,
        averaging=0.99,
        augment=False,
        validate_every=400,
        device="cpu",
        threads=1,
    )
    config = GenerateConfig.create(
        number=N, shape=(EDGE, EDGE), sampling_steps=15, device="cpu"
    )
    return run_to_end(
        generate_steps(
            str(folder / "job"),
            folder / "made",
            config,
            training_images=[Volume(scan, "ZYX")],
        )
    )


def test_a_model_of_8_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not anonymous, and no file was kept"):
        samples_of_a_model(images(8), tmp_path)
    assert not list((tmp_path / "made").iterdir())


def test_a_model_of_100_images_passes(tmp_path: Path) -> None:
    """The same network with the same settings and number of steps."""
    made = samples_of_a_model(images(100), tmp_path)
    assert len(made.files) == len(made.similarities) == N
    assert made.limit is not None
    assert max(made.similarities) < made.limit - 0.05
