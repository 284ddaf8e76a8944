"""The CAREamics part of ``bench_careamics_n2v.py``; runs in a separate environment.

Reads ``train``, ``test`` and ``settings`` (JSON) from an .npz file and writes the
restored test volume, its times and the number of parameters to another file.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

import careamics
import numpy as np
import torch
from careamics import CAREamist
from careamics.config.factories import create_advanced_n2v_config

#: More epochs than needed, because training ends after a given number of steps.
_EPOCHS = 10_000


def main(given: str, result: str) -> None:
    """Train on slices, and restore the test volume slice by slice."""
    torch.set_num_threads(1)
    data = np.load(given)
    settings = json.loads(str(data["settings"]))
    config = create_advanced_n2v_config(
        experiment_name="n2v",
        data_type="array",
        axes="SYX",
        patch_size=[settings["patch"]] * 2,
        batch_size=settings["batch_size"],
        num_epochs=_EPOCHS,
        use_n2v2=settings["n2v2"],
        masked_pixel_percentage=settings["masked"],
        num_workers=0,
        trainer_params={
            "max_steps": settings["steps"],
            "accelerator": "cpu",
            "devices": 1,
            "enable_model_summary": False,
        },
        model_params={"depth": 2, "num_channels_init": settings["features"]},
        optimizer_params={"lr": settings["learning_rate"]},
        seed=settings["seed"] + 1,  # must be positive
    )
    with tempfile.TemporaryDirectory() as folder:
        peer = CAREamist(config, work_dir=folder, enable_progress_bar=False)
        began = time.process_time()
        peer.train(train_data=data["train"])
        trained = time.process_time() - began
        steps = peer.trainer.global_step
        predicted, _ = peer.predict(data["test"])
    np.savez(
        result,
        volume=np.squeeze(predicted[0]).astype(np.float32),
        seconds=trained,
        seconds_per_volume=time.process_time() - began - trained,
        parameters=sum(p.numel() for p in peer.model.model.parameters()),
        steps=steps,
        version=f"{careamics.__version__}, torch {torch.__version__}",
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
