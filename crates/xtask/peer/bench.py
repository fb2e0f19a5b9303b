"""The side of video-diffusion-pytorch in ``cargo xtask bench-peer``.

Arguments are ``key=value``. With ``role=draw`` it fills ``folder`` with weights, inputs and the
package's own answer to them, and prints versions and the operations of one forward pass. Otherwise
it does what a line on stdin asks for: ``check`` (relative L2 errors against that answer), ``run``
(milliseconds of one evaluation), ``memory`` (resident KiB after loading, and at most since then).
It ends where stdin does.
"""

import contextlib
import importlib.metadata
import pathlib
import sys
import time
import warnings

import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from video_diffusion_pytorch.video_diffusion_pytorch import Unet3D

SEED = 20
# A gain of exactly 1 would hide one that is applied in the wrong place.
PERTURBATION = 0.1
# Errors of gradients count in parts of this much of all gradients' norm at least: some have a norm
# of rounding errors alone.
FLOOR = 1e-6


class Bench:
    def __init__(self, arguments):
        number = lambda key: int(arguments[key])
        torch.set_num_threads(number("threads"))
        torch.manual_seed(SEED)
        self.folder = pathlib.Path(arguments["folder"])
        self.train = arguments["train"] == "1"
        self.size = [number("batch"), 3, number("frames"), number("side"), number("side")]
        self.network = Unet3D(
            dim=number("dim"),
            dim_mults=tuple(int(mult) for mult in arguments["mults"].split(",")),
            attn_heads=number("heads"),
            attn_dim_head=number("head"),
        )
        # No dropout and no running statistics: the mode changes nothing but what a reader expects.
        self.network.train(self.train)
        self.call = self.network

    def draw(self):
        """New weights and inputs, and the answer to them."""
        with torch.no_grad():
            for name, tensor in self.network.named_parameters():
                if name.endswith(".gamma"):
                    tensor.add_(PERTURBATION * torch.randn_like(tensor))
        inputs = {
            "x": torch.randn(self.size),
            "t": torch.randint(0, 1000, self.size[:1]),
            "target": torch.randn(self.size),
        }
        # Rotary frequencies stand in the state under several names; the format has no sharing.
        weights = {name: t.detach().clone() for name, t in self.network.state_dict().items()}
        save_file(weights, self.folder / "weights.safetensors")
        save_file(inputs, self.folder / "inputs.safetensors")
        self.load()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.network(self.x, self.t)
        _, output = self.run()
        answer = {"output": output.detach().contiguous()}
        if self.train:
            for name, gradient in self.gradients().items():
                answer[f"gradient/{name}"] = gradient.contiguous()
        save_file(answer, self.folder / "answer.safetensors")
        peer = importlib.metadata.version("video-diffusion-pytorch")
        print(torch.__version__, peer, counter.get_total_flops(), flush=True)

    def load(self):
        self.network.load_state_dict(load_file(self.folder / "weights.safetensors"))
        inputs = load_file(self.folder / "inputs.safetensors")
        self.x, self.t, self.target = inputs["x"], inputs["t"], inputs["target"]

    def run(self):
        """One evaluation: its milliseconds, and its output, which is freed after the clock."""
        self.network.zero_grad(set_to_none=True)
        with contextlib.nullcontext() if self.train else torch.no_grad():
            start = time.perf_counter()
            output = self.call(self.x, self.t)
            if self.train:
                torch.nn.functional.mse_loss(output, self.target).backward()
            taken = time.perf_counter() - start
        return 1e3 * taken, output

    def gradients(self):
        trained = (pair for pair in self.network.named_parameters() if pair[1].requires_grad)
        return {name: tensor.grad for name, tensor in trained}

    def check(self):
        """``output ERROR``, and in training ``gradients ERROR worst ERROR NAME``."""
        _, output = self.run()
        answer = load_file(self.folder / "answer.safetensors")
        error, norm = compare(output.detach(), answer["output"])
        line = f"output {error / norm:.3e}"
        if not self.train:
            return line
        rows = {
            name: compare(gradient, answer[f"gradient/{name}"])
            for name, gradient in self.gradients().items()
        }
        error, norm = (sum(row[i] ** 2 for row in rows.values()) ** 0.5 for i in (0, 1))
        relative = {name: e / max(n, FLOOR * norm) for name, (e, n) in rows.items()}
        worst = max(relative, key=relative.get)
        return f"{line} gradients {error / norm:.3e} worst {relative[worst]:.3e} {worst}"


def compare(got, expected):
    """|got - expected| and |expected|, in float64."""
    got, expected = got.double(), expected.double()
    return (got - expected).norm().item(), expected.norm().item()


def status(key):
    """A size in KiB that the kernel tells of this process."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def restart_peak():
    """Makes VmHWM count from here; a kernel that refuses keeps what loading took in it."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def serve(bench, variant):
    bench.load()
    if variant == "compile":
        bench.call = torch.compile(bench.network)
    restart_peak()
    loaded = status("VmRSS")
    print("ready", flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "check":
            print(bench.check(), flush=True)
        elif command == "run":
            print(bench.run()[0], flush=True)
        elif command == "memory":
            print(loaded, status("VmHWM"), flush=True)
        else:
            raise SystemExit(f"there is no command {command!r}")


def main():
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    bench = Bench(arguments)
    if arguments.get("role") == "draw":
        bench.draw()
    else:
        serve(bench, arguments["variant"])


if __name__ == "__main__":
    main()
