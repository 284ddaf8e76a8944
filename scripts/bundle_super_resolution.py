"""Evaluate the weights of ``train_super_resolution.py``, and bundle them.

    python scripts/train_super_resolution.py ct-sr-x2 --out build/ct-sr-x2
    python scripts/bundle_super_resolution.py ct-sr-x2 --work build/ct-sr-x2

The texts come from ``scripts/pretraining/texts/NAME.yaml``, the evaluation from the
test sets of ``scripts/pretraining/testsets.py``, and the reference for comparing later
scans from noisy training scenes.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import train_denoisers
import train_super_resolution as training
from napari_geosr import __version__
from napari_geosr.core.noise import Noise
from napari_geosr.core.provenance import array_checksum
from napari_geosr.core.volume import Volume
from napari_geosr.models import bundle, zoo
from napari_geosr.models.card import FigureRow, ModelCard, TrainingData
from napari_geosr.models.distribution import draw_sample, signature
from napari_geosr.networks import build_network, set_network_noise
from pretraining import judging, reference
from pretraining.testsets import SETS, TEST_SEEDS

TEXTS = Path(__file__).parent / "pretraining" / "texts"
#: Number of reference scenes, and of other scenes for choosing the accepted distance.
_EXAMPLES, _OTHERS = 128, 96


def training_data(name: str, folder: Path, **said: Any) -> TrainingData:
    """Return the percentiles and spectra of scans made from scenes as in training."""
    settings = training.TRAININGS[name]
    scenes, _ = training.make_scenes(name, folder)
    rng = np.random.default_rng([settings.seed, 1 << 21])
    found = []
    for number in range(_EXAMPLES + _OTHERS):
        scene = scenes[number % len(scenes)].astype(np.float32)
        scan = training.averaged(scene, settings.factor)
        noise = train_denoisers.random_noise(scan.shape, rng)
        level = np.exp(rng.uniform(*np.log(training.LEVELS)))
        made = signature(draw_sample(Volume(scan + np.float32(level) * noise, "ZYX")))
        if made is not None:
            found.append(made)
    seeds = (settings.seed,)
    return reference.compared(found[:_EXAMPLES], found[_EXAMPLES:], seeds, **said)


def draft(name: str, work: Path, texts: dict[str, Any]) -> tuple[ModelCard, Any]:
    """Return the card without evaluation, and the network with its weights."""
    settings = training.TRAININGS[name]
    network = build_network("conditioned_sr", **settings.network).eval()
    state = torch.load(work / "weights.pt", weights_only=True)
    network.load_state_dict(state)
    said = texts.pop("training")
    rng = np.random.default_rng([settings.seed, 0])
    first = training.fine_scene(settings.factor, rng).astype(np.float16)
    card = ModelCard(
        name=name,
        task="super-resolution",
        method="supervised",
        network="conditioned_sr",
        network_kwargs=network.config.model_dump(mode="json"),
        axes="ZYX",
        upscale_factor=settings.factor,
        halo=max(network.spec.halo),
        data_consistency=True,
        training=training_data(name, work, **said),
        licence="BSD-3-Clause",
        weights_sha256="0" * 64,
        n_parameters=sum(p.numel() for p in network.parameters()),
        mixed_precision_error=_mixed_precision_error(name, network),
        provenance={
            "command": f"python scripts/train_super_resolution.py {name}",
            "recipe": "train.yaml",
            "first_scene": array_checksum(first),
            "napari_geosr": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "baselines": "settings tuned per test set on a scan with known ground "
            "truth",
            "test_data": f"simulated, {len(TEST_SEEDS)} scans per set, none used in "
            "training",
        },
        **texts,
    )
    return card, network


def _mixed_precision_error(name: str, network: Any) -> float:
    """Largest change in bfloat16 in the middle of scans, in standard deviations."""
    worst = 0.0
    for test in SETS[name]:
        noisy = test.scan(TEST_SEEDS[0]).noisy
        mean, std = float(noisy.mean()), float(noisy.std())
        set_network_noise(network, Noise(test.noise / std, 1.0))
        part = tuple(slice(0, min(n, 24)) for n in noisy.shape)
        given = torch.from_numpy((noisy[part] - mean) / std)[None, None]
        with torch.no_grad():
            exact = network(given)
            with torch.autocast("cpu", torch.bfloat16):
                reduced = network(given).float()
        worst = max(worst, float((reduced - exact).abs().max() / exact.std()))
    return round(worst, 4)


def main() -> None:
    """Evaluate and bundle the named model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=sorted(training.TRAININGS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="default: the package's own folder")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    name, work = arguments.model, arguments.work
    texts = yaml.safe_load((TEXTS / f"{name}.yaml").read_text(encoding="utf-8"))
    card, network = draft(name, work, texts)
    draft_folder = work / "bundle" / name
    bundle.save(draft_folder, card, network, half=True)
    cache = work / f"classical-{name}.yaml"
    judged = judging.judge(SETS[name], str(draft_folder), cache)
    rows = [
        FigureRow(
            test_set=row["test_set"],
            method=row["method"],
            **judging.mean(row["scans"]),
        )
        for row in judged
    ]
    print(*judging.shortfalls(judged, 0.0), sep="\n")
    card = card.model_copy(update={"figures": tuple(rows)})
    out = arguments.out or zoo.bundled_folder() / name
    out.mkdir(parents=True, exist_ok=True)
    steps = [int(n) for n in (work / "steps.txt").read_text().split()]
    recipe = yaml.safe_dump(training.recipe(name, steps), sort_keys=False)
    (out / "train.yaml").write_text(recipe, encoding="utf-8")
    bundle.save(out, card, network, half=True)
    bundle.verify(out)
    print(f"{card.n_parameters} parameters in {out}")


if __name__ == "__main__":
    main()
