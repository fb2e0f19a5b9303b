"""The comparison with video-diffusion-pytorch on a device: a step of sampling and one of training,
each side with the same weights, one after the other, and the medians of single runs.

Ours is a program of its own (bench_steps), which reads the weights that are drawn here and compares
its answer with that of the package in f32. Sides of the package: as it is, and under torch.compile.
The package's step of training is loss, gradients and Adam; ours has the moving average in it too.

What the device does at most is measured here; how much a step asks of it is counted by bench_steps,
which makes floors of both.
"""

import contextlib
import ctypes
import gc
import importlib
import importlib.machinery
import importlib.metadata
import json
import statistics
import subprocess
import sys
import time
import traceback
import types
import warnings
import zipfile

import torch

SEED = 20
# A gain of exactly 1 would hide one that is applied in the wrong place.
PERTURBATION = 0.1
# Runs before the first that counts; timed runs of a side at least and at most; and the seconds
# after which no new one begins.
WARM_UPS, RUNS, SECONDS = 3, (5, 50), 4.0
# On a CPU, where a step in bf16 may take seconds.
WARM_UPS_CPU, RUNS_CPU, SECONDS_CPU = 1, (1, 3), 0.1
STEPS = 1000
RECOMPILE_LIMIT = 256

# What fills a large device: the defaults of the package's Trainer, and a larger network to sample.
CUDA = {
    "sample": {"dim": 128, "mults": [1, 2, 4, 8], "batch": 4, "frames": 16, "side": 64},
    "train": {"dim": 64, "mults": [1, 2, 4, 8], "batch": 32, "frames": 10, "side": 64},
}
# What shows within seconds on a CPU that everything runs.
CPU = {
    "sample": {"dim": 8, "mults": [1, 2], "batch": 1, "frames": 2, "side": 8},
    "train": {"dim": 8, "mults": [1, 2], "batch": 1, "frames": 2, "side": 8},
}
# Ours, where cuDNN tries all of its ways to convolve.
SEARCH = "ours, cuDNN searches"
# In the order in which they are measured: what matters most comes first, in case time runs out.
ROUNDS = [
    (["ours", "eager"], ["bf16", "f32"]),
    (["compile"], ["bf16"]),
    ([SEARCH], ["bf16"]),
    (["compile"], ["f32"]),
    (["compile, max-autotune"], ["bf16"]),
]
# In f32 the package keeps 77 GB for the way back of its Trainer's 32 clips.
CLIPS_IN_F32 = 16


class Out(Exception):
    """There is no time left."""


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


