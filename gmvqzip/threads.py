"""How the threads of torch wait for one another."""

from __future__ import annotations

import os
import sys


def sleep_while_waiting() -> None:
    """Let OpenMP's threads, as torch's are, sleep while they wait for one another, instead of spinning.

    Beside other work on the processor's cores, spinning takes several times the time of the work itself. It has an
    effect only before torch is loaded, and none where OMP_WAIT_POLICY is set.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
