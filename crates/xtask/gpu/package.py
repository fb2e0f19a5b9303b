"""The package's side of the comparison: its network with the weights that both sides have, and one step
of work with it. As a program it times one such step, in a process of its own (``child.py``): its
argument is a JSON object, and the result is written to the file that this object names.
"""

import contextlib
import ctypes
import importlib
import importlib.machinery
import json
import pathlib
import statistics
import sys
import time
import traceback
import types
import warnings

import torch

SEED = 20
# A gain of exactly 1 would hide one that is applied in the wrong place.
PERTURBATION = 0.1
# Runs before the first that counts, since the last that compiled anything; timed runs of a side at
# least and at most; and the seconds after which no new one begins.
WARM_UPS, RUNS, SECONDS = 3, (5, 50), 4.0
# On a CPU, where a step in bf16 may take seconds.
WARM_UPS_CPU, RUNS_CPU, SECONDS_CPU = 1, (1, 3), 0.1
STEPS = 1000
RECOMPILE_LIMIT = 256
# A side that still compiles after so many runs is timed all the same, and its row says so.
MOST_WARM_UPS = 12


class Anything:
    """Takes whatever is asked of it, and does nothing."""

    def __getattr__(self, name):
        return lambda *_, **__: None


def stand_in(name, *parts):
    """For a library of pictures that the package imports, where there is none: nothing here reads or
    writes pictures."""
    try:
        importlib.import_module(name)
    except Exception:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for part in parts:
            setattr(module, part, Anything())
        sys.modules[name] = module


def classes():
    stand_in("torchvision", "transforms", "utils")
    stand_in("PIL", "Image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from video_diffusion_pytorch.video_diffusion_pytorch import GaussianDiffusion, Unet3D
    return GaussianDiffusion, Unet3D


def save_file(tensors, path):
    """The format of safetensors, of f32 and int64; a Python with torch need not have its package."""
    names = {torch.float32: "F32", torch.int64: "I64"}
    header, blocks, end = {}, [], 0
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [end, end + size]}
        blocks.append(ctypes.string_at(tensor.data_ptr(), size) if size else b"")
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(blocks)


class Peer:
    """A network of the package with its process, and one step of work with it."""

    def __init__(self, work, shape, dtype, device, weights=None):
        diffusion, unet = classes()
        torch.manual_seed(SEED)
        self.shape, self.work, self.device = shape, work, device
        size = [shape["batch"], 3, shape["frames"], shape["side"], shape["side"]]
        self.net = unet(dim=shape["dim"], dim_mults=tuple(shape["mults"])).to(device)
        if weights is not None:
            self.net.load_state_dict(weights)
        self.diffusion = diffusion(
            self.net, image_size=shape["side"], num_frames=shape["frames"], timesteps=STEPS
        ).to(device)
        self.x = torch.randn(size, device=device)
        self.t = torch.full(size[:1], STEPS // 2, device=device)
        self.dtype = {"bf16": torch.bfloat16, "f32": None}[dtype]
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.0)

    def cast(self):
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=self.dtype)

    def step(self):
        if self.work == "sample":
            with self.cast():
                return self.diffusion.p_sample(self.x, self.t)
        with self.cast():
            loss = self.diffusion(self.x.clamp(0, 1))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def answer(self):
        with torch.no_grad(), self.cast():
            return self.net(self.x, self.t).float()


def wait(device):
    if device != "cpu":
        torch.cuda.synchronize()


def relative(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


def draw(work, shape, device, folder):
    """Weights and an answer in full f32, for both sides: files for ours, and one for the package."""
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    peer = Peer(work, shape, "f32", device)
    with torch.no_grad():
        for name, tensor in peer.net.named_parameters():
            if name.endswith(".gamma"):
                tensor.add_(PERTURBATION * torch.randn_like(tensor))
    # Rotary frequencies stand in the state under several names; the format has no sharing.
    weights = {name: t.detach().clone() for name, t in peer.net.state_dict().items()}
    output = peer.answer()
    torch.backends.cudnn.allow_tf32 = tf32
    name = f"{work}-{shape['batch']}"
    files = {"weights": folder / f"{name}-weights.safetensors",
             "answer": folder / f"{name}-answer.safetensors", "state": folder / f"{name}.pt"}
    save_file(weights, files["weights"])
    save_file({"x": peer.x, "t": peer.t, "output": output.contiguous()}, files["answer"])
    torch.save({"weights": weights, "output": output}, files["state"])
    return {what: str(file) for what, file in files.items()}


def compiled():
    """How many graphs ``torch.compile`` has made so far."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo.counters["stats"]["unique_graphs"] if dynamo else 0


def warm_up(peer, steps):
    graphs, since = compiled(), 0
    for _ in range(MOST_WARM_UPS):
        torch.compiler.cudagraph_mark_step_begin()
        peer.step()
        wait(peer.device)
        since = since + 1 if compiled() == graphs else 0
        graphs = compiled()
        if since == steps:
            return


def clock(peer):
    on_cpu = peer.device == "cpu"
    warm_ups, runs, seconds = (
        (WARM_UPS_CPU, RUNS_CPU, SECONDS_CPU) if on_cpu else (WARM_UPS, RUNS, SECONDS)
    )
    warm_up(peer, warm_ups)
    graphs = compiled()
    if peer.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    times, begun = [], time.monotonic()
    while len(times) < runs[0] or (len(times) < runs[1] and time.monotonic() - begun < seconds):
        torch.compiler.cudagraph_mark_step_begin()
        wait(peer.device)
        start = time.perf_counter()
        peer.step()
        wait(peer.device)
        times.append(1e3 * (time.perf_counter() - start))
    row = {"median_ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times),
           "runs": len(times), "compiled_while_timed": compiled() - graphs}
    if peer.device != "cpu":
        row["peak_allocated"] = torch.cuda.max_memory_allocated()
        row["peak_reserved"] = torch.cuda.max_memory_reserved()
    return row


def measured(side, work, shape, dtype, device, state):
    """The row of one side; `state`: the file that `draw` has written for it."""
    drawn = torch.load(state, map_location=device, weights_only=True)
    peer = Peer(work, shape, dtype, device, drawn["weights"])
    row = {}
    begun = time.monotonic()
    if side != "eager":
        # Its layers share code, which is compiled anew for each width: beyond the limit it would
        # run as it is, and for widths that it takes for variable it may not compile.
        torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
        torch._dynamo.config.accumulated_recompile_limit = 16 * RECOMPILE_LIMIT
        mode = "max-autotune" if side.endswith("max-autotune") else None
        # The method that p_sample calls, too, calls this one.
        peer.net.forward = torch.compile(peer.net.forward, mode=mode, dynamic=False)
    else:
        row["error_of_output"] = relative(peer.answer(), drawn["output"])
    row.update(clock(peer))
    row["seconds"] = time.monotonic() - begun
    return row


def main():
    asked = json.loads(sys.argv[1])
    result = pathlib.Path(asked.pop("result"))
    try:
        row = measured(**asked)
    except Exception as error:
        traceback.print_exc()
        row = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0]}
    result.write_text(json.dumps(row))


if __name__ == "__main__":
    main()
