"""Stopped and resumed training gives identical weights, for all methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from napari_geosr.core.errors import TrainingError
from napari_geosr.core.steps import run_to_end
from napari_geosr.learning.methods import METHODS
from napari_geosr.learning.training import checkpoint

STEPS = 4
CRITIC = {"network": "resnet", "critic_width": 2}
#: Settings that switch on stored state and changes at a certain step.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("cyclegan", {**CRITIC, "pool_size": 3}),
    ("ddpm", {"width": 8, "layers": 1}),
    ("neighbor2neighbor", {"increase": 50.0}),
    ("noise2inverse", {}),
    ("noise2noise", {}),
    ("noise2void", {"replacement": "median"}),
    ("pix2pix", {**CRITIC, "distance": "wasserstein"}),
    ("ptdr", {"width": 8, "layers": 1}),
    ("srdiff", {"width": 8, "layers": 1}),
    ("supervised", {"loss": "huber"}),
    # Batch norms also have a state.
    ("supervised", {"network": "unet", "layers": 1}),
    # The critic starts at the stop, before it, or after it.
    (
        "tomogan",
        {
            **CRITIC,
            "distance": "wasserstein",
            "pixel_steps": 1,
            "features": "gradient",
            "critic_steps": 1,
        },
    ),
    ("tomogan", {**CRITIC, "pixel_steps": 3, "features": "gradient"}),
]


def test_every_method_is_here() -> None:
    # `adapt` requires an initial model, which is not available here.
    assert {name for name, _ in CASES} | {"adapt"} == set(METHODS.names())


@pytest.mark.every(3)
@pytest.mark.parametrize("stop_at", [1, 2])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_resumed_training_gives_the_same_weights(
    build_trainer: Any,
    noisy_pair: Any,
    tmp_path: Path,
    name: str,
    settings: dict[str, Any],
    stop_at: int,
) -> None:
    values = {
        "steps": STEPS,
        "dimensions": "2D",
        "layers": 2,
        "width": 2,
        "learning_rate": 1e-2,
        "validate_every": 2,
        **settings,
    }
    if "target" not in METHODS.load(name).Method.roles:
        values["target"] = []
    if name == "ptdr":
        values["target"] = [noisy_pair.painted]
    if name == "noise2inverse":
        values["source"] = [noisy_pair.first, noisy_pair.second]
    whole = build_trainer(name, **values)
    run_to_end(whole.run())
    first = build_trainer(name, tmp_path, **values)
    list(first.run(lambda: first.step >= stop_at))
    second = build_trainer(name, tmp_path, **values)
    before = [p.detach().clone() for p in second.average.parameters()]
    assert second.resume()
    assert second.step == stop_at
    run_to_end(second.run())
    for key, module in (*whole.method.modules.items(), ("average", whole.average)):
        found = second.average if key == "average" else second.method.modules[key]
        kept = found.state_dict()
        for part, value in module.state_dict().items():
            assert torch.equal(value, kept[part]), (key, part)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(before, second.average.parameters(), strict=True)
    )


SMALL: dict[str, Any] = {"dimensions": "2D", "layers": 1, "width": 2}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seed", 7, r"seed 0 \(now 7\)"),
        ("validation", 0.3, r"validation 0\.1 \(now 0\.3\)"),
        ("augment", False, "augment True"),
        ("sampling", "structure", "sampling uniform"),
        ("patch", 24, r"patch 16 \(now 24\)"),
        ("source", [], "different volumes"),
    ],
)
def test_no_training_goes_on_with_other_patches(
    build_trainer: Any,
    noisy_pair: Any,
    tmp_path: Path,
    name: str,
    value: Any,
    said: str,
) -> None:
    values = SMALL | {"target": []}
    build_trainer("noise2void", tmp_path, **values).save()
    if name == "source":
        value = [noisy_pair.first, noisy_pair.second]
    other = build_trainer("noise2void", tmp_path, **values | {name: value})
    with pytest.raises(
        TrainingError, match=f"began with {said}.*start a new training run"
    ):
        other.resume()
    assert other.step == 0
    # Schedule and machine may change.
    allowed = {"steps": 9, "batch_size": 1, "learning_rate": 1e-4, "threads": 1}
    assert build_trainer("noise2void", tmp_path, **values | allowed).resume()


def test_checkpoints_of_earlier_releases_go_on(
    build_trainer: Any, tmp_path: Path
) -> None:
    """They do not state the settings with which they were made."""
    values = SMALL | {"target": []}
    build_trainer("noise2void", tmp_path, **values).save()
    state = checkpoint.load(tmp_path)
    assert state is not None
    del state["settings"]
    checkpoint.save(tmp_path, state)
    assert build_trainer("noise2void", tmp_path, **values, seed=3).resume()
