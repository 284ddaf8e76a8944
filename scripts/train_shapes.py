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
    print(run_to_end(train_shape_steps(job, given.folder), show))


if __name__ == "__main__":
    main()
