"""Creates the record of a restoration, and the metadata of its result."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.core.noise import known_noise
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore.resume import DEVIATION
from napari_geosr.operations.restore.targets import DEVIATION_DTYPE
from napari_geosr.operations.restore.upscaling.sharpness import agreement_records

if TYPE_CHECKING:
    from napari_geosr.operations.restore.preparation import PreparedRestoration

#: Names, in records, of the volumes in which the noise was measured, by kind.
_NOISE_INPUTS = {
    "second": "second scan",
    "region": "region for the noise",
    "blank": "blank scan",
}


def record_steps(
    prepared: PreparedRestoration, should_stop: ShouldStop
) -> Generator[Step, None, AnyDict]:
    """Create the record of a run, reading the input once more for its checksum."""
    steps = provenance.record_steps(
        "restore",
        should_stop=should_stop,
        inputs={"input": prepared.volume, **noise_inputs(prepared.volume)},
        **run_facts(prepared),
    )
    return (yield from steps)


def noise_inputs(volume: Volume) -> dict[str, Volume]:
    """Return the volume in which the noise was measured, for the record, if any."""
    known = known_noise(volume.metadata)
    if known is None or known.volume is None:
        return {}
    return {_NOISE_INPUTS[known.kind]: known.volume}


def run_facts(prepared: PreparedRestoration) -> AnyDict:
    """Describe a run, except for its input, for the record."""
    import torch

    card = prepared.model.card
    more: AnyDict = {}
    if prepared.has_deviation:
        more["uncertainty"] = {
            "kind": prepared.config.uncertainty,
            "members": list(prepared.network.facts),
            "weights_sha256": [other.card.weights_sha256 for other in prepared.others],
            "calibration": _calibration(prepared),
        }
    if prepared.noise is not None:
        more["noise"] = prepared.noise.to_json_dict()
    if (known := known_noise(prepared.volume.metadata)) is not None and known.kind:
        more["noise_measured_in"] = {"kind": known.kind, "name": known.place}
    if prepared.ranking is not None:
        more["ranking"] = prepared.ranking.to_json_dict()
    model: AnyDict = {"name": card.name}
    model["weights_sha256"] = card.weights_sha256
    if not card.has_weights:
        model["settings"] = card.network_kwargs
    if prepared.verdict is not None:
        more["verdict"] = prepared.verdict.to_json_dict()
    if facts := agreement_records(prepared.network):
        more["data_consistency"] = facts
    return {
        "settings": prepared.config.model_dump(mode="json"),
        "model": model,
        "device": prepared.device,
        "torch": torch.__version__,
        "output_dtype": str(prepared.output_dtype),
        "intensities": _intensities(prepared),
        "likeness": {
            "level": prepared.likeness.level,
            "reasons": list(prepared.likeness.reasons),
        },
        # Set to True only at the end of the run, so that the record is correct after
        # any failure.
        "complete": False,
        **more,
    }


def _intensities(prepared: PreparedRestoration) -> AnyDict:
    """Return the grey-value statistics for records, including any hot voxels."""
    statistics = prepared.statistics
    found: AnyDict = {
        "mean": statistics.mean,
        "std": statistics.std,
        "input_scale": statistics.input,
        "output_scale": statistics.output,
        "sampled": statistics.sampled,
        "n_nan": statistics.n_nan,
        "n_inf": statistics.n_inf,
    }
    if statistics.hot is not None and statistics.hot.n:
        found["n_hot"] = statistics.hot.n
        found["hot_limits"] = statistics.hot.limits
    if statistics.padding is not None:
        found["padding"] = statistics.padding
    if statistics.crowd_share:
        found["crowd_share"] = statistics.crowd_share
    return found


def _calibration(prepared: PreparedRestoration) -> AnyDict | None:
    """Return the calibration of the deviations from the card; None if unknown."""
    card = prepared.model.card
    known = card.uncertainty
    if known is None or known.weights_sha256 != card.weights_sha256:
        return None
    if known.kind != prepared.config.uncertainty or prepared.others:
        return None
    if card.task == "generate" and prepared.config.upscale_factor > 1:
        return None  # deviations are calibrated only for denoising
    return known.model_dump(mode="json")


def expected_volumes(prepared: PreparedRestoration, record: AnyMapping) -> list[Volume]:
    """Return volumes that describe the result and the deviations, without voxels."""
    volume = prepared.volume
    n_spatial = len(volume.spatial_axes)
    voxel_size, origin = volume.upscaled_geometry(prepared.factors[-n_spatial:])
    shape = tuple(n * s for n, s in zip(volume.shape, prepared.factors, strict=True))
    outputs = [(prepared.result_name, prepared.output_dtype, "mean")]
    if prepared.has_deviation:
        name = f"{prepared.result_name} ({DEVIATION})"
        outputs.append((name, DEVIATION_DTYPE, "standard deviation"))
    metadata = prepared.metadata
    if "C" in volume.axes and "channels" in volume.metadata:
        metadata["channels"] = volume.metadata["channels"]
    expected = []
    for name, dtype, which in outputs:
        own = dict(record)
        if prepared.has_deviation:
            own["uncertainty"] = {**record["uncertainty"], "this": which}
        expected.append(
            Volume(
                np.broadcast_to(np.zeros((), dtype), shape),
                volume.axes,
                voxel_size,
                volume.unit,
                origin,
                name=name,
                provenance=(*volume.provenance, own),
                metadata=metadata,
            )
        )
    return expected
