"""The comparison with video-diffusion-pytorch on a device: a step of sampling and one of training,
each side with the same weights, one after the other, and the medians of single runs.

Each is a program of its own, with a limit of its own (``child.py``). Ours (bench_steps) reads the
weights that are drawn here and compares its answer with that of the package in f32. Sides of the
package (``package.py``): as it is, and under torch.compile.
The package's step of training is loss, gradients and Adam; ours has the moving average in it too.

What the device does at most is measured here; how much a step asks of it is counted by bench_steps,
which makes floors of both.
"""

import gc
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
import zipfile

import torch

from child import Out, limit_of, run_within
from package import SECONDS, SECONDS_CPU, draw, wait

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
    ([SEARCH], ["bf16"]),
    (["compile"], ["bf16"]),
    (["compile"], ["f32"]),
    (["compile, max-autotune"], ["bf16"]),
]
# Seconds that a side may take, with all that comes before its first run: compiling, searching.
CAPS = {"ours": 150, SEARCH: 90, "eager": 60, "compile": 110, "compile, max-autotune": 170}
# In f32 the package keeps 77 GB for the way back of its Trainer's 32 clips.
CLIPS_IN_F32 = 16


def unpack(root):
    """The package's wheels, which hold nothing but Python."""
    for wheel in sorted((root / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(root / "site")


def of_package(side, work, shape, dtype, device, drawn, end, root, log):
    """The row of one side of the package."""
    limit = limit_of(CAPS[side], end)
    result = root / "comparison" / "row.json"
    result.unlink(missing_ok=True)
    asked = {"side": side, "work": work, "shape": shape, "dtype": dtype, "device": device,
             "state": drawn["state"], "result": str(result)}
    folders = os.pathsep.join([str(root / "gpu"), str(root / "site")])
    command = [sys.executable, str(root / "gpu" / "package.py"), json.dumps(asked)]
    print(f"{work} {dtype} {side}, at most {limit:.0f} s", file=log, flush=True)
    environment = {**os.environ, "PYTHONPATH": folders}
    done = run_within(limit, command, env=environment, stdout=log, stderr=log)
    row = json.loads(result.read_text()) if result.exists() else {}
    if "median_ms" not in row:
        raise RuntimeError(row.get("error", f"exit code {done.returncode}, and no result"))
    return row


def of_ours(side, work, shape, dtype, device, drawn, end, root, log, rates):
    """Rows for our step with noise of a seed and with that of libtorch's generator."""
    values = {
        **shape, "mults": ",".join(map(str, shape["mults"])), "device": device, "what": work,
        "autocast": {"bf16": "bf16", "f32": "off"}[dtype],
        "seconds": SECONDS_CPU if device == "cpu" else SECONDS,
        "weights": drawn["weights"], "answer": drawn["answer"], **rates,
        "cudnn": "search" if side == SEARCH else "expect",
    }
    command = [root / "bin" / "bench_steps", *(f"{key}={value}" for key, value in values.items())]
    done = run_within(limit_of(CAPS[side], end), command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                      text=True, errors="replace")
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


def give_back(device):
    """What this process holds of the device would be missing to those whose memory is measured."""
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()


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
                    is_ours = side.startswith("ours")
                    name = side if is_ours else f"peer, {side}"
                    cases.begin(case, name)
                    try:
                        if key not in drawn:
                            drawn[key] = draw(work, shape, device, folder)
                        give_back(device)
                        where = work, shape, dtype, device, drawn[key], end, root, log
                        if is_ours:
                            rates = cases.rates(dtype)
                            rows = cases.ours(case, side, of_ours(side, *where, rates))
                        else:
                            rows = [{"side": name, **of_package(side, *where)}]
                    except Out:
                        rows = [{"side": name, "error": "no time left"}]
                    except Exception as error:
                        log.write(traceback.format_exc())
                        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
                        rows = [{"side": name, "error": said}]
                    cases.end(case, rows)
                    log.flush()
