"""Training that starts from a model uses the model's network, for every method."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.operations.train import fine_tune
from napari_geosr.operations.train.fine_tune import fine_tune_settings

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in METHODS.names()),
    ("noise2noise", {"dimensions": "3D", "layers": 3, "width": 2}),
    ("supervised", {"dilations": 5}),
    ("supervised", {"network_options": {"dilations": [1, 3]}}),
    ("supervised", {"network": "light_sr", "dimensions": "3D"}),
    (
        "supervised",
        {"network": "light_sr", "dimensions": "2D", "upscale_factor": 4},
    ),
    ("supervised", {"network": "resnet", "upscale_factor": 2}),
    ("pix2pix", {"upscale_factor": 1}),
    ("pix2pix", {"upscale_factor": 2, "dimensions": "3D"}),
    ("cyclegan", {"upscale_factor": 4, "dimensions": "2D"}),
]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_there_and_back(
    monkeypatch: pytest.MonkeyPatch, name: str, settings: dict[str, Any]
) -> None:
    kind = METHODS.load(name).Method
    files: dict[str, Any] = {"source": ["a.tif", "b.tif"]}
    if name == "adapt":
        files["from_model"] = "mine"
    if "target" in kind.roles:
        files["target"] = ["c.tif", "d.tif"]
    config = config_class(name).create(**files, **settings)
    kind.check(config)
    method = kind(config)
    kwargs = method.network_kwargs()
    card = SimpleNamespace(
        method=name,
        network=config.network,
        network_kwargs=kwargs,
        axes="ZYX" if config.dimensions == "3D" else "YX",
        adjacent_slices=config.planes,
        upscale_factor=method.upscale_factor,
        labels=1,
    )
    entry = SimpleNamespace(card=card)
    monkeypatch.setattr(fine_tune.catalogue, "find", lambda _: entry)
    found = fine_tune_settings("mine", name)
    # The dock overrides the settings of the job that made the model, and leaves out
    # those that the method does not have.
    fields = type(config).model_fields
    every = {k: v for k, v in fine_tune_settings("mine").items() if k in fields}
    for values in (files | found, config.model_dump(mode="json") | every):
        tuned = type(config).create(**values)
        kind.check(tuned)
        again = kind(tuned)
        assert tuned.from_model == "mine"
        assert tuned.dimensions == config.dimensions
        assert again.network_kwargs() == kwargs
        assert again.upscale_factor == method.upscale_factor


def test_a_model_from_before_a_setting_has_not_got_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = {"ndim": 2, "levels": 1, "features": 4, "residual": False}
    card = SimpleNamespace(
        method="supervised",
        network="unet",
        network_kwargs=written,
        axes="YX",
        adjacent_slices=1,
        upscale_factor=1,
        labels=1,
    )
    monkeypatch.setattr(
        fine_tune.catalogue, "find", lambda _: SimpleNamespace(card=card)
    )
    files = {"source": ["a.tif"], "target": ["b.tif"]}
    made = config_class("supervised").create(**files, network="unet")
    tuned = config_class("supervised").create(
        **files, **fine_tune_settings("mine", "supervised")
    )
    method = METHODS.load("supervised").Method
    assert method(made).network_kwargs()["batch_norm"]
    assert not method(tuned).network_kwargs()["batch_norm"]


@pytest.mark.parametrize(("name", "rate"), [("noise2noise", 2e-3), ("adapt", 3e-4)])
def test_what_a_model_knows_is_not_lost_by_large_steps(name: str, rate: float) -> None:
    """The learning rate for new weights would destroy trained ones."""
    fresh = config_class(name).model_fields["learning_rate"].default
    assert fine_tune_settings("ct-denoise", name)["learning_rate"] == rate <= fresh
    assert config_class("noise2noise").model_fields["learning_rate"].default > 2e-3
