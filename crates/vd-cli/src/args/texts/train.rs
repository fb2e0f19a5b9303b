//! What `vd train` and `vd plan` explain.

pub(in crate::args) const TRAIN: &str = "\
A config that trains an unconditional model on a folder of videos (formats: `vd data inspect --help`):
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
  drop = 0.1           # share of clips trained without their caption; guidance needs it

Captions can also come from a table, with a column `file` and, if there are captions, `caption`,
or from the names of the clips' folders:
  source = { kind = \"folder\", path = \"videos\", captions = { table = \"captions.csv\" } }  # or .jsonl
  source = { kind = \"folder\", path = \"videos\", captions = \"folders\" }

Videos decoded by `vd data prepare` cost almost nothing to read, and give the same batches:
  source = { kind = \"shards\", path = \"shards\" }

Independent images after the frames of each clip, with their own captions, reduce the variance of
the gradient (joint training); they are frames of other clips, or come from their own source:
  images = { per_clip = 4 }                                                  # in [data]
  images = { source = { kind = \"folder\", path = \"stills\" }, per_clip = 4 }   # a.png with a.txt

Other conditioning inputs are signals, each with its source:
  [model.signals]
  kind = { kind = \"class\" }                     # its classes are those of the data
  speed = { kind = \"scalar\", mean = 3.5, std = 2 }
  small = { kind = \"video\", channels = 3 }
  [signals]
  kind = { from = { kind = \"folder\" }, drop = 0.1 }
  speed = { from = { kind = \"column\", name = \"speed\" } }    # array: a value for each frame
  small = { from = { kind = \"low-resolution\", factor = 4 } }  # masked: first_frames, hidden_box

A folder may hold arrays: .npy, .npz and .safetensors, with any number of channels and any unit. NaN
and data.invalid mark missing values: they are excluded from the loss, and are 0 for the network.
  [data]
  source = { kind = \"folder\", path = \"radar\" }
  channels = 2                # and [model] channels = 2
  axes = \"fhwc\"              # of the shape; 3 axes are fhw, 4 are fhwc; n: many clips in one array
  invalid = -9999.0
  # member = \"rain\"           one array of an .npz or .safetensors file; by default each is a clip
  [data.normalise]            # or [[data.normalise]] for each channel
  kind = \"percentile\"         # min-max, z-score, percentile (low = 1, high = 99), none
  transform = \"log\"           # none, log, sqrt; of the number plus offset (1 for log, else 0)
  # statistics = [0.0, 3.4]   of the transformed numbers; measured before the first step if left out
Statistics are written into the run's config and kept with its weights; nothing is clipped.

OUT gets config.toml (with every default), metrics.jsonl, previews/ and
checkpoints/step-NNNNNNNN/. SIGINT (Ctrl-C) and SIGTERM finish the step, save and exit with 0; a
second one stops at once. --resume continues to the same bytes that an uninterrupted run would have
reached. It takes CONFIG and --set as given; only these may differ from the run's:
data.workers, text.encoder.path and text.encoder.cache, and of [train] steps, checkpoint_every,
preview_*, out (for a run that was moved), graphs, recompute and threads (with a warning: the last
bits may then differ). A checkpoint identifies its text encoder by a hash of its files, and refuses
any other.

A run that does not fit into memory can keep fewer activations for its backward: train.recompute = N
recomputes those of the N outermost levels, which costs a second forward of these levels and changes
no bit of the result; the length of model.dim_mults recomputes all levels.

Values of --set are TOML; strings need no quotes.

Examples:
  vd train first.toml
  vd train first.toml --set train.steps=2000 --set train.out=runs/second
  vd train first.toml --set 'data.size=[24, 40]' --set data.source.path=/data/videos
  vd train first.toml --resume";

pub(in crate::args) const PLAN: &str = "\
A few steps of the run are measured at two small batch sizes, on generated clips instead of its data,
each in its own process; time and memory are extrapolated linearly from the two. The same is done
with the activations of all levels recomputed. Nothing is written. A GPU named with --gpu is not
measured: its figures are estimates from its vendor's specifications, and are marked as such.

--layers counts the bytes and arithmetic of the GPU kernels at train.batch, in f32 or, with
train.autocast, in half precision; guidance with two branches doubles the batch.

JSON: parameters, flops (of a step), weight_bytes, optimizer_bytes, plan and recomputed
(seconds_per_step, peak_bytes, activation_bytes, largest_batch, measured), available_bytes, gpus.

Examples:
  vd plan first.toml
  vd plan first.toml --set train.batch=32 --gpu h100 --gpu rtx-4090 --json
  vd plan first.toml --layers --rates 3000,798";