def package():
    stand_in("torchvision", "transforms", "utils")
    stand_in("PIL", "Image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from video_diffusion_pytorch.video_diffusion_pytorch import GaussianDiffusion, Unet3D
    return GaussianDiffusion, Unet3D


def unpack(root):
    """The package's wheels, which hold nothing but Python."""
    for wheel in sorted((root / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(root / "site")


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
        diffusion, unet = package()
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
    """Weights and an answer in full f32, for both sides."""
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
    files = folder / f"{name}-weights.safetensors", folder / f"{name}-answer.safetensors"
    save_file(weights, files[0])
    save_file({"x": peer.x, "t": peer.t, "output": output.contiguous()}, files[1])
    return weights, output, files


def clock(peer, end):
    on_cpu = peer.device == "cpu"
    warm_ups, runs, seconds = (
        (WARM_UPS_CPU, RUNS_CPU, SECONDS_CPU) if on_cpu else (WARM_UPS, RUNS, SECONDS)
    )
    for _ in range(warm_ups):
        torch.compiler.cudagraph_mark_step_begin()
        peer.step()
        wait(peer.device)
        if time.monotonic() > end:
            raise Out
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
           "runs": len(times)}
    if peer.device != "cpu":
        row["peak_allocated"] = torch.cuda.max_memory_allocated()
        row["peak_reserved"] = torch.cuda.max_memory_reserved()
    return row


def of_package(side, work, shape, dtype, device, drawn, end):
    weights, expected, _ = drawn
    peer = Peer(work, shape, dtype, device, weights)
    row = {}
    begun = time.monotonic()
    if side != "eager":
        torch._dynamo.reset()
        # Its layers share code, which is compiled anew for each width: beyond the limit it would
        # run as it is, and for widths that it takes for variable it may not compile.
        torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
        torch._dynamo.config.accumulated_recompile_limit = 16 * RECOMPILE_LIMIT
        mode = "max-autotune" if side.endswith("max-autotune") else None
        # The method that p_sample calls, too, calls this one.
        peer.net.forward = torch.compile(peer.net.forward, mode=mode, dynamic=False)
    else:
        row["error_of_output"] = relative(peer.answer(), expected)
    row.update(clock(peer, end))
    row["seconds"] = time.monotonic() - begun
    return row


def of_ours(side, work, shape, dtype, device, drawn, end, root, log, rates):
    """Rows for our step with noise of a seed and with that of libtorch's generator."""
    weights, answer = drawn[2]
    values = {
        **shape, "mults": ",".join(map(str, shape["mults"])), "device": device, "what": work,
        "autocast": {"bf16": "bf16", "f32": "off"}[dtype],
        "seconds": SECONDS_CPU if device == "cpu" else SECONDS,
        "weights": weights, "answer": answer, **rates,
        "cudnn": "search" if side == SEARCH else "expect",
    }
    command = [root / "bin" / "bench_steps", *(f"{key}={value}" for key, value in values.items())]
    left = end - time.monotonic()
    if left < 5:
        raise Out
    try:
        done = subprocess.run(command, timeout=left, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, errors="replace")
    except subprocess.TimeoutExpired:
        raise Out from None
    log.write(f"{work} {dtype} {side}: exit code {done.returncode}\n{done.stderr}\n{done.stdout}\n")
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def ceilings(device):
    """What the device does at most in a second, measured: bytes copied, read and written together,
    and operations of products."""
    count, side = (1 << 22, 256) if device == "cpu" else (1 << 29, 8192)
    big = torch.randn(count, device=device)
    other = torch.empty_like(big)
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)

    def best(run):
        times = []
        for _ in range(12):
            wait(device)
            start = time.perf_counter()
            run()
            wait(device)
            times.append(time.perf_counter() - start)
        return statistics.median(times[2:])

    copied = 2 * big.numel() * big.element_size() / best(lambda: other.copy_(big))
    found = {"copy_bytes_per_s": copied, "bf16_flops_per_s": 2 * side**3 / best(lambda: a @ a)}
    a = a.float()
    found["f32_flops_per_s"] = 2 * side**3 / best(lambda: a @ a)
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    found["tf32_flops_per_s"] = 2 * side**3 / best(lambda: a @ a)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return found


def about(device):
    found = {"torch": torch.__version__, "python": sys.version.split()[0], "device": device,
             "peer": importlib.metadata.version("video-diffusion-pytorch")}
    if device != "cpu":
        properties = torch.cuda.get_device_properties(0)
        found["name"] = properties.name
        found["memory"] = properties.total_memory
        found["tf32"] = {"products": torch.backends.cuda.matmul.allow_tf32,
                         "convolutions": torch.backends.cudnn.allow_tf32}
    return found


class Cases:
    """One for each work and dtype, written after every side."""

    def __init__(self, report, write):
        self.report, self.write, self.rows = report, write, {}

    def case(self, work, dtype, shape):
        key = work, dtype
        if key not in self.rows:
            self.rows[key] = {"work": work, "dtype": dtype, "shape": shape, "sides": []}
            self.report["cases"].append(self.rows[key])
        return self.rows[key]

    def begin(self, case, side):
        """What is told of a side in whose midst all is ended."""
        case["sides"].append({"side": side, "error": "ended before it was done"})
        self.write(self.report)

    def end(self, case, rows):
        case["sides"][-1:] = rows
        self.write(self.report)

    def rates(self, dtype):
        """What floors are made of. In f32 cuDNN may take TF32, so that this is no lower."""
        product = {"bf16": "bf16_flops_per_s", "f32": "tf32_flops_per_s"}[dtype]
        measured = self.report["ceilings"]
        return {"bytes_per_s": measured["copy_bytes_per_s"], "flops_per_s": measured[product]}

    def ours(self, case, side, found):
        """Rows: the step as it is comes first; what its noise costs is told by the other."""
        for key in ("flops", "bytes", "floors_ms"):
            case[key] = found[key]
        case.setdefault("ours_ms", found["noise"]["seed"]["median_ms"])
        about = {key: found[key] for key in ("graphs", "graphs_of_steps")}
        about["error_of_output"] = found["error"]
        return [{"side": f"{side}, noise of {noise}", **row, **about}
                for noise, row in found["noise"].items()]


def run(end, log, root, device, write):
    unpack(root)
    folder = root / "comparison"
    folder.mkdir(exist_ok=True)
    report = {"about": about(device), "ceilings": ceilings(device), "cases": []}
    write(report)
    works, drawn, cases = CPU if device == "cpu" else CUDA, {}, Cases(report, write)
    for sides, dtypes in ROUNDS:
        for dtype in dtypes:
            for work, shape in works.items():
                if dtype == "f32":
                    shape = {**shape, "batch": min(shape["batch"], CLIPS_IN_F32)}
                key = work, shape["batch"]
                case = cases.case(work, dtype, shape)
                for side in sides:
                    gc.collect()
                    if device != "cpu":
                        torch.cuda.empty_cache()
                    cases.begin(case, side)
                    try:
                        if key not in drawn:
                            drawn[key] = draw(work, shape, device, folder)
                        if time.monotonic() > end:
                            raise Out
                        if side.startswith("ours"):
                            rates = cases.rates(dtype)
                            rows = cases.ours(case, side, of_ours(
                                side, work, shape, dtype, device, drawn[key], end, root, log, rates))
                        else:
                            row = of_package(side, work, shape, dtype, device, drawn[key], end)
                            rows = [{"side": f"peer, {side}", **row}]
                    except Out:
                        rows = [{"side": side, "error": "no time left"}]
                    except Exception as error:
                        log.write(traceback.format_exc())
                        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
                        rows = [{"side": side, "error": said}]
                    cases.end(case, rows)
                    log.flush()
