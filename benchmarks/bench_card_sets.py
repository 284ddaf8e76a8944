"""Choices of ``--model auto`` on the simulated test sets of the model cards.

Compares `ct-denoise` and `fluo-denoise`, the specialised networks that they replaced,
and the choice of the ranking, on scans that were not used for training. Prints a
Markdown table, or writes it into a document with ``--out``.

    python benchmarks/bench_card_sets.py --out docs/evidence/denoisers.md

Uses one thread. Rows are stored in ``--work``, so an interrupted run can be resumed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _document import replace_section
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.intensity import scan_steps
from napari_geosr.inference.risk.evaluation import draw_sample
from napari_geosr.models import zoo
from napari_geosr.operations.restore.ranking import RankConfig, rank_steps
from napari_geosr.operations.restore.ranking.tune import TrialSetup, for_axes
from napari_geosr.operations.restore.scale import scaled

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from pretraining.testsets import SETS, TEST_SEEDS, TestSet

#: The current networks, and the networks that they replaced.
EARLIER = {"ct-denoise": "porous-denoise", "fluo-denoise": "photon-denoise"}
#: Losses above this value in dB are counted.
_LOSS_DB = 0.3


def row(model: str, test_set: TestSet, seed: int) -> dict[str, Any]:
    """PSNR of both networks and of the chosen model on one scan."""
    scan = test_set.scan(seed)
    noisy, clean = scan.noisy.astype(np.float32), scan.clean
    if len(noisy) == 1:
        noisy, clean = noisy[0], clean[0]
    volume = Volume(noisy, "ZYX"[3 - noisy.ndim :], name="scan")
    ranking = run_to_end(rank_steps(volume, RankConfig(threads=1)))
    statistics = run_to_end(scan_steps(noisy))
    sample = draw_sample(noisy, ranking.noise, n=1)
    setup = TrialSetup(sample, statistics, ranking.noise, "cpu", 1)
    whole = tuple(slice(0, n) for n in noisy.shape)
    found: dict[str, float] = {}
    ranked = {entry.name: entry.model for entry in ranking.rows}
    for name in {ranking.choice, model, EARLIER[model]}:
        # The ranking omits networks that would invent or lose pores.
        used = ranked[name] if name in ranked else for_axes(zoo.find(name), volume)
        result = noisy
        if used is not None:
            scale = scaled(statistics, used.card, volume)
            result = setup.restorer(used, scale)(noisy, whole)
        error = float(np.sqrt(np.mean(np.square(result - clean))))
        found[name] = 20 * float(np.log10(abs(scan.contrast) / error))
    true = float((noisy - clean).std())
    return {
        "model": model,
        "set": test_set.name,
        "choice": ranking.choice,
        "new": found[model],
        "earlier": found[EARLIER[model]],
        "auto": found[ranking.choice],
        "noise_error": ranking.noise.level / true - 1,
    }


def rows(seeds: tuple[int, ...], work: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of all sets and seeds; stored rows are not computed again."""
    for model in EARLIER:
        for test_set in SETS[model]:
            for seed in seeds:
                name = f"{model}-{test_set.name}-{seed}.json".replace(" ", "_")
                kept = work / name.replace("(", "").replace(")", "")
                if not kept.exists():
                    kept.write_text(json.dumps(row(model, test_set, seed)))
                    print(kept.stem, kept.read_text(), flush=True)
                yield json.loads(kept.read_text())


def table(found: list[dict[str, Any]]) -> str:
    """Return one line for each set, with means over its scans."""
    lines = [
        "| test set | new network | earlier network | auto | auto − earlier | chosen |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(each["set"] for each in found):
        some = [each for each in found if each["set"] == name]
        new, earlier, auto = (
            float(np.mean([each[key] for each in some]))
            for key in ("new", "earlier", "auto")
        )
        chosen = ", ".join(sorted({each["choice"] for each in some}))
        cells = [name, f"{new:.2f}", f"{earlier:.2f}", f"{auto:.2f}"]
        cells += [f"{auto - earlier:+.2f}", chosen]
        lines.append("| " + " | ".join(cells) + " |")
    gains = [each["auto"] - each["earlier"] for each in found]
    networks = [each["new"] - each["earlier"] for each in found]
    worse = sum(gain < -_LOSS_DB for gain in gains)
    lines += [
        "",
        "Relative to the earlier network, *auto* changes the PSNR by "
        f"{np.mean(gains):+.2f} dB on average and by {min(gains):+.2f} dB at worst; it "
        f"is worse by more than {_LOSS_DB} dB on {worse} of {len(gains)} scans. The "
        f"new network alone changes it by {np.mean(networks):+.2f} dB on average and "
        f"by {min(networks):+.2f} dB at worst.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scans", type=int, default=2, help="number of scans per set")
    parser.add_argument("--work", type=Path, default=Path("build/card_sets"))
    parser.add_argument("--out", type=Path, help="document to write the table into")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    text = table(list(rows(TEST_SEEDS[: options.scans], options.work)))
    print(text)
    if options.out is not None:
        replace_section(options.out, "card sets", text)


if __name__ == "__main__":
    main()
