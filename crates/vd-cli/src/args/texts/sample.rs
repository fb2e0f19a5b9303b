//! What `vd sample` and `vd encode` explain.

pub(in crate::args) const SAMPLE_USAGE: &str = "\
vd sample [OPTIONS] --out <FILE.gif|DIR> <CHECKPOINT>
       vd sample --list [--json]";

pub(in crate::args) const SAMPLE: &str = "\
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

pub(in crate::args) const ENCODE: &str = "\
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
