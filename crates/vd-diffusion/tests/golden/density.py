"""What the scripts that write fixtures of samplers share: a density, a start, the kept steps."""

import torch

SHAPE = (4, 5)
STEPS = (5, 20, 50)
PARTS = ((0.3, -1.0, 0.4), (0.7, 0.8, 0.5))  # weight, mean, standard deviation


def denoise(x, alpha, sigma):
    """The mean of the clean numbers that these noisy ones may have come from."""
    shares, means = 0.0, 0.0
    for weight, mean, std in PARTS:
        variance = (alpha * std) ** 2 + sigma**2
        off = x - alpha * mean
        share = weight * variance**-0.5 * torch.exp(-0.5 * off * off / variance)
        shares = shares + share
        means = means + share * (mean + alpha * std * std / variance * off)
    return means / shares


def kept(steps):
    """The steps whose states are written: all of few; the first, the middle, the last of many."""
    if steps < 10:
        return list(range(1, steps + 1))
    return [1, 2, 3, 4, steps // 2, steps - 3, steps - 2, steps - 1, steps]
