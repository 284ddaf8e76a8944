"""Lets the threads of libraries sleep while they wait for each other."""

from __future__ import annotations

import os

#: Read by OpenMP, which torch uses, when it is loaded.
_POLICY = "OMP_WAIT_POLICY"


def let_threads_sleep() -> None:
    """Let waiting threads sleep, unless the environment says otherwise.

    By default, threads of OpenMP that wait for each other keep their cores busy. Where
    other programs use the cores too, most of the processor time is then lost by
    waiting. This has an effect only before torch is imported.
    """
    os.environ.setdefault(_POLICY, "PASSIVE")
