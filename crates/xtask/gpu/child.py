"""Programs of the comparison, each with a limit of its own: what one holds of the device goes with it,
and one that takes too long leaves their time to those after it.
"""

import subprocess
import time

# Seconds that a side needs at least, and what is kept for writing down what was found.
LEAST, KEPT = 10, 5


class Out(Exception):
    """There is no time left."""


def limit_of(cap, end):
    """Seconds that a side may take: `cap` at most, where all of them have until `end`."""
    left = min(end - time.monotonic() - KEPT, cap)
    if left < LEAST:
        raise Out
    return left


def run_within(limit, command, **more):
    """As subprocess.run. In the session of its parent, whose own limit ends the whole group; what it
    has begun itself and still runs when it is killed holds nothing up, where its output is a file."""
    try:
        return subprocess.run(command, timeout=limit, stdin=subprocess.DEVNULL, **more)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done within {limit:.0f} s") from None
