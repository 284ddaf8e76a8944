"""Judge a model that ``napari-geosr train`` made, complete its card, bundle it.

    napari-geosr train noise2noise --out build/ct-denoise \
        --config src/napari_geosr/pretrained/ct-denoise/train.yaml
    python scripts/complete_card.py build/ct-denoise/result/ct-denoise

The texts come from ``scripts/pretraining/texts/NAME.yaml``, the figures from the
held-out scans of ``scripts/pretraining/heldout.py``. A model that is not 1 dB above the
best tuned classical method on each of them is not bundled.
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
from napari_geosr.models.distribution import Signature, draw_sample, signature
from napari_geosr.physics.simulated import open_simulated
from pretraining import evaluation, judging
from pretraining.cards import training_data_of
from pretraining.data import adjacent
from pretraining.heldout import SETS, HeldOut
from pretraining.testsets import TEST_SEEDS

TEXTS = Path(__file__).parent / "pretraining" / "texts"
#: Numbers of simulated volumes that are no training volumes, and how many are drawn.
_OTHERS, _N_OTHERS = 50_000, 128
_LEAST_GAIN = 1.0


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="JOB/result/NAME")
    parser.add_argument("--out", type=Path, help="default: the package's own folder")
    parser.add_argument("--work", type=Path, default=Path("build/cards"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="kept in the card's provenance")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = bundle.load(arguments.model)
    name, network = model.card.name, model.network()
    texts = yaml.safe_load((TEXTS / f"{name}.yaml").read_text(encoding="utf-8"))
    found = judging.rows(SETS[name], network, arguments.work / f"classical-{name}.yaml")
    print(evaluation.table(found))
    training = _training(model.card, texts.pop("training"), arguments.work)
    card = _completed(model.card, texts, found, training, network)
    if arguments.note:
        card.provenance["note"] = arguments.note
    missing = judging.shortfalls(found, _LEAST_GAIN)
    if missing:
        print(f"Not bundled, gain below {_LEAST_GAIN} dB:", *missing, sep="\n  ")
        return 1
    out = arguments.out or zoo.bundled_folder() / name
    bundle.save(out, card, network)
    bundle.verify(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{card.n_parameters} parameters, {size} bytes in {out}")
    return 0


def _completed(
    card: ModelCard,
    texts: dict[str, Any],
    found: list[dict[str, Any]],
    training: TrainingData,
    network: nn.Module,
) -> ModelCard:
    """The card with texts, figures and what may be compared with later volumes."""
    made = {
        "recipe": "train.yaml",
        "command": f"napari-geosr train {card.method} --config train.yaml",
        "baselines": "settings tuned per test set on a scan with known truth",
        "test_data": "simulated, two scans a set, seeds not used in training",
    }
    # The machine's name for its system says nothing about the model.
    record = {k: v for k, v in card.provenance.items() if k != "platform"}
    more = {
        "training": training,
        "figures": tuple(FigureRow(**row) for row in found),
        "provenance": made | record,
        "mixed_precision_error": _mixed_precision_error(network, SETS[card.name]),
    }
    return ModelCard.from_values(card.model_dump() | texts | more)


def _training(card: ModelCard, said: dict[str, Any], work: Path) -> TrainingData:
    """Signatures of the volumes trained on, and how far others of the kind lie."""
    cache = work / f"training-{card.name}.json"
    if not cache.exists():
        (source,) = card.provenance["settings"]["training"]["source"]
        kind = source.split(":")[1]
        others = f"simulated:{kind}:{_OTHERS}-{_OTHERS + _N_OTHERS - 1}"
        seed = card.provenance["settings"]["training"]["seed"]
        made = training_data_of(
            _signatures(source), _signatures(others), seeds=(seed,), **said
        )
        cache.write_text(made.model_dump_json())
    return TrainingData.model_validate_json(cache.read_text())


def _signatures(names: str) -> list[Signature]:
    found = (signature(draw_sample(volume)) for volume in open_simulated(names))
    return [made for made in found if made is not None]


def _mixed_precision_error(network: nn.Module, sets: tuple[HeldOut, ...]) -> float:
    """Largest change in bfloat16 on the middle planes, in sd of the output."""
    worst = 0.0
    for test in sets:
        noisy = test.scan(TEST_SEEDS[0]).noisy
        x = ((noisy - noisy.mean()) / noisy.std()).astype(np.float32)
        planes = adjacent(x, len(x) // 2, network.spec.adjacent_slices)
        stack = torch.from_numpy(planes.copy())[None]
        with torch.no_grad():
            exact = network(stack)
            with torch.autocast("cpu", torch.bfloat16):
                reduced = network(stack).float()
        worst = max(worst, float((reduced - exact).abs().max() / exact.std()))
    return round(worst, 4)


if __name__ == "__main__":
    sys.exit(main())
