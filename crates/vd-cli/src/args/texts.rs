//! What the help texts say beyond the flags.

pub(super) const VD: &str = "\
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

pub(super) const TRAIN: &str = "\
A config that trains an unconditional model on a folder of videos (`vd data inspect --help` says which):
  [model]
  dim = 32
  dim_mults = [1, 2, 4]
  [data]
  source = { kind = \"folder\", path = \"videos\" }   # or { kind = \"fireworks\" }, { kind = \"digits\" }
  frames = 8
  size = [32, 32]
  [train]
  out = \"runs/first\"
  steps = 1000

With [text], captions (NAME.txt beside NAME.gif) condition the model:
  [text]
  encoder = { kind = \"hashed\", width = 64 }
  drop = 0.1           # share of clips trained without their caption, which guidance needs

Captions can also come from a table, with a column `file` and, if there are captions, `caption`,
or from the names of the folders that clips lie in:
  source = { kind = \"folder\", path = \"videos\", captions = { table = \"captions.csv\" } }  # or .jsonl
  source = { kind = \"folder\", path = \"videos\", captions = \"folders\" }

Videos that `vd data prepare` has decoded cost next to nothing to read, and give the same batches:
  source = { kind = \"shards\", path = \"shards\" }

Independent images behind the frames of each clip, with captions of their own, steady the gradient
(joint training); they are frames of other clips, or of a source of their own:
  images = { per_clip = 4 }                                                  # in [data]
  images = { source = { kind = \"folder\", path = \"stills\" }, per_clip = 4 }   # a.png with a.txt

What else the model is told are signals, each with where it comes from:
  [model.signals]
  kind = { kind = \"class\" }                     # its classes are those of the data
  speed = { kind = \"scalar\", mean = 3.5, std = 2 }
  small = { kind = \"video\", channels = 3 }
  [signals]
  kind = { from = { kind = \"folder\" }, drop = 0.1 }
  speed = { from = { kind = \"column\", name = \"speed\" } }    # array: a value for each frame
  small = { from = { kind = \"low-resolution\", factor = 4 } }  # masked: first_frames, hidden_box

A folder may hold arrays: .npy, .npz and .safetensors, of any number of channels and any unit. NaN
is missing, and so is data.invalid: it is kept out of the loss, and is 0 for the network.
  [data]
  source = { kind = \"folder\", path = \"radar\" }
  channels = 2                # and [model] channels = 2
  axes = \"fhwc\"              # of the shape; 3 axes are fhw, 4 are fhwc; n: many clips in one array
  invalid = -9999.0
  # member = \"rain\"           one array of an .npz or .safetensors file; all are, as clips of their own
  [data.normalise]            # or [[data.normalise]] for each channel
  kind = \"percentile\"         # min-max, z-score, percentile (low = 1, high = 99), none
  transform = \"log\"           # none, log, sqrt; of the number plus offset (1 for log, else 0)
  # statistics = [0.0, 3.4]   of the transformed numbers; measured before the first step if left out
Statistics are written into the run's config and go with its weights; nothing is clipped.

OUT gets config.toml (with every default), metrics.jsonl, previews/ and
checkpoints/step-NNNNNNNN/. SIGINT (Ctrl-C) and SIGTERM finish the step, save and exit with 0; a
second one ends at once. --resume goes on to the same bytes that an unbroken run would have
reached; it takes CONFIG and --set as given, of which only these may differ from the run's:
data.workers, text.encoder.path and text.encoder.cache, and of [train] steps, checkpoint_every,
preview_*, out (for a run that was moved), graphs, recompute and threads (with a warning: the last
bits may then differ). A checkpoint knows its text encoder by a hash of its files, and refuses
another one.

A run that does not fit into memory may keep less for its backward: train.recompute = N computes the
activations of the N outermost levels again, which costs a second forward of those and changes no
bit; as many as model.dim_mults has is all.

Values of --set are TOML; text needs no quotes.

Examples:
  vd train first.toml
  vd train first.toml --set train.steps=2000 --set train.out=runs/second
  vd train first.toml --set 'data.size=[24, 40]' --set data.source.path=/data/videos
  vd train first.toml --resume";

pub(super) const PLAN: &str = "\
A few steps of the run are done at two small batches, on drawn clips in place of its data, each in a
process of its own; time and memory are straight lines through the two. The same is done with all
levels' activations computed again. Nothing is written. A card that is named with --gpu is not
measured: its figures are estimates from its maker's, and say so.

--layers counts what kernels on a GPU read, write and multiply at train.batch, in f32 or, with
train.autocast, in half precision; two branches of guidance are a batch twice as large.

JSON: parameters, flops (of a step), weight_bytes, optimizer_bytes, plan and recomputed
(seconds_per_step, peak_bytes, activation_bytes, largest_batch, measured), available_bytes, gpus.

Examples:
  vd plan first.toml
  vd plan first.toml --set train.batch=32 --gpu h100 --gpu rtx-4090 --json
  vd plan first.toml --layers --rates 3000,798";

pub(super) const SAMPLE_USAGE: &str = "\
vd sample [OPTIONS] --out <FILE.gif|DIR> <CHECKPOINT>
       vd sample --list [--json]";

pub(super) const SAMPLE: &str = "\
Clips: without --prompt, --prompts and --cond, --num clips; else --num clips of each prompt, line
or row, those of the first one first. Clip k of a seed starts from the same noise in whatever batch
it is drawn; it is the same, bit for bit, in the same company: in a batch of the same other clips,
at equal --threads and on an equal device.

A prompt is passed on as it stands, unless one of these marks is a word of its own in it:
  a red firework :: 2 | a gold one    both, the first with twice the weight of the second
  a calm sea -> a storm               the first at the first frame, the second at the last
\\| \\:: and \\-> are the characters themselves. --negative TEXT is what guidance pulls away from, in
place of the null embedding: it does nothing at --cfg-scale 1, and needs no [text] drop.

--prompts FILE.txt holds a prompt a line, as --prompt would take it; --prompts FILE.jsonl an object a
line, with any of
  prompt    text                       parts     [{\"prompt\": text, \"weight\": 2}, ...]
  until     text or parts              negative  text or parts, instead of --negative
  seed, scale, frames   numbers        signals   {\"NAME\": value or {\"value\": .., \"scale\": ..}}
  note      anything, which is passed over
Lines of white space alone are passed over. Clip k of the file has the noise of clip k of --seed; the
clips of a line with a seed of its own have that of clips 0, 1, ... of that seed, wherever it stands.

--signal tells a model trained with [model.signals.NAME] what it is to know besides: a class by its
name or number, a number, a vector as 0.1,0.2; a number or vector for each frame from .npy or
.safetensors (f32), a video from any file that is read as one or .safetensors (c f h w, in [-1, 1]),
in the frames and the full size of the clips; a masked one has, behind the colours, a channel more
that is 1 where pixels are known. What has
--signal-scale 1 (and a prompt at --cfg-scale 1) is given whenever the model is asked; what has
another is guided, signals first and the prompt last: each alone (signals=\"independent\"), or on top
of those before it (--guidance '{kind=\"classifier-free\", signals=\"chained\"}').

--out FILE.gif holds all clips in one picture, side by side: a row for each prompt, or a square
without prompts. --out DIR gets seed-K-clip-00000.gif, seed-K-clip-00001.gif, ..., as each batch is
done, each with its prompt in a .txt beside it, in the grammar of --prompt; files of these names are
replaced. Clips that are finished when a drawing is broken off stay, or are put in FILE.gif.
--grid FILE shows all clips with their prompts below them.

Formats, by the ending of FILE or by --format (with a FILE, the others stand beside it):
  gif          256 colours, at most 50 frames a second    png    a folder of frames, exact
  webp         exact, at most 90 frames a second          npy    u8, f h w c, exact
  mp4          small, through ffmpeg; sides made even     safetensors  the same, with its fps
A file of npy or safetensors holds one clip. Each file is whole or not there.

A model of arrays ([data] normalise, or channels other than 1 and 3) draws numbers, and brings them
back to their unit: npy and safetensors then hold these, f32, f h w c, and a folder gets gif and npy
where nothing is said. --dtype u16 rounds to whole numbers and holds them in range. Pictures show
the network's range, -1 black and 1 white (of kind = \"z-score\" three standard deviations); three
channels are colours, and of any number but 1 and 3 each is grey, side by side. Such models have
--threshold none by default, unless all rules are kind = \"min-max\": others have values beyond
[-1, 1] by right.

A conditional model without --prompt, --prompts and --cond draws from its null embedding: whatever
it has learned, in any mix. --cfg-scale other than 1 needs something to guide towards, and --negative
or a model whose training dropped the conditioning now and then ([text] drop above 0).

Samplers, spacings and rules of guidance are named, or are a TOML table where they have settings;
--list names them all with their settings, and needs no checkpoint. ddpm is another name of
ddpm-small. Times of one's own: --spacing '{kind=\"explicit\", t=[1.0, 0.5, 0.0]}'.
--threshold static clamps to the range of pixels, dynamic to the 90th percentile and scales back;
another percentile: --threshold '{kind=\"dynamic\", percentile=0.995}'.

Examples:
  vd sample --list
  vd sample runs/first --out clip.gif
  vd sample runs/first --sampler unipc-3 --spacing uniform-log-snr --steps 20 --out clip.gif
  vd sample runs/first --sampler '{kind=\"ddim\", eta=0.5}' --out clip.gif
  vd sample runs/first --prompt \"a red firework\" --cfg-scale 3 \\
      --guidance '{kind=\"classifier-free\", rescale=0.7}' --out clip.gif
  vd sample runs/first --num 9 --seed 7 --out grid.gif
  vd sample runs/first --num 9 --format webp,mp4 --grid all.gif --out clips
  vd sample runs/first --prompt \"a red firework\" --prompt \"a blue firework\" --num 4 \\
      --cfg-scale 2 --steps 40 --out clips
  vd sample runs/first --prompt \"a red firework :: 2 | a gold one -> a dark sky\" --out clip.gif
  vd sample runs/first --prompt \"a red firework\" --negative \"blue\" --cfg-scale 3 --out clip.gif
  vd sample runs/first --prompts prompts.jsonl --cfg-scale 2 --batch 16 --out clips
  vd sample runs/weather --signal weather=rain --signal-scale weather=2 --out rain.gif
  vd sample runs/first --guide runs/first/checkpoints/step-00000200 --guide-scale 2 --out clip.gif
  vd sample runs/first/checkpoints/step-00000200 --weights model --out early.gif
  vd sample converted --frames 20 --size 64 --sampler ddpm --cond rows.npy --out clips";

pub(super) const ENCODE: &str = "\
DIR is a model in the Hugging Face layout: config.json, tokenizer.json and model.safetensors (one
file, or shards with their index). Known are BERT (MiniLM and others of its shape), DistilBERT,
RoBERTa, the encoder of a T5 and the text side of a CLIP; nothing is fetched.

PROMPTS.txt is UTF-8; every line is a prompt as it stands, blanks included, and an empty line is the
empty prompt. A prompt of more tokens than the model takes is an error, or is cut with --truncate.

FILE.safetensors gets the tensor embeddings (f32, prompts x width): a row for each line, in order,
pooled from the last hidden layer. The prompts stand in its metadata, so that a config takes it as
it is: encoder = { kind = \"file\", path = \"FILE.safetensors\" }. A FILE that is there is replaced.

Examples:
  vd encode --encoder minilm captions.txt --out captions.safetensors
  vd encode --encoder minilm captions.txt --normalize --batch 64 --out captions.safetensors
  vd encode --encoder bert-base-cased --pooling peer captions.txt --out rows.safetensors --json";

pub(super) const CONVERT: &str = "\
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

pub(super) const INSPECT: &str = "\
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

pub(super) const BENCH: &str = "\
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

pub(super) const SYNTH: &str = "\
Examples:
  vd data synth fireworks --num 300 --frames 8 --size 32 --out videos
  vd data synth digits --num 50 --frames 16 --size 48x64 --seed 7 --out digits

Training can also draw them itself, without end: [data] source = { kind = \"fireworks\" }.";

pub(super) const INSPECT_DATA: &str = "\
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

pub(super) const DOCTOR: &str = "\
Machine, threads, libtorch and where it came from, CUDA and what stands in its way, folders, and
the variables that vd reads. The exit status is 1 where vd could not run as it is set up.

Examples:
  vd doctor
  vd doctor --json";
