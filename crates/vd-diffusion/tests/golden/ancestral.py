"""Writes ancestral.safetensors: what GaussianDiffusion of video-diffusion-pytorch 0.7.0 samples.

Needs a Python with torch 2.11.0, the package and safetensors:

    pip install torch==2.11.0 torchvision==0.26.0 video-diffusion-pytorch==0.7.0 safetensors
    python ancestral.py

All 20 steps of the package's own p_sample_loop run, with the weights, the conditioning and the
noise of the counter-based generator of crates/vd-unet3d/tests/parity: call k of ``torch.randn`` or
``torch.randn_like`` inside the loop, counted from 0, gives the stream "noise/k".
"""

import argparse
import itertools
import json
import pathlib
import sys

import torch
from safetensors.torch import save

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "vd-unet3d" / "tests" / "parity"))

import cases  # noqa: E402
import generator  # noqa: E402
import peer  # noqa: E402

NETWORK = {
    "dim": 8,
    "dim_mults": (1, 2),
    "attn_heads": 2,
    "attn_dim_head": 8,
    "init_kernel_size": 3,
    "cond_dim": 6,
}
SIZE = (2, 3, 4, 8, 12)  # b c f h w
TIMESTEPS = 20
THRESHOLDS = ("static", "dynamic")
SCALES = (1.0, 2.0)


class Replay:
    """Stands for torch.randn and torch.randn_like: call k gives the stream "noise/k"."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.calls = 0

    def randn(self, shape, **_):
        """The next stream, of ``shape``."""
        values = generator.unit(f"noise/{self.calls}", tuple(shape))
        self.calls += 1
        return torch.from_numpy(values).to(self.dtype)

    def randn_like(self, tensor, **_):
        """The next stream, of the shape of ``tensor``."""
        return self.randn(tensor.shape)


def sample(module, threshold, scale, dtype=torch.float32):
    """One run over all steps; the result is in [0, 1] as the package returns it."""
    with peer.default_dtype(dtype):
        network = peer.fill(module.Unet3D(**NETWORK))
        diffusion = module.GaussianDiffusion(
            network,
            image_size=SIZE[-1],
            num_frames=SIZE[2],
            timesteps=TIMESTEPS,
            use_dynamic_thres=threshold == "dynamic",
        ).to(dtype)
        cond = torch.from_numpy(generator.unit("input/cond", (SIZE[0], NETWORK["cond_dim"]))).to(
            dtype
        )
        replay = Replay(dtype)
        with (
            peer.replaced(torch, "randn", replay.randn),
            peer.replaced(torch, "randn_like", replay.randn_like),
            peer.replaced(module, "tqdm", lambda steps, **_: steps),
        ):
            video = diffusion.p_sample_loop(SIZE, cond=cond, cond_scale=scale)
    assert replay.calls == TIMESTEPS + 1, replay.calls
    return video.clone()


def main():
    """Writes the fixture beside this script, or where --out says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--package", type=pathlib.Path, metavar="DIR", help="folder of the package, 0.7.0"
    )
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "ancestral.safetensors")
    options = parser.parse_args()
    generator.self_test()
    torch.set_num_threads(1)
    module = peer.load("0.7.0", options.package)
    tensors, rounding = {}, {}
    for threshold, scale in itertools.product(THRESHOLDS, SCALES):
        name = f"{threshold}-{scale:g}"
        tensors[name] = sample(module, threshold, scale)
        exact = sample(module, threshold, scale, torch.float64)
        rounding[name] = cases.relative_l2(tensors[name], exact)
        print(
            f"{name}: std {tensors[name].std():.3f}, float32 is {rounding[name]:.1e} from float64"
        )
    tensors["rotary_frequencies"] = peer.frequencies(module.Unet3D(**NETWORK)).clone()
    about = {"network": NETWORK, "size": SIZE, "timesteps": TIMESTEPS, "rounding": rounding}
    options.out.write_bytes(save(tensors, {"golden": json.dumps(about)}))


if __name__ == "__main__":
    main()
