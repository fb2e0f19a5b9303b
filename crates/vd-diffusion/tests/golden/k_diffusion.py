"""Writes k_diffusion/*.safetensors: the samplers of k-diffusion 0.1.1.post1 on a known density.

Needs a Python with torch 2.11.0 and torchvision, and:

    pip install safetensors scipy torchsde torchdiffeq pillow tqdm
    pip install --no-deps k-diffusion==0.1.1.post1
    python k_diffusion.py

They have no f32 of their own: all runs in f64. Density, start, noise and the form of the files are
those of diffusers.py; levels are sigmas with alpha = 1, and the network says x0-hat itself. Sigmas
run from 50 to 0.02, so that churn stays below the 80 at which the schedule of EDM ends.
"""

import argparse
import importlib
import json
import pathlib
import sys
import types

import numpy as np
import torch
from density import SHAPE, STEPS, denoise, kept
from safetensors.numpy import save

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != HERE]
sys.path.append(str(HERE.parents[2] / "vd-unet3d" / "tests" / "parity"))

import generator  # noqa: E402

SIGMAS = (0.02, 50.0)
CHURN = {"s_churn": 10.0, "s_noise": 1.003}
# File: sampler, options.
CASES = {
    "euler": ("sample_euler", {}),
    "euler-ancestral": ("sample_euler_ancestral", {"eta": 0.6}),
    "heun": ("sample_heun", {}),
    "heun-churn": ("sample_heun", CHURN),
    "dpm2": ("sample_dpm_2", {}),
    "lms": ("sample_lms", {}),
    "dpmpp-2s-0": ("sample_dpmpp_2s_ancestral", {"eta": 0.0}),
    "dpmpp-2s-1": ("sample_dpmpp_2s_ancestral", {"eta": 1.0}),
    "dpmpp-2m": ("sample_dpmpp_2m", {}),
    "dpmpp-2m-sde-midpoint": ("sample_dpmpp_2m_sde", {"eta": 0.6}),
    "dpmpp-2m-sde-heun": ("sample_dpmpp_2m_sde", {"eta": 1.0, "solver_type": "heun"}),
    "dpmpp-3m-sde-0": ("sample_dpmpp_3m_sde", {"eta": 0.0}),
    "dpmpp-3m-sde-1": ("sample_dpmpp_3m_sde", {"eta": 1.0}),
}


def samplers():
    """The package's module of samplers, without the rest, which needs more."""
    found = importlib.util.find_spec("k_diffusion")
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["k_diffusion"] = package
    return importlib.import_module("k_diffusion.sampling")


def run(module, name, options, sigmas):
    """The states after every step, the first before any."""
    calls, states = 0, []

    def replay(*_, **__):
        nonlocal calls
        noise = torch.from_numpy(generator.unit(f"noise/{calls}", SHAPE)).double()
        calls += 1
        return noise

    module.torch.randn_like, randn_like = replay, module.torch.randn_like
    try:
        x = torch.from_numpy(generator.unit("start", SHAPE)).double() * (1 + sigmas[0] ** 2) ** 0.5
        noisy = "sde" in name or "ancestral" in name
        last = getattr(module, name)(
            lambda x, sigma: denoise(x, 1.0, sigma[:, None]),
            x,
            sigmas,
            disable=True,
            # Without churn Heun's states are those before its steps.
            callback=lambda at: states.append(at["x"].clone()),
            **options,
            **({"noise_sampler": replay} if noisy else {}),
        )
    finally:
        module.torch.randn_like = randn_like
    return torch.stack([*states, last]).numpy()


def main():
    """Writes the fixtures beside this script, or where --out says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "k_diffusion")
    out = parser.parse_args().out
    generator.self_test()
    torch.set_num_threads(1)
    out.mkdir(exist_ok=True)
    module = samplers()
    for name, (sampler, options) in CASES.items():
        tensors, runs = {}, []
        for spacing in ("karras", "exponential"):
            for steps in STEPS:
                # f32 as the files keep them.
                sigmas = getattr(module, f"get_sigmas_{spacing}")(steps, *SIGMAS).float()
                key = f"edm/{spacing}/{steps}"
                keep = [steps] if "s_churn" in options else kept(steps)
                states = run(module, sampler, options, sigmas.double())[keep]
                assert np.isfinite(states).all()
                tensors[f"{key}/levels"] = sigmas.numpy()
                tensors[f"{key}/times"] = sigmas[:-1].numpy()
                tensors[f"{key}/states"] = states[None].astype(np.float32)
                runs.append(
                    {"table": "edm", "spacing": spacing, "steps": steps, "kept": keep, "rounding": 0.0}
                )
        about = {
            "scheduler": sampler,
            "options": options,
            "kind": "edm",
            "predictions": ["x0"],
            "runs": runs,
        }
        data = save(tensors, {"golden": json.dumps(about)})
        (out / f"{name}.safetensors").write_bytes(data)
        print(f"{name:22} {len(data)} bytes")


if __name__ == "__main__":
    main()
