"""Sentences about measured noise, each with a topic by which code can select it."""

from __future__ import annotations

from typing import Literal, Self

Topic = Literal[
    "clipping",
    "fine structure",
    "median filter",
    "no uniform region",
    "position",
    "rounding",
    "single voxels",
    "slices",
    "smooth variation",
]
#: Topics of remarks on parts of a scan that are noisier than the rest.
PARTIAL: tuple[Topic, ...] = ("position", "slices", "single voxels")


class Remark(str):
    """A sentence with a topic.

    Code that selects the remarks on a topic compares the topic, not the sentence, so
    that the sentence can be reworded. A remark is a string: it can be shown, compared
    and written like any other string.

    Parameters
    ----------
    sentence : str
    topic : str
        Topic of the sentence.

    Examples
    --------
    >>> remark = Remark("Some slices are noisy.", "slices")
    >>> remark, remark.topic
    ('Some slices are noisy.', 'slices')
    >>> is_about(remark, "slices", "rounding"), is_about(str(remark), "slices")
    (True, False)
    """

    __slots__ = ("topic",)

    topic: Topic

    def __new__(cls, sentence: str, topic: Topic) -> Self:
        """Create a remark."""
        remark = super().__new__(cls, sentence)
        remark.topic = topic
        return remark

    def __getnewargs__(self) -> tuple[str, Topic]:  # type: ignore[override]
        """Return the arguments for creating a copy, for example in another process."""
        return str(self), self.topic


def is_about(sentence: str, *topics: Topic) -> bool:
    """Whether a sentence is a remark on one of the topics."""
    return isinstance(sentence, Remark) and sentence.topic in topics
