"""The compared networks and inputs, and one forward and backward pass of each in the package."""

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import generator
import peer

TIMES = (999, 0, 417, 64)
# What `vd train` with trained.toml has left: the moving average of its weights.
TRAINED = pathlib.Path(__file__).resolve().parent / "trained.safetensors"


@dataclasses.dataclass(frozen=True)
class Case:
    """One network of one version and one input.

    ``null`` and ``focus`` hold one bool per sample: true takes the null embedding, or lets each
    frame attend to itself alone. An absent ``focus`` is all false. ``trained``: the weights of
    TRAINED, and noisy videos such as they have learned from.
    """

    name: str
    version: str
    network: dict[str, Any]
    size: tuple[int, int, int, int]  # b f h w
    null: tuple[bool, ...] | None = None
    focus: tuple[bool, ...] | None = None
    trained: bool = False

    @property
    def channels(self):
        """Channels of the input."""
        return self.network.get("channels", 3)

    @property
    def time(self):
        """The step number of each sample."""
        return TIMES[: self.size[0]]


SMALL = {"dim": 16, "dim_mults": (1, 2, 4), "attn_heads": 4, "attn_dim_head": 16}
TWO_LEVELS = {"dim": 16, "dim_mults": (1, 2), "attn_heads": 4, "attn_dim_head": 16}
TEXT = {"cond_dim": 24}
THREE = (3, 4, 8, 12)
TWO = (2, 4, 8, 12)
NONE, MIXED, ALL = (False,) * 3, (True, False, True), (True,) * 3

CASES = (
    Case("v07-unconditional", "0.7.0", {"dim": 16, "dim_mults": (1, 2, 4)}, (2, 5, 16, 16)),
    Case("v07-cond-null-none", "0.7.0", SMALL | TEXT, THREE, null=NONE),
    Case("v07-cond-null-mixed", "0.7.0", SMALL | TEXT, THREE, null=MIXED),
    Case("v07-cond-null-all", "0.7.0", SMALL | TEXT, THREE, null=ALL),
    Case("v07-focus-none", "0.7.0", SMALL, THREE, focus=NONE),
    Case("v07-focus-mixed", "0.7.0", SMALL, THREE, focus=MIXED),
    Case("v07-focus-all", "0.7.0", SMALL, THREE, focus=ALL),
    Case("v07-kernel-3", "0.7.0", TWO_LEVELS | {"init_kernel_size": 3}, TWO),
    Case("v07-kernel-5", "0.7.0", TWO_LEVELS | {"init_kernel_size": 5}, TWO),
    Case("v07-heads-3-of-20", "0.7.0", TWO_LEVELS | {"attn_heads": 3, "attn_dim_head": 20}, TWO),
    Case("v07-heads-2-of-48", "0.7.0", TWO_LEVELS | {"attn_heads": 2, "attn_dim_head": 48}, TWO),
    Case("v07-no-sparse-attention", "0.7.0", SMALL | {"use_sparse_linear_attn": False}, TWO),
    Case("v07-out-dim-5", "0.7.0", TWO_LEVELS | {"out_dim": 5}, TWO),
    Case("v07-one-channel-40-frames", "0.7.0", TWO_LEVELS | {"channels": 1}, (1, 40, 8, 8)),
    Case("v07-7-frames-of-24x40", "0.7.0", SMALL | {"channels": 2}, (1, 7, 24, 40)),
    Case("v07-one-level-one-frame", "0.7.0", SMALL | {"dim_mults": (1,)}, (2, 1, 5, 7)),
    Case(
        "v07-four-levels", "0.7.0", SMALL | {"dim": 8, "dim_mults": (1, 2, 4, 8)}, (2, 3, 16, 16)
    ),
    Case("v06-unconditional", "0.6.3", SMALL, TWO),
    Case(
        "v06-groups-4-cond-mixed",
        "0.6.3",
        SMALL | TEXT | {"resnet_groups": 4},
        THREE,
        null=MIXED,
        focus=MIXED[::-1],
    ),
    Case("v05-unconditional", "0.5.3", SMALL, TWO),
    Case(
        "v05-cond-mixed",
        "0.5.3",
        SMALL | TEXT,
        THREE,
        null=(False, True, False),
        focus=(True, False, False),
    ),
    Case(
        "v07-trained",
        "0.7.0",
        {
            "dim": 16,
            "dim_mults": (1, 2),
            "init_kernel_size": 3,
            "attn_heads": 2,
            "attn_dim_head": 16,
            "cond_dim": 16,
        },
        (3, 4, 16, 16),
        null=(False, False, True),
        focus=(True, False, False),
        trained=True,
    ),
)


