"""Writes diffusers/*.safetensors: the trajectories of diffusers 0.42.0 on a known density.

Needs a Python with torch 2.11.0, the package, scipy, torchsde and safetensors:

    pip install torch==2.11.0 diffusers==0.42.0 scipy torchsde safetensors
    python diffusers.py

No network runs. Every number is drawn from the mixture of two normal densities of
../known/mod.rs, whose x0-hat has a closed form at every level; what the network would have said
(eps, v, a velocity) follows from it. The level is the one that the scheduler itself believes the
state to be at, so that its rounding of time steps for the network does not matter.

Start and noise are the counter-based generator of crates/vd-unet3d/tests/parity: the start is the
stream "start" times the spread of the first level, and call k of ``randn_tensor``, counted from 0,
gives the stream "noise/k".

One file per scheduler and its options, of these tensors for each RUN = TABLE/SPACING/STEPS:

    RUN/levels   f32, S + 1 (or S + 1, 2): the levels visited, as the scheduler keeps them; KINDS
                 says how to read one
    RUN/times    f32, S: the time steps that it hands to the network
    RUN/states   f32, p k 4 5: the states after the steps that the metadata lists, one row per
                 prediction type; states are alpha x0 + sigma eps also where the scheduler keeps
                 them divided by alpha. Missing where the scheduler does not visit its own levels.

    RUN/exact    f32, p k 4 5: the same in f64, where f32 alone moves them further than a test
                 should let pass

The metadata also says for each run how far the package is, by f32 alone, from itself in f64: it
runs a second time from the same levels with every mention of float32 in its module read as
float64.
"""

import argparse
import contextlib
import importlib
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save

from density import SHAPE, STEPS, denoise, kept

HERE = pathlib.Path(__file__).resolve().parent
# This script is called like the package.
sys.path[:] = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != HERE]
sys.path.append(str(HERE.parents[2] / "vd-unet3d" / "tests" / "parity"))

import diffusers  # noqa: E402
import generator  # noqa: E402

