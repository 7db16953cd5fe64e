"""How long threads that wait for each other keep their cores busy."""

import sys
from collections.abc import MutableMapping

SPIN_COUNT = "1000"
"""How often a waiting thread of torch looks again before it sleeps; the OpenMP library's own is 300,000."""

_USERS_CHOICE = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Let torch's threads sleep soon where they wait, unless the environment says already how they wait.

    With the library's own count they would take the cores from a second training for milliseconds at each of
    thousands of meetings a second, so that neither moves.  It reads the variable as torch is imported.
    """
    if "torch" not in sys.modules and not any(name in environment for name in _USERS_CHOICE):
        environment["GOMP_SPINCOUNT"] = SPIN_COUNT
