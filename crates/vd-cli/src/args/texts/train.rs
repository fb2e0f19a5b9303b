//! What `vd train` and `vd plan` explain.

pub(in crate::args) const TRAIN: &str = "\
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

pub(in crate::args) const PLAN: &str = "\
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
