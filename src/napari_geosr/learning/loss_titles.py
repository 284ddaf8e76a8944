"""What the losses that methods name mean, in a few plain words."""

from __future__ import annotations

_TITLES = {
    "loss": "training",
    "validation": "validation",
    "guess": "other half",
    "regularising": "halves agree",
    "pixel": "off the target",
    "adversarial": "looks made up",
    "perceptual": "textures differ",
    "cycle": "there and back",
    "identity": "over-corrected",
    "consistency": "off the input",
    "critic": "critic",
    "critic penalty": "critic too steep",
    "critic_target": "critic of targets",
    "critic_target penalty": "its steepness",
    "critic_source": "critic of sources",
    "critic_source penalty": "its steepness",
}


def loss_title(name: str) -> str:
    """Return what a curve of the loss `name` is called; `name` if it has no title."""
    return _TITLES.get(name, name)
