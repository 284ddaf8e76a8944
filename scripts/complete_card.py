"""Evaluate a model from ``napari-geosr train``, complete its card, and bundle it.

    napari-geosr train supervised --out build/foam-sr-x2 \
        --config src/napari_geosr/pretrained/foam-sr-x2/train.yaml
    python scripts/complete_card.py build/foam-sr-x2/result/foam-sr-x2

The texts come from ``scripts/pretraining/texts/NAME.yaml``, the evaluation from the
test sets of ``scripts/pretraining/testsets.py``. A model is only bundled if it is well
above the best tuned classical method on each of them; other shortfalls are printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from napari_geosr.models import bundle, zoo
from napari_geosr.models.card import FigureRow, ModelCard, TrainingData
from napari_geosr.operations.train import TrainJob, config_class
from pretraining import judging, reference
from pretraining.testsets import SETS, TEST_SEEDS, TestSet

TEXTS = Path(__file__).parent / "pretraining" / "texts"
#: Required gain in dB over the best classical method on every test set; 0 for the model
#: that was trained without noise-free scans.
_LEAST_GAIN = {"foam-denoise": 2.0, "foam-sr-x2": 2.0, "porous-denoise": 0.0}
_LEAST_GAIN_OF_OTHERS = 1.0


def main() -> int:
    """Complete and bundle the model in the given folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="JOB/result/NAME")
    parser.add_argument("--out", type=Path, help="default: the package's own folder")
    parser.add_argument("--work", type=Path, default=Path("build/cards"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="text for the card's provenance")
    parser.add_argument(
        "--judge", action="store_true", help="only evaluate, without writing a card"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = bundle.load(arguments.model)
    name, network = model.card.name, model.network()
    sets, work = SETS[name], arguments.work
    judged = judging.judge(sets, str(arguments.model), work / f"classical-{name}.yaml")
    least = _LEAST_GAIN.get(name, _LEAST_GAIN_OF_OTHERS)
    missing = judging.shortfalls(judged, least)
    print(
        "Requirements not met:" if missing else "All requirements are met.",
        *missing,
        sep="\n  ",
    )
    if arguments.judge:
        return 0
    if any(" dB against " in said for said in missing):
        print(f"Not bundled: less than {least:g} dB above the best classical method.")
        return 1
    texts = yaml.safe_load((TEXTS / f"{name}.yaml").read_text(encoding="utf-8"))
    out = arguments.out or zoo.bundled_folder() / name
    training = _training(model.card, texts.pop("training"), work, out)
    card = _completed(model.card, texts, judged, training, network)
    _as_written(card, out / "train.yaml")
    if arguments.note:
        card.provenance["note"] = arguments.note
    bundle.save(out, card, network)
    bundle.verify(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{card.n_parameters} parameters, {size} bytes in {out}")
    return 0


def _completed(
    card: ModelCard,
    texts: dict[str, Any],
    judged: list[judging.Judged],
    training: TrainingData,
    network: nn.Module,
) -> ModelCard:
    """Card with texts, evaluation and the reference for comparing later volumes."""
    made = {
        "recipe": "train.yaml",
        "command": f"napari-geosr train {card.method} --config train.yaml",
        "baselines": "settings tuned per test set on a scan with known ground truth",
        "test_data": f"simulated, {len(TEST_SEEDS)} scans per set, none used in "
        "training",
    }
    # Omit the name of the operating system, which is irrelevant to the model.
    record = {k: v for k, v in card.provenance.items() if k != "platform"}
    rows = (
        FigureRow(
            test_set=row["test_set"],
            method=row["method"],
            **judging.mean(row["scans"]),
        )
        for row in judged
    )
    more = {
        "training": training,
        "figures": tuple(rows),
        "provenance": made | record,
        "mixed_precision_error": _mixed_precision_error(network, SETS[card.name]),
    }
    return ModelCard.from_values(card.model_dump() | texts | more)


def _as_written(card: ModelCard, recipe: Path) -> None:
    """Replace the local path of the initial model with that in the configuration.

    Raises
    ------
    SystemExit
        If the model was trained with other settings.
    """
    written = TrainJob.from_yaml_file(recipe, card.method).training
    made = card.provenance["settings"]["training"]
    if made.get("from_model") and written.from_model:
        made["from_model"] = str(written.from_model)
    if written != config_class(card.method).from_mapping(made):
        raise SystemExit(f"The model was not trained with the settings in {recipe}.")


def _training(
    card: ModelCard, said: dict[str, Any], work: Path, recipes: Path
) -> TrainingData:
    cache = work / f"training-{card.name}.json"
    if not cache.exists():
        seed = card.provenance["settings"]["training"]["seed"]
        sources = _all_sources(recipes, card.method)
        made = reference.training_data(sources, seed, **said)
        cache.write_text(made.model_dump_json())
    return TrainingData.model_validate_json(cache.read_text())


def _all_sources(recipes: Path, method: str) -> list[str]:
    """Training data of the model and of the models on which it is based."""
    numbers: dict[str, list[int]] = {}
    for recipe in sorted(recipes.glob("*.yaml")):
        if recipe.name == bundle.CARD_FILE:
            continue
        for source in TrainJob.from_yaml_file(recipe, method).training.source:
            _, kind, span = str(source).split(":")
            numbers.setdefault(kind, []).extend(map(int, span.split("-")))
    return [f"simulated:{k}:{min(n)}-{max(n)}" for k, n in numbers.items()]


def _mixed_precision_error(network: nn.Module, sets: tuple[TestSet, ...]) -> float:
    """Largest change in bfloat16 in the middle of scans, in standard deviations."""
    worst = 0.0
    for test in sets:
        noisy = test.scan(TEST_SEEDS[0]).noisy
        x = ((noisy - noisy.mean()) / noisy.std()).astype(np.float32)
        n = network.spec.adjacent_slices
        first = max(0, len(x) // 2 - n // 2)
        planes = x if network.spec.axes == "ZYX" else x[first : first + n]
        if len(planes) < n:
            planes = np.repeat(planes, n, axis=0)
        given = torch.from_numpy(planes.copy())[None]
        given = given[None] if network.spec.axes == "ZYX" else given
        with torch.no_grad():
            exact = network(given)
            with torch.autocast("cpu", torch.bfloat16):
                reduced = network(given).float()
        worst = max(worst, float((reduced - exact).abs().max() / exact.std()))
    return round(worst, 4)


if __name__ == "__main__":
    sys.exit(main())
