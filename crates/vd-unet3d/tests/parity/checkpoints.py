"""Checkpoints as the package's own Trainer saves them, with the package's answers to them."""

import contextlib
import gzip
import io
import json
import pathlib
import tempfile
import warnings

import torch
from PIL import Image
from safetensors.torch import save

import generator
import peer

STEP = 700

# Small enough that each committed file stays below 100 kB.
TINY = {
    "dim": 4,
    "dim_mults": (1, 2),
    "attn_heads": 2,
    "attn_dim_head": 8,
    "init_kernel_size": 3,
    "cond_dim": 5,
}
TINY_SIZE = (2, 3, 8, 12)
TINY_TIMESTEPS = 50
GROUPS = {"resnet_groups": 4}


def _round(network):
    """Rounds every free parameter to eight bits, so that the file compresses."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if not name.endswith(generator.FREQUENCIES):
                tensor.copy_(tensor.to(torch.float8_e4m3fn))


def trainer(module, arguments, timesteps, folder, coarse=False, mixed=False):
    """A real Trainer at step 700 whose model and EMA model hold two different sets of weights.

    ``folder`` receives the one video that the Trainer insists on. ``coarse`` rounds the weights,
    ``mixed`` gives the Trainer the gradient scaler of a run in mixed precision.
    """
    Image.new("RGB", (8, 8)).save(pathlib.Path(folder) / "video.gif")
    network = peer.fill(module.Unet3D(**arguments), "model/")
    diffusion = module.GaussianDiffusion(
        network, image_size=8, num_frames=1, channels=network.channels, timesteps=timesteps
    )
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        made = module.Trainer(
            diffusion, str(folder), train_batch_size=1, results_folder=str(folder)
        )
    peer.fill(made.ema_model.denoise_fn, "ema/")
    made.step = STEP
    if mixed:
        made.scaler = torch.amp.GradScaler("cpu")
    if coarse:
        _round(made.model.denoise_fn)
        _round(made.ema_model.denoise_fn)
    return made


def answers(network, size):
    """Inputs and the output of ``network``.

    The first sample focuses on the present, the last one takes the null embedding.
    """
    b, f, h, w = size
    tensors = {
        "x": torch.from_numpy(generator.unit("input/x", (b, network.channels, f, h, w))),
        "time": torch.tensor(generator.integers("input/time", b, 50)),
        "focus_present_mask": torch.arange(b) == 0,
    }
    forward = {"focus_present_mask": tensors["focus_present_mask"]}
    if network.has_cond:
        width = network.null_cond_emb.shape[1]
        tensors["cond"] = torch.from_numpy(generator.unit("input/cond", (b, width)))
        tensors["null_mask"] = torch.arange(b) == b - 1
        # The last sample is handed the null embedding itself: what its mask would put in place.
        null = tensors["null_mask"][:, None]
        forward["cond"] = torch.where(null, network.null_cond_emb.detach(), tensors["cond"])
    with torch.inference_mode():
        tensors["out"] = network(tensors["x"], tensors["time"], **forward).clone()
    return tensors


def write(
    module, version, out, arguments=None, size=TINY_SIZE, timesteps=TINY_TIMESTEPS, **options
):
    """Writes OUT and beside it what the package answers.

    OUT                        what Trainer.save wrote: {step, model, ema, scaler}
    OUT less .pt, plus
      .ema-io.safetensors      inputs and output of the EMA weights
      .model-io.safetensors    inputs and output of the model weights
      .unet.pt                 bare state dict of the EMA network
      .diffusion.pt            bare state dict of the EMA GaussianDiffusion

    ``options`` go to ``trainer``.
    """
    arguments = dict(TINY if arguments is None else arguments)
    stem = out.with_suffix("")
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(module, arguments, timesteps, folder, **options)
        made.save(1)
        out.write_bytes((pathlib.Path(folder) / "model-1.pt").read_bytes())
    about = {"version": version, "network": arguments, "timesteps": timesteps}
    for kind, diffusion in (("model", made.model), ("ema", made.ema_model)):
        tensors = answers(diffusion.denoise_fn, size)
        # One key alone: several come out in any order.
        data = save(tensors, {"about": json.dumps(about | {"weights": kind})})
        pathlib.Path(f"{stem}.{kind}-io.safetensors").write_bytes(data)
    torch.save(made.ema_model.denoise_fn.state_dict(), f"{stem}.unet.pt")
    torch.save(made.ema_model.state_dict(), f"{stem}.diffusion.pt")


def write_committed(modules, folder):
    """Writes what the tests of the ``vd`` binary read, compressed to stay below 100 kB each."""
    folder.mkdir(parents=True, exist_ok=True)
    for version, module in modules.items():
        latest = version == peer.VERSIONS[0]
        with tempfile.TemporaryDirectory() as scratch:
            out = pathlib.Path(scratch) / f"trainer-{version}.pt"
            write(
                module,
                version,
                out,
                TINY if latest else TINY | GROUPS,
                coarse=True,
                mixed=not latest,
            )
            for path in sorted(pathlib.Path(scratch).iterdir()):
                bare = path.name.endswith((".unet.pt", ".diffusion.pt"))
                if path.suffix != ".pt":
                    (folder / path.name).write_bytes(path.read_bytes())
                elif latest or not bare:
                    # No name and no time in the header: the same bytes from every run.
                    packed = gzip.compress(path.read_bytes(), mtime=0)
                    (folder / f"{path.name}.gz").write_bytes(packed)
