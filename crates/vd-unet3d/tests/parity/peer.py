"""Loads a chosen version of video-diffusion-pytorch and fills its networks from the generator.

The versions share all dependencies, so one environment serves for all of them:

    pip install torch==2.11.0 torchvision==0.26.0 video-diffusion-pytorch==0.7.0 safetensors
    pip install --target DIR6 --no-deps video-diffusion-pytorch==0.6.3
    pip install --target DIR5 --no-deps video-diffusion-pytorch==0.5.3
"""

import contextlib
import importlib
import inspect
import sys
import warnings

import torch

import generator

PACKAGE = "video_diffusion_pytorch"
VERSIONS = ("0.7.0", "0.6.3", "0.5.3")


def _family(module):
    """The minor version that the network's own code shows: "0.7", "0.6" or "0.5"."""
    if hasattr(module, "RMSNorm"):
        return "0.7"
    source = inspect.getsource(module.Unet3D.forward)
    skip_is_late = source.index("self.init_temporal_attn(") < source.index("r = x.clone()")
    return "0.6" if skip_is_late else "0.5"


def load(version, folder=None):
    """Imports ``version`` of the package from ``folder`` or the environment, and checks it."""
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]
    importlib.invalidate_caches()
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(f"{PACKAGE}.{PACKAGE}")
    except ImportError as error:
        raise SystemExit(
            f"video-diffusion-pytorch {version} cannot be imported: {error}\n{__doc__}"
        ) from error
    finally:
        if folder is not None:
            sys.path.remove(str(folder))
    found = _family(module)
    if not version.startswith(found):
        raise SystemExit(
            f"expected video-diffusion-pytorch {version}, "
            f"but {inspect.getfile(module)} has the network of {found}; "
            f"give the folder of the right one as --package {version}=DIR\n{__doc__}"
        )
    return module


def fill(network, prefix=""):
    """Sets every parameter of a ``Unet3D`` from the generator; rotary frequencies stay."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if not name.endswith(generator.FREQUENCIES):
                value = generator.parameter(name, tuple(tensor.shape), prefix)
                tensor.copy_(torch.from_numpy(value))
    return network


def frequencies(network):
    """The rotary frequencies, which all temporal attentions share."""
    return network.init_temporal_attn.fn.fn.fn.rotary_emb.freqs.detach()


@contextlib.contextmanager
def replaced(owner, name, value):
    """Replaces ``owner.name`` inside the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def default_dtype(dtype):
    """Makes ``dtype`` the default of torch inside the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
