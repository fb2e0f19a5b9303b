"""Compares the networks of this project with those of the Python package video-diffusion-pytorch.

Needs a Python with torch 2.11.0 and the three versions of the package. They share their
dependencies, so one environment and two folders are enough:

    pip install torch==2.11.0 torchvision==0.26.0 video-diffusion-pytorch==0.7.0 safetensors
    pip install --target DIR6 --no-deps video-diffusion-pytorch==0.6.3
    pip install --target DIR5 --no-deps video-diffusion-pytorch==0.5.3

Then, with PACKAGES = --package 0.6.3=DIR6 --package 0.5.3=DIR5:

    python fixtures.py PACKAGES --compare
        the full comparison, element by element, in one command: runs the package into a temporary
        folder, runs the Rust side on it, and writes TABLE.md
    python fixtures.py PACKAGES --write
        writes the fixtures that `cargo test` reads: this folder's and those of crates/vd-cli
    python fixtures.py PACKAGES --dump DIR
        weights (.pt and .safetensors), inputs, outputs and all gradients of every case
    python fixtures.py PACKAGES --trainer-checkpoint OUT.pt --version 0.6.3 [--network JSON]
        a checkpoint of the package's Trainer, for trying `vd convert`

Weights and inputs come from generator.py, on both sides; nothing depends on a seed of torch. One
case has trained weights, trained.safetensors: what `vd train trained.toml` wrote as
ema.safetensors. Its noisy videos are stored with its outputs.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import save

import cases
import checkpoints
import generator
import peer

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE / "fixtures"
ROOT = HERE.parents[3]
CHECKPOINTS = ROOT / "crates" / "vd-cli" / "tests" / "fixtures"
MAX_BYTES = 100_000


def description(case, result, exact):
    """What the Rust side needs to know of a case, as a dictionary for JSON.

    ``rounding`` is how far the package in float32 is from itself in float64: no other float32
    program can be expected to come closer.
    """
    state = {name: list(tensor.shape) for name, tensor in result.network.state_dict().items()}
    gradient, name = cases.worst_gradient(result.gradients, exact.gradients)
    trained = {"trained": True} if case.trained else {}
    return trained | {
        "version": case.version,
        "network": case.network,
        "size": case.size,
        "time": case.time,
        "null": case.null,
        "focus": case.focus or (False,) * case.size[0],
        "parameters": {name: state[name] for name in result.gradients},
        "frequencies": [name for name in state if name.endswith(generator.FREQUENCIES)],
        "rounding": {
            "output": cases.relative_l2(result.output, exact.output),
            "gradient": gradient,
            "gradient_of": name,
        },
    }


def write_fixture(case, result, exact, folder):
    """Writes the fixture of one case: the output, and norm and signed sums of each gradient."""
    gradients = {name: gradient.numpy() for name, gradient in result.gradients.items()}
    norms = [np.linalg.norm(g.astype(np.float64)) for g in gradients.values()]
    sums = [generator.signed_sums(name, g) for name, g in gradients.items()]
    tensors = {
        "output": result.output,
        "rotary_frequencies": peer.frequencies(result.network),
        "gradient_norms": torch.tensor(norms, dtype=torch.float32),
        "gradient_sums": torch.from_numpy(np.array(sums, dtype=np.float32)),
    }
    if case.trained:
        tensors["x"] = result.inputs["x"]
    data = save(
        tensors, {"case": json.dumps(description(case, result, exact), separators=(",", ":"))}
    )
    if len(data) > MAX_BYTES:
        raise SystemExit(f"{case.name}: {len(data)} bytes, at most {MAX_BYTES} are allowed")
    (folder / f"{case.name}.safetensors").write_bytes(data)


def write_dump(case, result, exact, folder):
    """Writes all that is known of one case to FOLDER/CASE."""
    target = folder / case.name
    target.mkdir(parents=True, exist_ok=True)
    (target / "case.json").write_text(
        json.dumps(description(case, result, exact), indent=1) + "\n"
    )
    state = result.network.state_dict()
    torch.save(state, target / "weights.pt")
    files = {
        # safetensors refuses storage that two names share, as the rotary frequencies are.
        "weights": {name: tensor.clone() for name, tensor in state.items()},
        "io": result.inputs | {"output": result.output},
        "gradients": result.gradients,
        "float64": exact.gradients | {"output": exact.output},
    }
    for name, tensors in files.items():
        (target / f"{name}.safetensors").write_bytes(save(tensors))


def run_cases(modules, chosen, visit):
    """Runs the chosen cases in float32 and float64 and hands each to ``visit``."""
    for case in chosen:
        result = cases.run(modules[case.version], case)
        exact = cases.run(modules[case.version], case, torch.float64)
        visit(case, result, exact)
        print(case.name, file=sys.stderr)


def compare(folder):
    """Runs the Rust side on a dumped folder: it writes TABLE.md, and fails beyond a tolerance."""
    command = ["cargo", "test", "-p", "vd-unet3d", "--test", "parity"]
    command += ["--", "--ignored", "--exact", "full_comparison", "--nocapture"]
    environment = os.environ | {"VD_PARITY_DIR": str(folder.resolve())}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def parse(arguments):
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--package",
        action="append",
        default=[],
        metavar="VERSION=DIR",
        help="folder of a version of the package (without: 0.7.0 from the environment)",
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="write the committed fixtures")
    mode.add_argument(
        "--dump", type=pathlib.Path, metavar="DIR", help="write everything, element by element"
    )
    mode.add_argument(
        "--compare", action="store_true", help="dump, then run the Rust side and write TABLE.md"
    )
    mode.add_argument(
        "--trainer-checkpoint", type=pathlib.Path, metavar="OUT.pt", help="write a Trainer's file"
    )
    mode.add_argument("--self-test", action="store_true", help="check the generator and leave")
    parser.add_argument(
        "--case", action="append", metavar="NAME", help="only this case of --write or --dump"
    )
    parser.add_argument(
        "--version", choices=peer.VERSIONS, default="0.7.0", help="of --trainer-checkpoint"
    )
    parser.add_argument(
        "--network", type=json.loads, metavar="JSON", help="arguments of Unet3D for the checkpoint"
    )
    parser.add_argument(
        "--size", type=int, nargs=4, metavar=("B", "F", "H", "W"), default=checkpoints.TINY_SIZE
    )
    parser.add_argument("--timesteps", type=int, default=checkpoints.TINY_TIMESTEPS)
    options = parser.parse_args(arguments)
    folders = {}
    for item in options.package:
        version, separator, folder = item.partition("=")
        if version not in peer.VERSIONS or not separator:
            parser.error(
                f"--package {item}: expected VERSION=DIR, VERSION of {', '.join(peer.VERSIONS)}"
            )
        folders[version] = pathlib.Path(folder)
    options.package = folders
    if options.compare and options.case:
        parser.error("--compare runs every case, so that TABLE.md is whole")
    known = [case.name for case in cases.CASES]
    for name in options.case or []:
        if name not in known:
            parser.error(f"--case {name}: expected one of {', '.join(known)}")
    return options


def main(arguments=None):
    """Runs one mode; returns the exit status."""
    options = parse(arguments)
    generator.self_test()
    if options.self_test:
        return 0
    # One thread: sums are added in the same order from run to run.
    torch.set_num_threads(1)
    if options.trainer_checkpoint:
        module = peer.load(options.version, options.package.get(options.version))
        out = options.trainer_checkpoint
        checkpoints.write(
            module, options.version, out, options.network, options.size, options.timesteps
        )
        return 0
    chosen = [case for case in cases.CASES if not options.case or case.name in options.case]
    modules = {
        version: peer.load(version, options.package.get(version))
        for version in peer.VERSIONS
        if options.write or any(case.version == version for case in chosen)
    }
    if options.write:
        FIXTURES.mkdir(exist_ok=True)
        run_cases(modules, chosen, lambda *of: write_fixture(*of, FIXTURES))
        checkpoints.write_committed(modules, CHECKPOINTS)
    elif options.dump:
        run_cases(modules, chosen, lambda *of: write_dump(*of, options.dump))
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_cases(modules, chosen, lambda *of: write_dump(*of, pathlib.Path(folder)))
            return compare(pathlib.Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
