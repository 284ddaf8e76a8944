"""Structured illumination: check raw frames, find patterns, reconstruct."""

from __future__ import annotations

from napari_geosr.operations.sim.check import SimCheck, check_steps
from napari_geosr.operations.sim.config import (
    METHOD_TITLES,
    METHODS,
    FramesConfig,
    SimConfig,
)
from napari_geosr.operations.sim.estimate import (
    PatternError,
    PatternEstimate,
    estimate_steps,
)
from napari_geosr.operations.sim.inputs import frames_of, open_frames
from napari_geosr.operations.sim.run import SimResult, preview, run_steps, sim_steps
from napari_geosr.operations.sim.simulation import (
    SimulatedSim,
    SimulateSimConfig,
    simulate_sim_steps,
)
from napari_geosr.operations.sim.trust import SimTrust
from napari_geosr.operations.sim.trust.support import compare_answers
from napari_geosr.sim.pattern_problems import MIN_CONFIDENCE

__all__ = [
    "METHODS",
    "METHOD_TITLES",
    "MIN_CONFIDENCE",
    "FramesConfig",
    "PatternError",
    "PatternEstimate",
    "SimCheck",
    "SimConfig",
    "SimResult",
    "SimTrust",
    "SimulateSimConfig",
    "SimulatedSim",
    "check_steps",
    "compare_answers",
    "estimate_steps",
    "frames_of",
    "open_frames",
    "preview",
    "run_steps",
    "sim_steps",
    "simulate_sim_steps",
]
