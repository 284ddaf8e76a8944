"""Train the bundled shape models on simulated shapes, and write their bundles.

Run ``python scripts/train_shapes.py NAME FOLDER``; an interrupted run is resumed from
the checkpoint in FOLDER. The bundle is in ``FOLDER/result``. On one core,
``shape-sr-x2`` takes 10 to 20 minutes and ``skull-complete`` one minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_geosr.core.steps import TrainingProgress, run_to_end
from napari_geosr.models import bundle
from napari_geosr.models.card import ModelCard
from napari_geosr.operations.shapes.training import ShapeTrainJob, train_shape_steps

#: Settings of the bundled models.
JOBS: dict[str, dict[str, Any]] = {
    "shape-sr-x2": {
        "method": "shape_sr",
        "training": {
            "name": "shape-sr-x2",
            "simulated": "mixed",
            "steps": 1200,
            "threads": 1,
            "device": "cpu",
            "averaging": 0.99,
            "licence": "BSD-3-Clause",
        },
    },
    "skull-complete": {
        "method": "shell_completion",
        "training": {
            "name": "skull-complete",
            "simulated": "skulls",
            "number": 150,
            "threads": 1,
            "device": "cpu",
            "licence": "BSD-3-Clause",
        },
    },
}
#: What the cards of these models state about their use, after the evaluation on
#: simulated shapes (docs/evidence/shapes_refinement.md, docs/evidence/shapes.md).
CARDS: dict[str, dict[str, Any]] = {
    "shape-sr-x2": {
        "intended_use": "Coarse segmentations of shapes whose parts and gaps are "
        "thicker than a voxel of the input, such as skulls, pores, or bone scanned at "
        "a sufficient resolution.",
        "not_for": "Details thinner than a coarse voxel: they are not in the input.",
        "remarks": (
            "The following figures are from simulated shapes.",
            "Factor of 4, trabeculae (from 32³ to 128³ voxels): the surfaces are more "
            "accurate than after trilinear interpolation, but the errors of the volume "
            "(+3.4 %), the thickness (+19.6 %) and the connectivity density (+52 %) "
            "are larger (interpolation: +2.5 %, +12.5 % and +37 %). Do not measure "
            "such structures after refinement.",
            "Factor of 4, trees of thin tubes: the volume decreases by 10.6 % "
            "(interpolation: 7.7 %).",
            "Factor of 8 (from 64³ to 512³ voxels): the volume decreases by 3.5 % for "
            "skulls and 1.7 % for trabeculae (interpolation: −0.1 % and +0.8 %).",
        ),
    },
    "skull-complete": {
        "intended_use": "Shells of the same kind and orientation as the training "
        "shapes.",
        "not_for": "Medical use. A completion is a guess that resembles the training "
        "shapes.",
        "remarks": (
            "This model was trained only on simulated skulls, which lack anatomical "
            "detail. Treat every completed part as a guess and check it.",
        ),
    },
}


def with_texts(card: ModelCard) -> ModelCard:
    """Return the card of a bundled model with the statements about its use."""
    return card.model_copy(update=CARDS[card.name])


def main() -> None:
    """Train the named model, and write its bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(JOBS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start-from", help="Model to start from")
    given = parser.parse_args()

    def show(step: object) -> None:
        if isinstance(step, TrainingProgress):
            print(f"{step.done}/{step.total} {step.losses}", flush=True)

    values = JOBS[given.name]
    training = {**values["training"], "from_model": given.start_from}
    job = ShapeTrainJob.from_values({**values, "training": training})
    made = run_to_end(train_shape_steps(job, given.folder), show)
    if made is not None:
        text = with_texts(bundle.read_card(made)).to_yaml()
        (made / bundle.CARD_FILE).write_text(text, encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