@dataclasses.dataclass
class Result:
    """What one pass gave: network, inputs, output and every gradient, sorted by name."""

    network: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    output: torch.Tensor
    gradients: dict[str, torch.Tensor]


def burst(case):
    """Clips of a coloured disk that grows on black, in [-1, 1]: b c f h w."""
    b, frames, h, w = case.size
    y, x = np.mgrid[:h, :w]
    far = np.hypot(y - 0.4 * h, x - 0.6 * w)
    clips = np.full((b, case.channels, frames, h, w), -1, np.float32)
    for i, f in np.ndindex(b, frames):
        clips[i, i % case.channels, f][far < (f + 1) * w / 10] = 1
    return clips


def noisy(case, clean, noise):
    """The clips at the noise level of their step, as the trained network has seen them."""
    angle = np.pi / 2 * np.array(case.time).reshape(-1, 1, 1, 1, 1) / 1000
    return (np.cos(angle) * clean + np.sin(angle) * noise).astype(np.float32)


def inputs(case):
    """The inputs of ``case``; ``weight`` is the gradient of the loss by the output."""
    b, f, h, w = case.size
    out_channels = case.network.get("out_dim", case.channels)
    x = generator.unit("input/x", (b, case.channels, f, h, w))
    tensors = {
        "x": torch.from_numpy(noisy(case, burst(case), x) if case.trained else x),
        "time": torch.tensor(case.time),
        "focus_present_mask": torch.tensor(case.focus or (False,) * b),
        "weight": torch.from_numpy(generator.unit("loss/weight", (b, out_channels, f, h, w))),
    }
    if "cond_dim" in case.network:
        tensors["cond"] = torch.from_numpy(
            generator.unit("input/cond", (b, case.network["cond_dim"]))
        )
        tensors["null_mask"] = torch.tensor(case.null)
    return tensors


def run(module, case, dtype=torch.float32):
    """One forward and backward pass of ``case`` in ``dtype``; the loss is sum(output * weight)."""
    given = inputs(case)
    with peer.default_dtype(dtype):
        network = module.Unet3D(**case.network)
        if case.trained:
            network.load_state_dict(load_file(TRAINED))
        else:
            peer.fill(network)
        network = network.to(dtype)
        real = {name: t.to(dtype) if t.is_floating_point() else t for name, t in given.items()}

        def null_mask(shape, prob, device):
            """Stands for the random mask of the package."""
            return given["null_mask"].to(device)

        with peer.replaced(module, "prob_mask_like", null_mask):
            output = network(
                real["x"],
                real["time"],
                cond=real.get("cond"),
                focus_present_mask=real["focus_present_mask"],
            )
        output.backward(real["weight"])
    gradients = {
        name: torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        for name, tensor in sorted(network.named_parameters())
        if tensor.requires_grad
    }
    return Result(network, given, output.detach(), gradients)


def relative_l2(got, expected):
    """|got - expected| / |expected|, in float64."""
    difference = got.double() - expected.double()
    return (difference.norm() / expected.double().norm()).item()


def worst_gradient(got, expected):
    """The largest |got - expected| / max(|expected|, 1e-6 |all|) of a parameter, and its name."""
    total = math.sqrt(sum(g.double().square().sum().item() for g in expected.values()))
    errors = {
        name: (got[name].double() - g.double()).norm().item()
        / max(g.double().norm().item(), 1e-6 * total)
        for name, g in expected.items()
    }
    name = max(errors, key=errors.get)
    return errors[name], name
