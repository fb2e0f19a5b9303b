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
  vd plan CONFIG.toml
  vd train CONFIG.toml
  vd sample runs/first --prompt \"a red firework\" --out red.gif

A CHECKPOINT is one of
  runs/first/checkpoints/step-00001000   one step of a run
  runs/first                             a run (train.out in its config): its newest step
  converted                              what `vd convert` wrote

Results go to stdout; logs and progress bars to stderr, bars only where it is a terminal. With
--json stdout holds one JSON object: the result, or {\"error\": \"...\"} after a failure.

Exit status: 0 success, 1 failure, 2 a command line that is not understood. SIGINT (Ctrl-C) and
SIGTERM end a drawing behind its next step, with 1; a second one ends at once.

Environment:
  VD_LOG   what is logged: info (default), debug, trace, error, or filters such as
           vd_train=debug; warnings and errors always are
  VD_CUDA  auto (default), off (no GPU is looked for), require (an error without one);
           an explicit device cpu wins over it
  VD_ISA   the instructions of the kernels for CPUs: avx512-bf16, avx512, avx2, portable
           [default: the best]
  VD_FFMPEG, VD_FFPROBE
           the programs that read and write MP4 and its like [default: those on PATH]
  VD_LIBAV off: MP4 and its like are read by these programs, where libav is built in as well";

pub(in crate::args) const CONVERT: &str = "\
MODEL.pt is a Trainer's checkpoint ({step, model, ema, scaler}) or the state dict of a
GaussianDiffusion or a Unet3D. Shapes tell the network (dim, dim_mults, channels, heads, ...),
rotary frequencies and betas are read from the file. Files of 0.5 and 0.6 have the same names and
shapes and mean different functions: that is why --version is required, and only --check finds out
that it was the wrong one of the two.

--check compares the converted network with the package's own. IO.safetensors holds
  x      b c f h w, f32    what the network was given
  time   b, i64            at these steps
  out    b c f h w, f32    what it answered
  cond   b d, f32          its conditioning, if it is conditional
  focus_present_mask  b, bool   optional
  null_mask           b, bool   optional; true = the null embedding in place of cond
The result has relative_l2 = |ours - out| / |out|, max_abs_error and passed. Where the check fails
nothing is written and the exit status is 1.

Examples:
  vd convert model-10.pt --version 0.7.0 --out converted
  vd convert model-10.pt --version 0.6.3 --out converted --check io.safetensors --json
  vd sample converted --out clip.gif";

pub(in crate::args) const INSPECT: &str = "\
Shows the network, its parameters by part, the weights in the checkpoint, the step, the config and
the files. With --json all of it, the whole config included.

With --preset NAME nothing is read and nothing of the network's size is allocated: shown are its
parameters by part, what one batch costs in floating-point operations (as `vd bench` counts them;
backward counts as two forwards, texts have 32 tokens), the memory of weights, gradients, the
optimiser's two moments and the moving average in f32 (activations come on top), and its config as
`[model]` of a run. Names, as `preset = \"NAME\"` in `[model]`:
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
Two passes are made before the timed ones. Forward runs without gradients; --train times forward
and backward, without data, loss, optimiser and average. The precision is that of `vd sample`:
bf16 rounds the operands of the attentions' projections, on the way forward; it has not been faster
than f32 on any CPU that was measured (docs/kernels.md). The last line says how it is done.
--recompute is train.recompute of `vd train`.
A network that looks at the tokens of a text is given 32 of them; signals are not given.

JSON: median_ms, min_ms, max_ms, mode (forward | train), threads, dtype, precision, autocast, device,
graphs (whether the timed passes were replayed), flops, iters, recompute, peak_mib (resident memory
at most, the program and its weights included; null where the system does not tell). flops is
counted from the config: two for each multiply-add of convolutions, projections and attention in one
pass over the batch (norms, activations and softmax are left out); backward counts as two forwards.

Examples:
  vd bench runs/first --batch 4 --frames 8 --size 32
  vd bench runs/first --batch 4 --frames 8 --size 24x40 --train --iters 30 --threads 2 --json";

pub(in crate::args) const SYNTH: &str = "\
Examples:
  vd data synth fireworks --num 300 --frames 8 --size 32 --out videos
  vd data synth digits --num 50 --frames 16 --size 48x64 --seed 7 --out digits

Training can also draw them itself, without end: [data] source = { kind = \"fireworks\" }.";

pub(in crate::args) const INSPECT_DATA: &str = "\
Videos are GIF, APNG and animated WebP, folders of PNG, JPEG or WebP frames, and, through ffmpeg where
it is installed, MP4, MOV, M4V, WebM, MKV and AVI; arrays are .npy, .npz and .safetensors. A caption
stands in NAME.txt beside NAME.gif. What is in a file its first bytes say. Files that cannot be read
are listed with the reason: training leaves them out, up to data.max_bad_files. The exit status is 1
where no video can be read.

--captions is as in [data.source]: a relative path of a table starts at DIR. Of arrays the type, the
range of each channel and the share of missing values are shown; --axes, --member and --invalid are
as in [data].

Examples:
  vd data inspect videos
  vd data inspect videos --captions captions.csv
  vd data inspect radar --axes cfhw --invalid -9999
  vd data inspect videos --json";

pub(in crate::args) const DOCTOR: &str = "\
Machine, threads, libtorch and where it came from, CUDA and what stands in its way, folders, and
the variables that vd reads. The exit status is 1 where vd could not run as it is set up.

Examples:
  vd doctor
  vd doctor --json";
