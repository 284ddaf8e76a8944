"""Geometric losses in training: their names, schedule and units."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.learning.losses.choice import parse_losses
from napari_geosr.learning.losses.terms import TERMS
from napari_geosr.learning.methods import METHODS, config_class, loss_title
from napari_geosr.learning.phases import find_phases, widest_radius
from napari_geosr.learning.statistics import GreyScale
from napari_geosr.learning.target_loss import TargetLoss, TargetLossConfig
from napari_geosr.learning.training.clock import Clock

PAIR: dict[str, Any] = {"source": ["a.tif"], "target": ["b.tif"]}
ALL = "l1,cldice,porosity,euler,skeleton,surface"
SMALL: dict[str, Any] = {
    "network": "msdnet",
    "layers": 1,
    "width": 2,
    "dimensions": "2D",
    "steps": 5,
    "ramp_from": 0.4,
    "ramp_to": 0.8,
}
SMALL_CRITIC: dict[str, Any] = {**SMALL, "critic_width": 2}


def test_names_have_weights_of_their_own_or_the_usual() -> None:
    usual = {name: TERMS.load(name).WEIGHT for name in TERMS.names()}
    assert parse_losses("l2") == {"l2": 1.0}
    found = parse_losses("huber:2,cldice,porosity:0.25")
    assert found == {"huber": 2.0, "cldice": usual["cldice"], "porosity": 0.25}
    # Losses of edges are combined with l1, as before.
    assert parse_losses("gradient") == {"l1": 1.0, "gradient": 0.2}
    assert parse_losses("ssim,gradient:0.1") == {"ssim": 1.0, "gradient": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "l1,topology",
            "Unknown loss function 'topology'. Known: huber, l1, l2, ssim, cldice",
        ),
        ("l1,,l2", "Unknown loss function ''"),
        ("l1,cldice:0", "weight of the loss 'cldice' must be a number above 0"),
        ("l1:-1", "above 0, not '-1'"),
        ("l1,euler:nan", "above 0, not 'nan'"),
        ("l1,euler:", "above 0, not ''"),
        ("l1,euler:much", "above 0, not 'much'"),
        ("l1,l1:2", "'l1' is given twice"),
        ("cldice,porosity", "does not constrain the grey values.*'l1,cldice,porosity'"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^loss: .*{message}"):
        TargetLossConfig.create(loss=text)


def test_lists_and_mappings_of_a_file_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    for written in (
        "loss: L1, cldice:0.3",
        "loss: [l1, cldice:0.3]",
        "loss:\n- l1\n- cldice: 0.3",
    ):
        path.write_text(written)
        assert TargetLossConfig.from_yaml(path).loss == "l1,cldice:0.3"
    path.write_text("loss: {l1: 1, cldice: 0.3}")
    assert TargetLossConfig.from_yaml(path).loss == "l1:1,cldice:0.3"
    path.write_text(TargetLossConfig(loss="l1,cldice:0.3").to_yaml())
    assert TargetLossConfig.from_yaml(path).loss == "l1,cldice:0.3"


@pytest.mark.parametrize(
    ("name", "loss", "network"),
    [
        ("supervised", "l2", "msdnet"),
        ("pix2pix", "l1", "resnet"),
        ("tomogan", "l2", "tomogan"),
    ],
)
def test_methods_keep_their_defaults(name: str, loss: str, network: str) -> None:
    config: Any = config_class(name)()
    assert (config.loss, config.network) == (loss, network)
    method = METHODS.load(name).Method(config)
    output, target = torch.randn(2, 2, 1, 9, 9)
    error = output - target
    by_hand = error.abs() if loss == "l1" else error.square()
    total, parts = method.target_loss(output, target)
    assert torch.equal(total, by_hand.mean())
    assert parts == {}


def test_the_ramp() -> None:
    loss = TargetLoss(TargetLossConfig(loss="l1,euler", ramp_from=0.2, ramp_to=0.6))
    found = [loss.share("euler", at) for at in (0, 0.2, 0.3, 0.6, 1)]
    assert found == pytest.approx([0, 0, 0.25, 1, 1])
    assert loss.share("l1", 0.0) == 1
    loss.set_progress(SimpleNamespace(step=4, steps=10))  # type: ignore[arg-type]
    assert loss.share("euler") == pytest.approx(0.5)
    at_once = TargetLoss(TargetLossConfig(loss="l1,euler", ramp_from=0, ramp_to=0))
    assert at_once.share("euler", 0.0) == 1
    with pytest.raises(ConfigError, match="starts at 0.5 of the steps, so it cannot"):
        TargetLossConfig.create(ramp_from=0.5, ramp_to=0.3)


def two_phases(dark: float = 10.0, bright: float = 50.0) -> Volume:
    """A dark slab of 5 voxels (a quarter) with noise, and one hot voxel."""
    rng = np.random.default_rng(0)
    values = np.full((4, 20, 30), bright)
    values[:, 8:13] = dark
    values += rng.normal(0, 1, values.shape)
    values[0, 0, 0] = 1e6
    return Volume(values.astype(np.float32), "ZYX", name="slab")


def test_phases_are_those_of_all_targets_together() -> None:
    found = find_phases([two_phases(), two_phases(12.0)])
    assert 20 < found.threshold < 40
    assert found.dark == pytest.approx(11, abs=0.2)
    assert found.dark_share == pytest.approx(0.25)
    assert found.share("bright") == pytest.approx(0.75)
    assert widest_radius([two_phases()], found, "dark") == 2
    scaled = found.standardised(GreyScale(20.0, 4.0))
    assert scaled.threshold == pytest.approx((found.threshold - 20) / 4)
    assert scaled.bright - scaled.dark == pytest.approx((found.bright - found.dark) / 4)
    flat = Volume(np.ones((3, 8, 8), np.float32), "ZYX", name="flat")
    with pytest.raises(VolumeError, match="flat.: all grey values are equal"):
        find_phases([flat])


def test_whoever_needs_the_radius_has_it_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = np.pad(np.zeros((4, 40, 30)), ((0, 0), (5, 5), (5, 5)), constant_values=9)
    target = Volume(wide.astype(np.float32), "ZYX", name="it")
    config = TargetLossConfig(loss="l1,euler")
    assert TargetLoss(config).inspect([target]) == []
    monkeypatch.setattr(TERMS.load("euler"), "NEEDS_RADIUS", True, raising=False)
    (sentence,) = TargetLoss(config).inspect([target])
    assert "increase --radius to up to 14" in sentence


def test_what_is_odd_about_phases_is_said() -> None:
    def said(loss: str, values: Any, **more: Any) -> list[str]:
        volume = Volume(np.asarray(values, np.float32), "ZYX", name="it")
        return TargetLoss(TargetLossConfig(loss=loss, **more)).inspect([volume])

    slab = two_phases().data
    assert said(ALL, slab) == []
    wide = np.pad(np.zeros((4, 40, 30)), ((0, 0), (5, 5), (5, 5)), constant_values=9)
    (sentence,) = said("l1,cldice", wide)
    assert "dark phase is up to 29 voxels wide" in sentence
    assert "increase --radius to up to 14" in sentence
    assert said("l1,cldice", wide, radius=3) == []
    assert said("l2", wide) == []
    rare = np.ones((4, 40, 40))
    rare[0, 5, 5] = 0
    (sentence,) = said("l1,porosity", rare)
    assert sentence.startswith("Only 0.016 % of the targets is dark")


@pytest.mark.parametrize("phase", ["dark", "bright"])
def test_soft_phases_are_nearly_hard_in_the_middle(
    build_trainer: Any, phase: str
) -> None:
    settings = {**SMALL, "loss": "l1,porosity", "phase": phase}
    trainer = build_trainer("supervised", **settings)
    loss, grey = trainer.method.target_loss, trainer.patches.grey["target"]
    values = torch.from_numpy(grey.standardise(np.array([0.0, 1.0])))  # pore, solid
    found = loss.soft_phase(values).tolist()
    expected = [0.993, 0.007] if phase == "dark" else [0.007, 0.993]
    assert found == pytest.approx(expected, abs=0.01)
    assert loss.scales.spread == pytest.approx(np.sqrt(0.3 * 0.7), abs=0.06)


@pytest.mark.parametrize("dimensions", ["2.5D", "3D"])
def test_the_total_is_the_weighted_sum(build_trainer: Any, dimensions: str) -> None:
    settings = {**SMALL, "loss": f"{ALL},gradient", "window": 8}
    settings["dimensions"] = dimensions
    trainer = build_trainer("supervised", **settings)
    loss = trainer.method.target_loss
    (batch,) = trainer.batches.in_parts(trainer.batches.draw(0), 1)
    target = batch["target"]
    output = (target + 0.5 * torch.randn_like(target)).requires_grad_(True)
    total, parts = loss(output, target, progress=0.6)
    assert list(parts) == [*ALL.split(","), "gradient"]
    shares = dict.fromkeys(parts, 0.5) | {"l1": 1.0, "gradient": 1.0}
    by_hand = sum(
        shares[name] * TERMS.load(name).WEIGHT * float(part.detach())
        for name, part in parts.items()
    )
    assert float(total.detach()) == pytest.approx(by_hand, rel=1e-5)
    (slope,) = torch.autograd.grad(total, output)
    assert bool(torch.isfinite(slope).all())
    with torch.autocast("cpu", torch.bfloat16):
        _, same = loss(output.detach().bfloat16(), target, progress=0.6)
    for name in ALL.split(","):
        assert same[name].dtype == torch.float32
        exact = float(parts[name].detach())
        assert float(same[name]) == pytest.approx(exact, rel=0.1, abs=1e-3)


@pytest.mark.parametrize("name", ["supervised", "pix2pix", "tomogan"])
def test_every_method_shows_every_loss_from_when_it_counts(
    build_trainer: Any, run_steps: Any, name: str
) -> None:
    settings = SMALL if name == "supervised" else SMALL_CRITIC
    trainer = build_trainer(name, loss=ALL, **settings)
    curves = run_steps(trainer, 5)
    geometry = set(ALL.split(",")) - {"l1"}
    for step, losses in enumerate(curves):
        assert "l1" in losses
        assert geometry & losses.keys() == (geometry if step > 2 else set())
        assert all(np.isfinite(value) for value in losses.values())
    assert all(loss_title(key) != key for key in curves[-1].keys() - {"critic"})
    main = "loss" if name == "supervised" else "pixel"
    assert curves[0][main] == pytest.approx(curves[0]["l1"])
    assert curves[4][main] > curves[4]["l1"]


def test_validation_has_the_full_weights_from_the_beginning(build_trainer: Any) -> None:
    kept = []
    for loss in ("l1,porosity:5", "l1"):
        trainer = build_trainer("supervised", **SMALL, loss=loss)
        kept.append(trainer._validate())
    assert kept[0] > kept[1] + 0.1


def test_super_resolution_sees_output_and_target_alone(
    build_trainer: Any, run_steps: Any, fine_foam: Any
) -> None:
    settings = {**SMALL, "network": "light_sr", "patch": 8, "loss": ALL, "ramp_from": 0}
    target = [fine_foam(2, 2)]
    (first, *_) = run_steps(build_trainer("supervised", **settings, target=target), 2)
    assert "euler" not in first
    assert first["loss"] == pytest.approx(first["l1"])


@pytest.mark.parametrize("name", ["supervised", "pix2pix", "tomogan"])
def test_boxes_larger_than_patches_are_refused(name: str) -> None:
    config = config_class(name).create(
        **PAIR, loss="l1,porosity", patch=32, window=64, dimensions="2D"
    )
    with pytest.raises(
        ConfigError, match="64 voxels is larger than the target patches"
    ):
        METHODS.load(name).Method.check(config)
    METHODS.load(name).Method.check(config.model_copy(update={"loss": "l1"}))


def test_volumes_of_few_slices_have_flat_patches(build_trainer: Any) -> None:
    """A box of 24 does not fit into 16 slices, which is noticed once the volumes are
    known.
    """
    settings = {**SMALL, "dimensions": "3D", "loss": "l1,porosity", "window": 24}
    with pytest.raises(
        ConfigError, match=r"24 voxels .* \(16 × 32 × 32\): set --window to"
    ):
        build_trainer("supervised", **settings, patch=32)


def test_labels_have_no_phases_in_grey_values() -> None:
    config = config_class("supervised").create(**PAIR, labels=2, loss="l1,cldice")
    with pytest.raises(ConfigError, match="^cldice: geometric losses separate"):
        METHODS.load("supervised").Method.check(config)


def test_thirty_steps_on_the_command_line(
    noisy_pair: Any, tmp_path: Path, capsys: Any
) -> None:
    command = [
        *("train", "supervised", "--source", str(noisy_pair.first)),
        *("--target", str(noisy_pair.truth), "--out", str(tmp_path / "job")),
        *("--loss", "l1,cldice,porosity,euler:0.2", "--steps", "30"),
        *("--ramp-from", "0.3", "--ramp-to", "0.6", "--patch", "16"),
        *("--batch-size", "2", "--layers", "3", "--width", "4", "--device", "cpu"),
        *("--threads", "1", "--warm-up", "2", "--learning-rate", "0.01"),
    ]
    assert run(command) == 0
    capsys.readouterr()
    lines = (tmp_path / "job" / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    progress = [e for e in events if e["event"] == "progress"]
    losses = [event["losses"] for event in progress]
    assert {"loss", "l1"} <= losses[0].keys()
    assert {"cldice", "porosity", "euler"} <= losses[-1].keys()
    validation = [found["validation"] for found in losses if "validation" in found]
    assert len(validation) == 3
    assert validation[-1] < validation[0]
    command[command.index("--loss") + 1] = "l1,l3"
    assert run(command) == 2
    assert "Unknown loss function 'l3'" in capsys.readouterr().err


def test_a_loss_that_begins_is_not_averaged_with_steps_before() -> None:
    clock = Clock(step=0, steps=10, batch_size=4)

    def losses(now: float) -> dict[str, float]:
        report = clock.report(now, step=2, rate=1e-3, memory=5, watts=None)
        assert (report.memory, report.learning_rate) == (5, 1e-3)
        return dict(report.losses)

    clock.add_losses({"loss": 2.0})
    clock.add_losses({"loss": 4.0, "euler": 1.0})
    assert losses(1.0) == {"loss": 3.0, "euler": 1.0}
    clock.add_losses({"loss": 5.0})
    assert losses(2.0) == {"loss": 5.0}


def test_a_saved_card_of_one_name_goes_on(tmp_path: Path) -> None:
    """Settings of models from releases without lists."""
    from napari_geosr.operations.train import TrainJob

    root = Path(tifffile.__file__)  # any file: settings are read, data are not
    values = {"source": [str(root)], "target": [str(root)], "loss": "huber"}
    job = TrainJob.from_values({"method": "supervised", "training": values})
    assert TrainJob.from_values(job.to_values()).training == job.training
    assert job.to_values()["training"]["loss"] == "huber"
