"""Kinds of data that users may have, and the learning methods that suit them.

This module does not depend on Qt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from napari_geosr.core.types import AnyMapping
from napari_geosr.operations.train import needs, roles


@dataclass(frozen=True)
class TrainingScenario:
    """One answer to *What do you have?*.

    Attributes
    ----------
    text : str
    methods : tuple of str
        Suitable methods, the best first.
    names : tuple of str
        Titles of the rows for source and target.
    several : bool
        Whether the source consists of several volumes.
    defaults : mapping of str to mapping
        Settings for this kind of data, by method.
    use : str
        Name of this use of the methods, if it has separate settings.
    """

    text: str
    methods: tuple[str, ...]
    names: tuple[str, ...]
    several: bool = False
    defaults: Mapping[str, AnyMapping] = field(default_factory=dict)
    use: str = ""

    @property
    def takes_labels(self) -> bool:
        """Whether the target is a label image."""
        return "Labels" in self.names


_SCENARIOS = (
    TrainingScenario(
        "Two noisy scans of one object",
        ("noise2noise",),
        ("First scan", "Second scan"),
    ),
    TrainingScenario(
        "A noisy and a low-noise scan",
        ("supervised",),
        ("Noisy scan", "Low-noise scan"),
    ),
    TrainingScenario(
        "A scan and its labels",
        ("supervised",),
        ("Scan", "Labels"),
        defaults={"supervised": {"labels": 2}},
        use="labels",
    ),
    TrainingScenario(
        "A scan and a few painted slices",
        ("ptdr",),
        ("Scan", "Labels"),
        # In napari, 0 means unpainted.
        defaults={"ptdr": {"unpainted": 0}},
    ),
    TrainingScenario(
        "Unlabelled images of one kind", ("ddpm",), ("Images",), several=True
    ),
    TrainingScenario(
        "One noisy scan only", ("noise2void", "neighbor2neighbor"), ("Noisy scan",)
    ),
    TrainingScenario("A scan and a model to adapt", ("adapt",), ("Noisy scan",)),
    TrainingScenario(
        "Sub-reconstructions of one scan",
        ("noise2inverse",),
        ("Reconstructions",),
        several=True,
    ),
    TrainingScenario(
        "Low- and high-quality scans",
        ("tomogan", "supervised", "srdiff"),
        ("Low quality", "High quality"),
    ),
    TrainingScenario(
        "Low- and high-resolution scans",
        ("pix2pix", "supervised", "srdiff"),
        ("Low resolution", "High resolution"),
        defaults={
            "pix2pix": {"upscale_factor": 2},
            "srdiff": {"upscale_factor": 2},
            "supervised": {
                "upscale_factor": 2,
                "network": "light_sr",
                "dimensions": "3D",
            },
        },
        use="finer",
    ),
    TrainingScenario(
        "Two unpaired sets of images",
        ("cyclegan",),
        ("From", "To"),
        several=True,
    ),
)


def training_scenarios() -> tuple[TrainingScenario, ...]:
    """Return the scenarios with at least one available method.

    All other methods, such as those of other packages, come last as separate scenarios.
    """
    known = needs()
    scenarios = []
    for scenario in _SCENARIOS:
        methods = tuple(m for m in scenario.methods if m in known)
        if methods:
            scenarios.append(replace(scenario, methods=methods))
    named = {m for scenario in _SCENARIOS for m in scenario.methods}
    for method in sorted(known.keys() - named):
        text = known[method][:1].upper() + known[method][1:]
        names = tuple(role.capitalize() for role in roles(method))
        scenarios.append(TrainingScenario(text, (method,), names, several=True))
    return tuple(scenarios)


def find(scenarios: tuple[TrainingScenario, ...], method: str, use: str = "") -> int:
    """Return the index of the scenario for `method`, if possible with this `use`.

    The index is 0 if there is no scenario for `method`.
    """
    fitting = [i for i, q in enumerate(scenarios) if method in q.methods]
    return next((i for i in fitting if scenarios[i].use == use), (fitting or [0])[0])
