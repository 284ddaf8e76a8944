"""Calibrate the porosity intervals of bundled models and record the factor on the card.

    python scripts/calibrate_uncertainty.py foam-denoise foam-sr-x2 ct-denoise

Run it again after a model has been retrained: its card then has no factor, so its
results come without an interval of the porosity. For the scans and the definition, see
``docs/uncertainty.md``; for the coverage on other scans, see
``benchmarks/bench_uncertainty.py``. Only the field ``uncertainty`` of the card is
changed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from napari_geosr.io.unfinished_files.atomic import write_text
from napari_geosr.measure.interval import conformal_factor
from napari_geosr.models import bundle, zoo
from napari_geosr.models.bundle_files import CARD_FILE
from napari_geosr.models.card import DeviationCalibration
from pretraining.coverage import outcomes
from pretraining.uncertain_scans import CALIBRATION_SEED, CONDITIONS

#: The field is inserted before this text on a card.
_FOLLOWING = "weights_sha256:"
NOMINAL = 0.9
MEMBERS = 8


def main() -> int:
    """Calibrate the models named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=list(CONDITIONS))
    parser.add_argument("--of-each", type=int, default=8, help="scans of each kind")
    parser.add_argument("--work", type=Path, default=Path("build/uncertainty"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.models:
        folder = zoo.bundled_folder() / name
        needed = []
        for outcome in outcomes(
            name,
            CALIBRATION_SEED,
            arguments.of_each,
            arguments.work,
            arguments.threads,
        ):
            needed.append(outcome.needed)
            print(
                f"{name} {outcome.kind}, {outcome.resolution}: {outcome.truth:.4f} "
                f"measured {outcome.porosity:.4f}, needs {outcome.needed:+.2f}",
                flush=True,
            )
        calibration = DeviationCalibration(
            kind="tta",
            members=MEMBERS,
            factor=round(conformal_factor(needed, NOMINAL), 3),
            nominal=NOMINAL,
            scans=len(needed),
            weights_sha256=bundle.read_card(folder).weights_sha256,
            description="Simulated: foams, irregular pores, networks and rare pores, "
            "each at two resolutions, with random noise, blur and contrast (docs/"
            "trust.md).",
        )
        note(folder / CARD_FILE, calibration)
        bundle.verify(folder)
        print(f"{name}: {calibration.factor} deviations for {NOMINAL:.0%}")
    return 0


def note(path: Path, calibration: DeviationCalibration) -> None:
    """Insert the field ``uncertainty`` into the card without changing other lines."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept, inside = [], False
    for line in lines:
        inside = line.startswith("uncertainty:") or (inside and line.startswith(" "))
        if not inside:
            kept.append(line)
    field = yaml.safe_dump(
        {"uncertainty": calibration.model_dump(mode="json")},
        sort_keys=False,
        allow_unicode=True,
        width=88,
    )
    at = next(i for i, line in enumerate(kept) if line.startswith(_FOLLOWING))
    write_text(path, "".join([*kept[:at], field, *kept[at:]]), overwrite=True)


if __name__ == "__main__":
    sys.exit(main())
