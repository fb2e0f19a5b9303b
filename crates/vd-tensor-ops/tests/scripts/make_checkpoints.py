"""Writes the fixtures of tests/pt*.rs and tests/weights*.rs, with PyTorch's own view of their content.

Run from anywhere, with torch 2.11, numpy and safetensors 0.8: python make_checkpoints.py
Each NAME.pt has a NAME.json beside it: for every tensor of its state dicts the dtype, the shape and
the values as texts, by a path such as `model/0.weight`.
"""

import argparse
import collections
import json
import pathlib
import random
import zipfile

import numpy
import torch
from safetensors.torch import save_file

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
PT = FIXTURES / "pt"
WEIGHTS = FIXTURES / "weights"


def texts(tensor):
    """Python's shortest text of each value, which every correct parser turns into the same f64."""
    return [repr(v) for v in tensor.detach().double().reshape(-1).tolist()]


def describe(tensors):
    return {
        name: {"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "values": texts(t)}
        for name, t in tensors.items()
    }


def tensors_of(value, path=""):
    if isinstance(value, torch.Tensor):
        return {path: value}
    if isinstance(value, dict):
        found = {}
        for key, part in value.items():
            found |= tensors_of(part, f"{path}/{key}" if path else str(key))
        return found
    return {}


def save(name, value, **options):
    torch.save(value, PT / f"{name}.pt", **options)
    (PT / f"{name}.json").write_text(json.dumps(describe(tensors_of(value))) + "\n")


def network():
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.Linear(6, 2))


def trainer():
    """What a trainer saves: step, model, ema, scaler, and an optimiser with state."""
    model = network()
    model.register_buffer("betas", torch.linspace(1e-4, 0.02, 5, dtype=torch.float64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(3, 4)).square().sum().backward()
    optimizer.step()
    ema = collections.OrderedDict((k, v * 0.5) for k, v in model.state_dict().items())
    scaler = torch.amp.GradScaler("cpu", enabled=True).state_dict()
    value = {"step": 12345, "model": model.state_dict(), "ema": ema, "scaler": scaler}
    save("trainer", value)
    save("optimizer", {"opt": optimizer.state_dict(), "milestones": collections.Counter([3, 5, 5])})
    torch.serialization.set_crc32_options(False)
    save("no_checksums", {"step": 3, "model": network().state_dict()})
    torch.serialization.set_crc32_options(True)
    torch.save(value, PT / "legacy.pt", _use_new_zipfile_serialization=False)


def views():
    base = torch.randn(6, 4)
    linear = torch.nn.Linear(3, 3)
    return collections.OrderedDict(
        whole=base,
        same=base,
        part=base[2:5],
        transposed=base.t(),
        strided=base[1::2, ::3],
        flipped_axes=torch.randn(2, 3, 4).permute(2, 0, 1),
        expanded=torch.tensor([1.5, -2.5]).reshape(2, 1).expand(2, 3),
        windows=torch.arange(7.0).unfold(0, 3, 1),
        channels_last=torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        weight=linear.weight,
        tied=linear.weight,
        frozen=torch.nn.Parameter(torch.randn(2), requires_grad=False),
        scalar=torch.tensor(3.25),
        empty=torch.empty(0),
        no_rows=torch.empty(0, 5),
        no_columns=torch.randn(4, 4)[:, 2:2],
    )


def dtypes():
    values = torch.tensor([0.0, -1.0, 2.5, 100.0])
    names = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "int16"]
    tensors = {name: values.to(getattr(torch, name)) for name in names + ["int8", "bool"]}
    tensors["uint8"] = torch.tensor([0, 1, 127, 255], dtype=torch.uint8)
    tensors["int64"] = torch.tensor([-(2**62), 2**52 + 1, -1], dtype=torch.int64)
    tensors["special"] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    return tensors


def plain():
    """Values that are no tensors."""
    ordered = collections.OrderedDict(z=1, a=2)
    shared = [1, 2]
    return {
        "none": None, "flags": [True, False], "zero": 0, "byte": 255, "short": 65535, "int": -(2**31),
        "long": 2**40, "longest": -(2**63), "huge": 2**63, "minus_huge": -(2**100), "float": 0.1,
        "text": "x_t \N{GREEK SMALL LETTER EPSILON}", "long_text": "a" * 300, "bytes": b"\x00\xff",
        "no_bytes": b"", "long_bytes": bytes(300), "bytearray": bytearray(b"ab"), "list": [1, [2, [3]]],
        "tuple": (1, (2,), (), (1, 2, 3), (1, 2, 3, 4)), "dict": {1: "one", (2, 3): "pair"},
        "ordered": ordered, "default": collections.defaultdict(list, k=[1]), "set": {7},
        "frozen": frozenset([8]), "shared": [shared, shared], "size": torch.Size([2, 3]),
        "device": torch.device("cpu"), "dtype": torch.bfloat16, "args": argparse.Namespace(lr=1e-3, name="run"),
        "numpy": numpy.int64(3), "complex": 1 + 2j, "random": random.Random(0).getstate()[1][:4],
        "class": collections.deque, "deque": collections.deque([1, 2]), "path": pathlib.PurePosixPath("a/b"),
        "many": list(range(1100)),
    }


def odd():
    """Tensors that are there, and of which each is an error of its own."""
    return {
        "uint16": torch.tensor([0, 1, 65535]).to(torch.uint16),
        "sparse": torch.eye(2).to_sparse(),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "meta": torch.empty(2, device="meta"),
        "module": torch.nn.Linear(1, 1),
        "good": torch.ones(2),
    }


def compressed():
    source = zipfile.ZipFile(PT / "views.pt")
    with zipfile.ZipFile(PT / "compressed.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), source.read(name), zipfile.ZIP_DEFLATED)


def weights():
    tensors = {name: t for name, t in dtypes().items() if "float8" not in name}
    tensors |= {"scalar": torch.tensor(3.25), "no_rows": torch.empty(0, 5), "matrix": torch.randn(3, 4)}
    save_file(tensors, WEIGHTS / "python.safetensors", metadata={"format": "pt"})
    (WEIGHTS / "python.json").write_text(json.dumps(describe(tensors)) + "\n")
    save_file({"f8": torch.ones(4).to(torch.float8_e4m3fn)}, WEIGHTS / "float8.safetensors")


def main():
    torch.manual_seed(0)
    PT.mkdir(parents=True, exist_ok=True)
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    trainer()
    save("views", views())
    save("dtypes", dtypes())
    for protocol in (2, 3, 4, 5):
        save(f"plain_protocol{protocol}", {"plain": plain(), "model": network().state_dict()}, pickle_protocol=protocol)
    torch.save(odd(), PT / "odd.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), PT / "script.pt")
    compressed()
    weights()


if __name__ == "__main__":
    main()
