"""Train, judge and export a bundled model.

    python scripts/train_pretrained.py foam-denoise             # train, judge, export
    python scripts/train_pretrained.py foam-denoise --evaluate  # judge and export again

Training keeps its state in ``--work`` and can be stopped at any time; ``--resume`` goes
on from there, and ``--evaluate`` takes the state as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from napari_geosr.models import zoo
from napari_geosr.models.card import TrainingData
from napari_geosr.networks import build_network
from pretraining import cards, evaluation
from pretraining.recipes import RECIPES, Recipe
from pretraining.training import Trainer


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--work", type=Path, default=Path("build/train"))
    parser.add_argument("--out", type=Path, help="default: the package's own folder")
    parser.add_argument("--steps", type=int, help="in place of the recipe's")
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="budget of training time; the learning rate falls accordingly",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fp32", action="store_true", help="no bfloat16 in training")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--start", type=Path, help="weights.safetensors that training starts from"
    )
    parser.add_argument(
        "--blend",
        type=Path,
        help="weights.safetensors of the stage before, mixed into the exported ones",
    )
    parser.add_argument("--share", type=float, default=0.6, help="of this stage")
    parser.add_argument("--note", default="", help="kept in train.yaml")
    parser.add_argument("--evaluate", action="store_true", help="do not train")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = RECIPES[arguments.name]
    if arguments.steps:
        recipe = dataclasses.replace(recipe, steps=arguments.steps)
    checkpoint = arguments.work / f"{recipe.name}.pt"
    if not arguments.evaluate:
        trainer = Trainer(recipe, checkpoint, arguments.seconds, not arguments.fp32)
        if arguments.start:
            trainer.start_from(load_file(arguments.start))
        if arguments.resume:
            trainer.resume()
        trainer.run()
    out = arguments.out or zoo.bundled_folder() / recipe.name
    state = torch.load(checkpoint, weights_only=True)
    note = arguments.note
    if arguments.blend:
        before = load_file(arguments.blend)
        state["average"] = {
            name: before[name].lerp(value, arguments.share)
            for name, value in state["average"].items()
        }
        note = f"{arguments.share:g} of this stage, the rest of the one before. {note}"
    judge_and_export(recipe, state, arguments.work, out, note.strip())


def judge_and_export(
    recipe: Recipe, state: dict[str, Any], work: Path, out: Path, note: str = ""
) -> None:
    """Judge the averaged weights of a checkpoint's state and write the bundle."""
    network = build_network(recipe.network, **recipe.network_kwargs)
    network.load_state_dict(state["average"])
    network.eval()
    rows = evaluation.merge(
        evaluation.classical_rows(recipe, work / f"classical-{recipe.name}.yaml"),
        evaluation.model_rows(recipe, network),
    )
    print(evaluation.table(rows))
    training = _training_data(recipe, work / f"training-{recipe.name}.json")
    record = _record(recipe, state) | ({"note": note} if note else {})
    card = cards.export(out, recipe, network, rows, training, record)
    print(f"{card.n_parameters} parameters, bundle in {out}")


def _training_data(recipe: Recipe, cache: Path) -> TrainingData:
    if not cache.exists():
        cache.write_text(cards.training_data(recipe).model_dump_json())
    return TrainingData.model_validate_json(cache.read_text())


def _record(recipe: Recipe, state: dict[str, Any]) -> dict[str, Any]:
    """What ``train.yaml`` keeps: enough to do it again."""
    values = yaml.safe_load(yaml.safe_dump(_plain(dataclasses.asdict(recipe))))
    return {
        "command": f"python scripts/train_pretrained.py {recipe.name}",
        "recipe": values,
        "done": {
            "steps": state["step"],
            "training_seconds": round(state["seconds"]),
            "scans_simulated": state["n_made"],
            "threads": 1,
            "precision": "bfloat16 hidden maps, float32 weights",
            "weights": "exponential average",
        },
        "history": [
            {k: round(v, 5) for k, v in note.items()} for note in state["history"]
        ],
        "versions": cards.versions(),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main()