TABLES = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "scaled-linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}
SPACINGS = {
    "leading": {"timestep_spacing": "leading"},
    "trailing": {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}
# How a number that stands for a level is read: as (alpha, sigma).
KINDS = {
    "ratio": lambda s: (1 / (1 + s * s) ** 0.5, s / (1 + s * s) ** 0.5),
    "alpha-bar": lambda a: (a**0.5, (1 - a) ** 0.5),
    "pair": tuple,
    "flow": lambda s: (1 - s, s),
    "edm": lambda s: (1.0, s),
}


def predict(kind, x, alpha, sigma, data):
    """What a network of this prediction type says; ``data`` is the spread that EDM's are made for."""
    x0 = denoise(x, alpha, sigma)
    if kind == "x0":
        return x0
    if kind.startswith("edm"):
        total = sigma**2 + data**2
        out = (x0 - data**2 / total * x) * total**0.5 / (sigma * data)
        return -out if kind == "edm-v" else out
    eps = (x - alpha * x0) / sigma
    return {"eps": eps, "v": alpha * eps - sigma * x0, "flow": eps - x0}[kind]


class Lifted:
    """A module in which float32 is float64."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, "float64" if name == "float32" else name)


@contextlib.contextmanager
def module_of(scheduler, lift):
    """The module of a scheduler class with recorded noise, in f64 where ``lift``."""
    module = importlib.import_module(scheduler.__module__)
    calls = 0

    def replay(shape, dtype=None, **_):
        nonlocal calls
        noise = torch.from_numpy(generator.unit(f"noise/{calls}", tuple(shape)))
        calls += 1
        return noise.to(torch.float64 if lift else dtype)

    def brownian(like, **_):
        return lambda *_: replay(like.shape, like.dtype)

    new = {"randn_tensor": replay, "BrownianTreeNoiseSampler": brownian}
    if lift:
        new |= {name: Lifted(getattr(module, name)) for name in ("torch", "np") if name in vars(module)}
    old = {name: getattr(module, name) for name in new if hasattr(module, name)}
    for name in old:
        setattr(module, name, new[name])
    torch.set_default_dtype(torch.float64 if lift else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        for name, value in old.items():
            setattr(module, name, value)


def lift_levels(scheduler):
    """Widens the levels that a scheduler has in f32."""
    for name, value in vars(scheduler).items():
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
            setattr(scheduler, name, value.double())


class Case:
    """A scheduler under options, and how to drive it."""

    def __init__(self, name, scheduler, kind, options=None, **how):
        self.name, self.kind, self.options = name, kind, options or {}
        self.scheduler = getattr(diffusers, scheduler)
        self.predictions = how.pop("predictions", {"eps": "epsilon", "v": "v_prediction"})
        # (table, spacing) -> options; what takes no table gives its own.
        self.runs = how.pop("runs")
        self.divided = how.pop("divided", kind in ("ratio", "edm"))  # states are x / alpha
        self.step_options = how.pop("step_options", {})
        self.steps = how.pop("steps", STEPS)
        self.calls = how.pop("calls", 1)  # of the network per step; the last step has one
        self.levels_only = how.pop("levels_only", ())  # spacings whose levels it does not visit
        assert not how, how

    def build(self, options, prediction, steps):
        """The scheduler, ready to step."""
        options = self.options | options(steps) if callable(options) else self.options | options
        if prediction:
            options = options | {"prediction_type": prediction}
        scheduler = self.scheduler(**options)
        scheduler.set_timesteps(steps)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        return scheduler

    def visited(self, scheduler):
        """Levels of the states, S + 1, and times of the network, one per evaluation."""
        times = scheduler.timesteps
        if self.kind == "pair":
            return torch.stack([scheduler.alphas, scheduler.betas], dim=-1).double(), times
        if self.kind != "alpha-bar":
            levels = scheduler.sigmas.double()
            if self.name == "dpm2":
                levels = levels[:-2]  # it writes its last one three times
            return levels[[0, *range(1, len(levels) - 1, self.calls), len(levels) - 1]], times
        table, one = scheduler.alphas_cumprod.double(), torch.ones(1, dtype=torch.float64)
        if self.name == "ddim-inverse":
            back = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
            return torch.cat([table[(times[:1] - back).clamp(min=0)], table[times]]), times
        if self.name == "pndm":  # it visits the second one twice
            return torch.cat([table[scheduler._timesteps[::-1].astype(int).copy()], one]), times
        return torch.cat([table[times], one]), times

    def level(self, scheduler, call, time):
        """The level at which the scheduler takes the state before a call to be."""
        if self.name == "ddim-inverse":
            time = time - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
            return scheduler.alphas_cumprod.double()[max(time, 0)]
        if self.kind == "pair":
            return self.visited(scheduler)[0][call]
        if self.kind == "alpha-bar":
            return scheduler.alphas_cumprod.double()[time]
        if getattr(scheduler, "sigmas_interpol", None) is not None and call % 2 == 1:
            return scheduler.sigmas_interpol.double()[call]
        return scheduler.sigmas.double()[call]

    def run(self, options, prediction, steps, lift):
        """The states after every step, the first before any."""
        with module_of(self.scheduler, False):
            scheduler = self.build(options, self.predictions[prediction], steps)
        with module_of(self.scheduler, lift):
            if lift:
                lift_levels(scheduler)
            levels, _ = self.visited(scheduler)
            alpha, sigma = KINDS[self.kind](levels[0])
            x = torch.from_numpy(generator.unit("start", SHAPE)).double()
            x = x * (alpha**2 + sigma**2) ** 0.5
            scale = (lambda alpha: alpha) if self.divided else (lambda _: 1.0)
            states, x = [x], x / scale(alpha)
            times, data = scheduler.timesteps, getattr(scheduler.config, "sigma_data", 1.0)
            for call, time in enumerate(times):
                alpha, sigma = KINDS[self.kind](self.level(scheduler, call, time))
                if hasattr(scheduler, "scale_model_input"):
                    scheduler.scale_model_input(x, time)
                out = predict(prediction, x * scale(alpha), alpha, sigma, data)
                x = scheduler.step(out, time, x, **self.step_options).prev_sample.double()
                if self.ends_a_step(call, len(times)):
                    alpha, _ = KINDS[self.kind](levels[len(states)])
                    states.append(x * scale(alpha))
        assert len(states) == len(levels), (self.name, len(states), len(levels))
        return torch.stack(states).numpy()

    def ends_a_step(self, call, calls):
        """Whether a state that counts comes out of this call."""
        if self.name == "pndm":
            return call != 0
        return self.calls == 1 or call % 2 == 1 or call == calls - 1


def tables(*spacings, more=("scaled-linear", "cosine")):
    """Every spacing on the linear table, the first and the last on the others."""
    pairs = [("linear", spacing) for spacing in spacings]
    pairs += [(table, spacing) for table in more for spacing in {spacings[0]: 0, spacings[-1]: 0}]
    return {pair: TABLES[pair[0]] | SPACINGS[pair[1]] for pair in pairs}


def own_sigmas(table):
    """iPNDM takes its levels as a list: those of the trailing spacing, clean at the end."""

    def options(steps):
        model = diffusers.DDIMScheduler(**TABLES[table], timestep_spacing="trailing")
        model.set_timesteps(steps)
        sigma = (1 - model.alphas_cumprod[model.timesteps].double()) ** 0.5
        return {"trained_betas": [*sigma.tolist(), 0.0]}

    return options


INTEGER = ("leading", "trailing", "linspace")
SIGMAS = (*INTEGER, "karras", "exponential")
VELOCITY = {"flow": None}
EDM = {"edm-eps": "epsilon", "edm-v": "v_prediction"}
FLOW_SIGMAS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


def cases():
    """All that is written."""
    unclipped = {"clip_sample": False}
    for size in ("small", "large"):
        options = unclipped | {"variance_type": f"fixed_{size}"}
        yield Case(f"ddpm-{size}", "DDPMScheduler", "alpha-bar", options, runs=tables(*INTEGER))
    for eta in (0, 1):
        how = {"step_options": {"eta": float(eta)}, "levels_only": ("linspace",)}
        runs = tables(*INTEGER[::-1])
        yield Case(f"ddim-{eta}", "DDIMScheduler", "alpha-bar", unclipped, runs=runs, **how)
    zero = TABLES["scaled-linear"] | SPACINGS["trailing"] | {"rescale_betas_zero_snr": True}
    yield Case(
        "ddim-zero-snr",
        "DDIMScheduler",
        "alpha-bar",
        unclipped,
        runs={("scaled-linear", "trailing"): zero},
        predictions={"v": "v_prediction"},
    )
    options = unclipped | {"set_alpha_to_one": False}
    runs = tables("leading", more=())
    yield Case("ddim-inverse", "DDIMInverseScheduler", "alpha-bar", options, runs=runs)
    yield Case("euler", "EulerDiscreteScheduler", "ratio", runs=tables(*SIGMAS))
    name = "EulerAncestralDiscreteScheduler"
    yield Case("euler-ancestral", name, "ratio", runs=tables(*INTEGER))
    yield Case("heun", "HeunDiscreteScheduler", "ratio", runs=tables(*SIGMAS), calls=2)
    yield Case("dpm2", "KDPM2DiscreteScheduler", "ratio", runs=tables(*SIGMAS), calls=2)
    yield Case("lms", "LMSDiscreteScheduler", "ratio", runs=tables(*SIGMAS))
    options = {"lower_order_final": True, **SPACINGS["exponential"]}
    yield Case(
        "dpmpp-2s",
        "DPMSolverSinglestepScheduler",
        "ratio",
        options,
        runs={(table, "exponential"): TABLES[table] for table in TABLES},
        divided=False,
        steps=(5, 21, 51),
    )
    yield from dpm_solvers()
    yield from more_edm()
    yield from unipc()
    options = {"set_alpha_to_one": True, "skip_prk_steps": True}
    runs = tables("leading", "trailing", more=("scaled-linear",))
    yield Case("pndm", "PNDMScheduler", "alpha-bar", options, runs=runs)
    runs = {(table, "trailing"): own_sigmas(table) for table in TABLES}
    yield Case("ipndm", "IPNDMScheduler", "pair", runs=runs, predictions={"v": None})
    for order in (2, 3):
        yield Case(
            f"deis-{order}",
            "DEISMultistepScheduler",
            "ratio",
            {"solver_order": order},
            runs=tables(*INTEGER),
            divided=False,
        )
    runs = {("scaled-linear", "lcm"): TABLES["scaled-linear"], ("linear", "lcm"): TABLES["linear"]}
    yield Case("lcm", "LCMScheduler", "alpha-bar", runs=runs)
    shifts = {("flow", f"shift-{shift}"): {"shift": float(shift)} for shift in (1, 3)}
    for name in ("Euler", "Heun"):
        scheduler, calls = f"FlowMatch{name}DiscreteScheduler", 1 + (name == "Heun")
        how = {"runs": shifts, "predictions": VELOCITY, "calls": calls}
        yield Case(f"flow-{name.lower()}", scheduler, "flow", **how)


def dpm_solvers():
    """DPM-Solver++ of several steps in its variants."""
    for order in (2, 3):
        for noisy in (False, True):
            options = {"solver_order": order}
            if noisy:
                options["algorithm_type"] = "sde-dpmsolver++"
            name = f"dpmpp-{order}m" + "-sde" * noisy
            how = {"runs": tables(*SIGMAS), "divided": False}
            yield Case(name, "DPMSolverMultistepScheduler", "ratio", options, **how)
        runs = {("flow", f"shift-{shift}"): {"flow_shift": float(shift)} for shift in (1, 3)}
        how = {"runs": runs, "predictions": {"flow": "flow_prediction"}, "divided": False}
        options = FLOW_SIGMAS | {"solver_order": order}
        name = "DPMSolverMultistepScheduler"
        yield Case(f"dpmpp-{order}m-flow", name, "flow", options, **how)
        runs = {("edm", kind): {"sigma_schedule": kind} for kind in ("karras", "exponential")}
        how = {"runs": runs, "predictions": EDM, "divided": False}
        options = {"solver_order": order}
        yield Case(f"dpmpp-{order}m-edm", "EDMDPMSolverMultistepScheduler", "edm", options, **how)
    options = {"exponential": {}, "karras": {"sigma_schedule": "karras"}}
    runs = {("edm", kind): option for kind, option in options.items()}
    how = {"runs": runs, "predictions": EDM, "divided": False}
    yield Case("dpmpp-2m-sde-edm", "CosineDPMSolverMultistepScheduler", "edm", **how)


def more_edm():
    """Euler's method on the noise of EDM."""
    runs = {("edm", kind): {"sigma_schedule": kind} for kind in ("karras", "exponential")}
    yield Case("euler-edm", "EDMEulerScheduler", "edm", runs=runs, predictions=EDM)


def unipc():
    """UniPC of both orders and both kinds of B(h)."""
    for order in (2, 3):
        for kind in ("bh1", "bh2"):
            options = {"solver_order": order, "solver_type": kind}
            runs = tables(*SIGMAS)
            if kind == "bh1":  # on the way to sigma = 0 its B(h) is infinite, and the state no number
                options["final_sigmas_type"] = "sigma_min"
                runs = tables("linspace", "trailing", more=())
            how = {"runs": runs, "divided": False}
            name = f"unipc-{order}-{kind}"
            yield Case(name, "UniPCMultistepScheduler", "ratio", options, **how)
        runs = {("flow", f"shift-{shift}"): {"flow_shift": float(shift)} for shift in (1, 3)}
        how = {"runs": runs, "predictions": {"flow": "flow_prediction"}, "divided": False}
        options = FLOW_SIGMAS | {"solver_order": order}
        yield Case(f"unipc-{order}-flow", "UniPCMultistepScheduler", "flow", options, **how)


def relative(a, b):
    """The largest difference in any state, of its largest number."""
    assert np.isfinite(a).all() and np.isfinite(b).all()
    scale = np.abs(b).max(axis=(-2, -1), keepdims=True)
    return float((np.abs(a - b) / scale).max())


def write(case, folder):
    """One file; returns the largest share of f32 in it."""
    tensors, runs, worst = {}, [], 0.0
    for (table, spacing), options in case.runs.items():
        for steps in case.steps:
            with module_of(case.scheduler, False):
                first = next(iter(case.predictions.values()))
                levels, times = case.visited(case.build(options, first, steps))
            keep = kept(len(levels) - 1)
            key = f"{table}/{spacing}/{steps}"
            tensors[f"{key}/levels"] = levels.numpy().astype(np.float32)
            assert (tensors[f"{key}/levels"] == levels.numpy()).all()
            tensors[f"{key}/times"] = times.numpy().astype(np.float32)
            run = {"table": table, "spacing": spacing, "steps": steps, "kept": keep, "rounding": 0.0}
            if spacing not in case.levels_only:
                pair = [
                    [case.run(options, name, steps, lift)[keep] for name in case.predictions]
                    for lift in (False, True)
                ]
                states, exact = map(np.stack, pair)
                tensors[f"{key}/states"] = states.astype(np.float32)
                run["rounding"] = relative(states, exact)
                worst = max(worst, run["rounding"])
                if 2 * run["rounding"] + 5e-7 > (1e-5 if table == "linear" else 1e-4):
                    tensors[f"{key}/exact"] = exact.astype(np.float32)
            runs.append(run)
    about = {
        "scheduler": case.scheduler.__name__,
        "options": case.options,
        "kind": case.kind,
        "predictions": list(case.predictions),
        "runs": runs,
    }
    data = save(tensors, {"golden": json.dumps(about)})
    (folder / f"{case.name}.safetensors").write_bytes(data)
    return len(data), worst


def main():
    """Writes the fixtures beside this script, or where --out says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "diffusers")
    parser.add_argument("names", nargs="*", help="only these files")
    options = parser.parse_args()
    assert diffusers.__version__ == "0.42.0", diffusers.__version__
    generator.self_test()
    torch.set_num_threads(1)
    options.out.mkdir(exist_ok=True)
    total = 0
    for case in cases():
        if options.names and case.name not in options.names:
            continue
        size, worst = write(case, options.out)
        total += size
        print(f"{case.name:18} {size:7} bytes, float32 is {worst:.1e} from float64")
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
