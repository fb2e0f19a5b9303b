"""Runs the sides of the comparison as processes, each with a time limit: the device memory that one
holds is freed with it, and a slow one takes no time from those that follow.
"""

import subprocess
import time

# Seconds that a side needs at least, and what is kept for writing down what was found.
LEAST, KEPT = 10, 5


class Out(Exception):
    """There is no time left."""


def limit_of(cap, end):
    """Seconds that a side may take: at most `cap`, and no longer than until `end`."""
    left = min(end - time.monotonic() - KEPT, cap)
    if left < LEAST:
        raise Out
    return left


def run_within(limit, command, **more):
    """subprocess.run with a time limit. The child stays in the session of its parent, so that the
    limit of the stage ends both."""
    try:
        return subprocess.run(command, timeout=limit, stdin=subprocess.DEVNULL, **more)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done within {limit:.0f} s") from None
