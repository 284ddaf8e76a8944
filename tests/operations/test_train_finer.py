"""For targets with smaller voxels, a message names suitable settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods import METHODS
from napari_geosr.operations.train import TrainJob, config_class
from napari_geosr.operations.train.checks import suggest_upscaling

SHAPE = (4, 6, 6)
FILES = {"source": [Path("a.tif")], "target": [Path("b.tif")]}


def volume(*times: int) -> Volume:
    shape = tuple(n * t for n, t in zip(SHAPE[-len(times) :], times, strict=True))
    return Volume(np.zeros(shape), "ZYX"[-len(times) :], name="fine")


def said(method: str, target: Volume, **settings: Any) -> str:
    training = config_class(method).create(**FILES, **settings)
    source = volume(*[1] * target.data.ndim)
    return suggest_upscaling(method, training, source, target)


def changes(sentence: str) -> dict[str, Any]:
    found = re.findall(r"--([a-z-]+) (\w+(?:\.\w+)?)", sentence)
    return {
        name.replace("-", "_"): int(value) if value.isdigit() else value
        for name, value in found
    }


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("pix2pix", {}),
        ("pix2pix", {"network": "msdnet", "network_options": {"dilations": [1, 2]}}),
        ("pix2pix", {"network": "unet", "layers": 2}),
        ("supervised", {}),
        ("supervised", {"dilations": 5}),
        ("supervised", {"network": "tomogan"}),
        ("supervised", {"network": "light_sr", "dimensions": "2D"}),
    ],
)
@pytest.mark.parametrize("axes", ["Z, Y and X", "Y and X"])
def test_what_is_named_works(
    method: str, settings: dict[str, Any], factor: int, axes: str
) -> None:
    along_z = factor if axes[0] == "Z" else 1
    target = volume(along_z, factor, factor)
    sentence = said(method, target, **settings)
    begin = f"{factor} times smaller along {axes}. To learn this upscaling, set --"
    assert begin in sentence
    named = changes(sentence)
    _, _, without = sentence.partition(" without ")
    settings = {
        name: value
        for name, value in settings.items()
        if f"--{name.replace('_', '-')}" not in without
    }
    training = config_class(method).create(**(FILES | settings | named))
    job = TrainJob(method=method, training=training)
    job.check_settings()
    made = METHODS.load(method).Method(training)
    job._check_pairs(made, {"source": [volume(1, 1, 1)], "target": [target]})


@pytest.mark.parametrize("method", ["noise2noise", "tomogan"])
def test_methods_that_keep_the_voxels_name_others(method: str) -> None:
    sentence = said(method, volume(2, 2, 2))
    assert f"{method} cannot learn this, but pix2pix (--" in sentence
    assert "supervised (--network" in sentence
    assert sentence.endswith(" can.")


@pytest.mark.parametrize("times", [(1, 1, 1), (2, 1, 1), (1, 2, 4), (2, 2, 1)])
def test_of_other_shapes_nothing_is_said(times: tuple[int, int, int]) -> None:
    assert said("pix2pix", volume(*times)) == ""


def test_images_and_odd_factors() -> None:
    assert "--dimensions 2D" in said("pix2pix", volume(2, 2))
    assert "which no method supports: resample the target" in said(
        "pix2pix", volume(3, 3, 3)
    )


def test_it_is_said_before_a_training() -> None:
    training = config_class("pix2pix").create(**FILES)
    job = TrainJob(method="pix2pix", training=training)
    volumes = {"source": [volume(1, 1, 1)], "target": [volume(2, 2, 2)]}
    with pytest.raises(VolumeError, match=r"needs 4 × 6 × 6.*--upscale-factor 2"):
        job._check_pairs(METHODS.load("pix2pix").Method(training), volumes)
