//! What `vd sample` and `vd encode` explain.

pub(in crate::args) const SAMPLE_USAGE: &str = "\
vd sample [OPTIONS] --out <FILE.gif|DIR> <CHECKPOINT>
       vd sample --list [--json]";

pub(in crate::args) const SAMPLE: &str = "\
Clips: --num clips without --prompt, --prompts and --cond; otherwise --num clips of each prompt,
line or row, in their order. Clip k of a seed starts from the same noise in every batch. It is
identical bit for bit if it is sampled in a batch with the same other clips, with the same --threads
and on the same kind of device.

A prompt is passed on unchanged, unless one of these marks stands alone, between spaces, in it:
  a red firework :: 2 | a gold one    both, the first with twice the weight of the second
  a calm sea -> a storm               the first at the first frame, the second at the last
\\| \\:: and \\-> are the characters themselves. --negative TEXT is what guidance pushes away from,
instead of the null embedding: it has no effect at --cfg-scale 1, and needs no [text] drop.

--prompts FILE.txt holds one prompt per line, in the syntax of --prompt; --prompts FILE.jsonl one
object per line, with any of
  prompt    text                       parts     [{\"prompt\": text, \"weight\": 2}, ...]
  until     text or parts              negative  text or parts, instead of --negative
  seed, scale, frames   numbers        signals   {\"NAME\": value or {\"value\": .., \"scale\": ..}}
  note      anything; ignored
Blank lines are ignored. Clip k of the file has the noise of clip k of --seed; the clips of a line
with its own seed have that of clips 0, 1, ... of that seed, whatever the line's position.

--signal gives a model trained with [model.signals.NAME] a further input: a class by its name or
number, a number, a vector as 0.1,0.2; a number or vector per frame from .npy or .safetensors (f32);
a video from any readable video file or from .safetensors (c f h w, in [-1, 1]), with the frames and
the full size of the clips. A masked video has one more channel after the colours, 1 where pixels
are known. Signals with --signal-scale 1 (and a prompt at --cfg-scale 1) are conditioning inputs of
every evaluation; those with another scale are guided, signals first and the prompt last: each on
its own (signals=\"independent\"), or on top of those before it
(--guidance '{kind=\"classifier-free\", signals=\"chained\"}').

--out FILE.gif holds all clips in one picture, side by side: a row for each prompt, or a square
without prompts. --out DIR gets seed-K-clip-00000.gif, seed-K-clip-00001.gif, ..., as each batch is
finished, each with its prompt in a .txt beside it, in the syntax of --prompt; existing files of
these names are replaced. If sampling is interrupted, finished clips stay, or are put in FILE.gif.
--grid FILE shows all clips with their prompts below them.

Formats, chosen by the extension of FILE or by --format (with a FILE, the others go beside it):
  gif          256 colours, at most 50 frames a second    png    a folder of frames, exact
  webp         exact, at most 90 frames a second          npy    u8, f h w c, exact
  mp4          small, through ffmpeg; sides made even     safetensors  the same, with its fps
An npy or safetensors file holds one clip. Each file is written atomically.

A model of arrays ([data] normalise, or channels other than 1 and 3) draws numbers, and brings them
back to their unit: npy and safetensors then hold these, f32, f h w c, and a folder gets gif and npy
where nothing is said. --dtype u16 rounds to whole numbers and holds them in range. Pictures show
the network's range, -1 black and 1 white (of kind = \"z-score\" three standard deviations); three
channels are colours, and of any number but 1 and 3 each is grey, side by side. Their
--threshold static clamps each channel to the range of the training data, with a margin of 5 %. It is
the default wherever that range is known, which checkpoints of earlier versions and statistics given
by hand may lack; if no channel has one, the default is none.

A conditional model without --prompt, --prompts and --cond samples from its null embedding, that is,
from all it has learned. --cfg-scale other than 1 needs a target to guide towards, and either
--negative or a model whose training sometimes dropped the conditioning ([text] drop above 0).

Samplers, spacings and guidance rules are given by name, or as a TOML table if they have settings;
--list prints all of them with their settings, and needs no checkpoint. ddpm is an alias of
ddpm-small. Your own times: --spacing '{kind=\"explicit\", t=[1.0, 0.5, 0.0]}'.
--threshold static clamps to the range of the data, dynamic to the 90th percentile and rescales;
another percentile: --threshold '{kind=\"dynamic\", percentile=0.995}'.

Examples:
  # prompts need a model that was trained with [text]
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

pub(in crate::args) const ENCODE: &str = "\
DIR is a model in the Hugging Face layout: config.json, tokenizer.json and model.safetensors (one
file, or shards with their index). Supported are BERT (also MiniLM and others of this architecture),
DistilBERT, RoBERTa, the encoder of a T5 and the text encoder of a CLIP; nothing is downloaded.

PROMPTS.txt is UTF-8; every line is a prompt, including its spaces, and an empty line is the empty
prompt. A prompt with more tokens than the model takes is an error; --truncate cuts it instead.

FILE.safetensors gets the tensor `embeddings` (f32, prompts x width): a row for each line, in order,
pooled from the last hidden layer. The prompts are in its metadata, so that a config can use it
directly: encoder = { kind = \"file\", path = \"FILE.safetensors\" }. An existing FILE is replaced.

Examples:
  vd encode --encoder minilm captions.txt --out captions.safetensors
  vd encode --encoder minilm captions.txt --normalize --batch 64 --out captions.safetensors
  vd encode --encoder bert-base-cased --pooling peer captions.txt --out rows.safetensors --json";
