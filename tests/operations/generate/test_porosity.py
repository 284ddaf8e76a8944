"""Samples with a chosen porosity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import napari_geosr as geosr
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.diffusion.condition import find_patch_porosity
from napari_geosr.learning.methods.ddpm import Config, Method
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.models import zoo
from napari_geosr.operations.generate import GenerateConfig, generate_steps
from napari_geosr.operations.generate.porosity import check_porosity
from napari_geosr.operations.train.fine_tune import fine_tune_settings

#: Settings of a training.
SETTINGS: dict[str, Any] = {
    "width": 16,
    "layers": 1,
    "patch": 24,
    "device": "cpu",
    "threads": 1,
}
#: Grey values of pores and solid.
PORE, SOLID = 50.0, 150.0


def rock(n: int = 40) -> np.ndarray:
    """Slices of different porosities, from about 10 to 60 %."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((n, 40, 40)), (0, 2, 2), mode="wrap")
    level = np.linspace(-1.3, 0.25, n)[:, None, None]
    pores = smooth / smooth.std() < level
    return np.where(pores, PORE, SOLID).astype("f4") + rng.normal(0, 2, smooth.shape)


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("porous") / "job"
    geosr.train(
        "ddpm",
        folder,
        rock().astype("f4"),
        name="rock",
        condition="porosity",
        steps=300,
        learning_rate=3e-3,
        averaging=0.95,
        **SETTINGS,
    )
    return str(folder)


def generated(model: str, out: Path, **values: Any) -> list[float]:
    config = GenerateConfig.create(
        **{"number": 4, "shape": (32, 32), "sampling_steps": 20} | values
    )
    return list(run_to_end(generate_steps(model, out, config)).porosities)


def test_the_porosity_of_patches_is_measured_and_sometimes_withheld() -> None:
    config = Config.create(source=["a"], condition="porosity", phase="bright")
    patches = Patches({"source": [Volume(rock(), "ZYX")]}, config)
    method = Method(config)
    method.prepare(patches)
    drawn = [method.draw(patches, np.random.default_rng(i)) for i in range(300)]
    middle = patches.grey["source"].standardise(np.float32(100.0))
    withheld = 0
    for batch in drawn:
        if np.isnan(batch["porosity"]):
            withheld += 1
        else:
            solid = float((batch["source"] > middle).mean())
            assert float(batch["porosity"]) == pytest.approx(solid, abs=1e-6)
    assert 10 < withheld < 60
    held_out = [
        method.draw(patches.held_out(), np.random.default_rng(i)) for i in range(60)
    ]
    assert not any(np.isnan(batch["porosity"]) for batch in held_out)


def test_the_range_of_the_training_data_is_on_the_card(prior: str) -> None:
    trained = zoo.find(prior).card.porosity_condition
    assert trained is not None
    assert trained.threshold == pytest.approx((PORE + SOLID) / 2, abs=2)
    assert trained.phase == "dark"
    assert 0 <= trained.low < 0.15
    assert 0.55 < trained.high < 0.9
    assert "porosity_condition" not in zoo.find("ct-denoise").card.to_yaml()
    assert fine_tune_settings(prior, "ddpm")["condition"] == "porosity"


def test_samples_have_the_chosen_porosity(prior: str, tmp_path: Path) -> None:
    """The model is small: it follows the wish only in part, and more with guidance."""
    wishes, spreads = (0.15, 0.35, 0.55), []
    for guidance in (1, 2):
        low, middle, high = (
            np.mean(
                generated(
                    prior,
                    tmp_path / f"{wish}{guidance}",
                    porosity=wish,
                    guidance=guidance,
                )
            )
            for wish in wishes
        )
        assert low + 0.05 < middle < high - 0.03
        assert middle == pytest.approx(0.35, abs=0.1)
        spreads.append(high - low)
    assert spreads[1] > spreads[0] + 0.05


def test_guidance_of_0_is_a_sample_without_porosity(prior: str, tmp_path: Path) -> None:
    plain = generated(prior, tmp_path / "a", number=1)
    ignored = generated(prior, tmp_path / "b", number=1, porosity=0.5, guidance=0)
    asked = generated(prior, tmp_path / "c", number=1, porosity=0.5, guidance=2)
    assert plain == pytest.approx(ignored, abs=0.01)
    assert abs(asked[0] - plain[0]) > 0.02


def test_porosities_that_cannot_be_generated(
    prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = zoo.find(prior).card.porosity_condition
    assert trained is not None
    outside = {"number": 1, "shape": (16, 16), "porosity": 1.1 * trained.high}
    steps = generate_steps(prior, tmp_path / "a", GenerateConfig.create(**outside))
    said = [step.message for step in steps if isinstance(step, WarningIssued)]
    assert any("outside the range of the training data" in text for text in said)
    card = zoo.find(prior).card
    assert check_porosity(card, None) == ""
    assert "has no effect" in check_porosity(card, None, guidance=2.0)
    with pytest.raises(ConfigError, match="by more than 20%"):
        generated(prior, tmp_path / "b", porosity=min(1.0, 1.25 * trained.high))
    plain = tmp_path / "plain"
    geosr.train("ddpm", plain, rock().astype("f4"), name="plain", steps=1, **SETTINGS)
    with pytest.raises(ConfigError, match="--condition porosity"):
        generated(str(plain), tmp_path / "c", porosity=0.2)
    assert generated(str(plain), tmp_path / "d", number=1) == []
    assert not (tmp_path / "b").exists()


def test_all_equal_grey_values_have_no_porosity() -> None:
    config = Config.create(source=["a"], condition="porosity")
    patches = Patches({"source": [Volume(rock(), "ZYX")]}, config)
    bright, dark = (find_patch_porosity(patches, p) for p in ("bright", "dark"))
    patch = patches.draw(np.random.default_rng(0), ("source",))["source"]
    assert bright(patch) + dark(patch) == pytest.approx(1)


def test_a_segmentation_starts_from_a_model_with_porosity(
    prior: str, tmp_path: Path
) -> None:
    labels = np.full((40, 40, 40), 255, np.uint8)
    labels[20] = rock()[20] < 100
    model = geosr.train(
        "ptdr",
        tmp_path / "job",
        rock().astype("f4"),
        labels,
        name="pores",
        from_model=prior,
        steps=2,
        **fine(prior),
    )
    assert model.card.task == "segment"


def fine(model: str) -> dict[str, Any]:
    kept = fine_tune_settings(model, "ptdr")
    names = ("network_options",)
    return {name: kept[name] for name in names} | {
        "patch": 16,
        "device": "cpu",
        "threads": 1,
    }


def test_command(
    prior: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"generate {prior} --number 2 --shape 16,16 --sampling-steps 2 --threads 1"
    line += f" --porosity 0.3 --guidance 1.5 -o {tmp_path / 'made'}"
    assert run(line.split()) == 0
    assert "Porosity: mean 0." in capsys.readouterr().out
    (path, _) = sorted((tmp_path / "made").iterdir())
    record = geosr.read(path).provenance[-1]
    assert record["settings"]["porosity"] == 0.3
    assert 0 <= record["sample_porosity"] <= 1
    assert run([*line.split(), "--overwrite", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["porosities"]) == 2
