//! What the help texts say beyond the flags.

mod sample;
mod train;

pub(in crate::args) use sample::{ENCODE, SAMPLE, SAMPLE_USAGE};
pub(in crate::args) use train::{PLAN, TRAIN};

pub(in crate::args) const VD: &str = "\
First steps:
  vd doctor
  vd data synth fireworks --num 300 --frames 8 --size 32 --out videos
  vd data inspect videos
  # save the config that `vd train --help` shows as first.toml
  vd plan first.toml
  vd train first.toml
  vd sample runs/first --out clip.gif

A CHECKPOINT is one of
  runs/first/checkpoints/step-00001000   one step of a run
  runs/first                             a run (train.out in its config): its newest step
  converted                              what `vd convert` wrote

Results go to stdout, logs and progress bars to stderr (bars only if it is a terminal). With
--json, stdout holds one JSON object: the result, or {\"error\": \"...\"} after a failure.

Exit status: 0 success, 1 failure, 2 an invalid command line. SIGINT (Ctrl-C) and SIGTERM stop
sampling after the current step, with status 1; a second one stops it at once.

Environment:
  VD_LOG   what is logged: info (default), debug, trace, error, or filters such as
           vd_train=debug; warnings and errors are always logged
  VD_CUDA  auto (default), off (do not look for a GPU), require (fail without a GPU);
           an explicit --device cpu takes precedence
  VD_ISA   instruction set of the CPU kernels: avx512-bf16, avx512, avx2, portable
           [default: the best available]
  VD_FFMPEG, VD_FFPROBE
           the programs that read and write MP4 and similar files [default: those on PATH]
  VD_LIBAV off: read MP4 and similar files with these programs even if libav is built in";

pub(in crate::args) const CONVERT: &str = "\
MODEL.pt is a Trainer's checkpoint ({step, model, ema, scaler}) or the state dict of a
GaussianDiffusion or a Unet3D. The network (dim, dim_mults, channels, heads, ...) is inferred from
the tensors' shapes; rotary frequencies and betas are read from the file. Files of 0.5 and 0.6 have
the same names and shapes but define different functions. --version is therefore required, and only
--check detects that the wrong one of the two was given.

--check compares the converted network with the package's own. IO.safetensors holds
  x      b c f h w, f32    the network's input
  time   b, i64            its time steps
  out    b c f h w, f32    the network's output
  cond   b d, f32          its conditioning, if it is conditional
  focus_present_mask  b, bool   optional
  null_mask           b, bool   optional; true = the null embedding instead of cond
The result has relative_l2 = |ours - out| / |out|, max_abs_error and passed. If the check fails,
nothing is written and the exit status is 1.

Examples:
  vd convert model-10.pt --version 0.7.0 --out converted
  vd convert model-10.pt --version 0.6.3 --out converted --check io.safetensors --json
  vd sample converted --out clip.gif";

pub(in crate::args) const INSPECT: &str = "\
Shows the network, its parameters by part, the weights in the checkpoint, the step, the config and
the files. --json prints all of these, with the whole config.

With --preset NAME nothing is read and no weights are allocated. Shown are the preset's parameters
by part; the floating-point operations of one batch (counted as by `vd bench`; the backward counts as
two forwards, texts have 32 tokens); the memory of weights, gradients, the optimiser's two moments
and the moving average in f32 (without activations); and its config as the `[model]` section of a
run. Names, as in `preset = \"NAME\"` in `[model]`:
  paper_ucf101, paper_bair, paper_kinetics600, paper_text_small, paper_text_large_16x64,
  paper_text_large_9x128, video-diffusion-pytorch-0.7, video-diffusion-pytorch-0.6,
  video-diffusion-pytorch-0.5

JSON with --preset: preset, batch, frames, size, tokens, parameters, modules, flops (forward,
training), memory (weights, gradients, optimizer, ema, all; bytes), config.

Examples:
  vd inspect runs/first
  vd inspect runs/first/checkpoints/step-00000200 --json
  vd inspect --preset paper_ucf101
  vd inspect --preset paper_bair --dim 32 --frames 20 --size 48x64 --batch 8 --json";

pub(in crate::args) const BENCH: &str = "\
Two warm-up passes precede the timed ones. Forward runs without gradients; --train times forward
and backward, without data, loss, optimiser and moving average. --precision is that of `vd sample`:
bf16 rounds the operands of the attention projections in the forward pass; it has not been faster
than f32 on any CPU measured (docs/kernels.md). The last line of the result names the code paths.
--recompute is train.recompute of `vd train`.
A network that attends to text tokens is given 32 of them; signals are not given.

JSON: median_ms, min_ms, max_ms, mode (forward | train), threads, dtype, precision, autocast, device,
graphs (whether the timed passes were replayed), flops, iters, recompute, peak_mib (peak resident
memory, including the program and its weights; null if the system does not report it). flops is
counted from the config: two for each multiply-add of convolutions, projections and attention in one
pass over the batch (norms, activations and softmax are left out); backward counts as two forwards.

Examples:
  vd bench runs/first --batch 4 --frames 8 --size 32
  vd bench runs/first --batch 4 --frames 8 --size 24x40 --train --iters 30 --threads 2 --json";

pub(in crate::args) const SYNTH: &str = "\
Examples:
  vd data synth fireworks --num 300 --frames 8 --size 32 --out videos
  vd data synth digits --num 50 --frames 16 --size 48x64 --seed 7 --out digits

Training can also generate any number of them itself: [data] source = { kind = \"fireworks\" }.";

pub(in crate::args) const INSPECT_DATA: &str = "\
Videos are GIF, APNG and animated WebP, folders of PNG, JPEG or WebP frames, and, if ffmpeg is
installed, MP4, MOV, M4V, WebM, MKV and AVI; arrays are .npy, .npz and .safetensors. The caption of
NAME.gif is in NAME.txt beside it. A file's type is detected from its first bytes. Unreadable files
are listed with the reason: training skips them, up to data.max_bad_files. The exit status is 1 if
no video can be read.

--captions is as in [data.source]; a relative path of a table is relative to DIR. For arrays, the
type, the range of each channel and the share of missing values are shown; --axes, --member and
--invalid are as in [data].

Examples:
  vd data inspect videos
  vd data inspect videos --captions captions.csv
  vd data inspect radar --axes cfhw --invalid -9999
  vd data inspect videos --json";

pub(in crate::args) const DOCTOR: &str = "\
Shows the machine, threads, libtorch and its origin, CUDA or why it is unavailable, folders, and the
environment variables that vd reads. The exit status is 1 if vd cannot run with this setup.

Examples:
  vd doctor
  vd doctor --json";
