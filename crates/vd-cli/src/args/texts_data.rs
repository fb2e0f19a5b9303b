//! What the help texts of `vd data` say beyond the flags.

pub(super) const DATA: &str = "\
Examples:
  vd data synth fireworks --num 300 --frames 8 --size 32 --out videos
  vd data inspect videos
  vd data preview videos --out videos.png
  vd data prepare videos --out shards --size 64
  vd data stats shards";

pub(super) const PREPARE: &str = "\
Every video or array is decoded once; training then reads raw frames:
  [data]
  source = { kind = \"shards\", path = \"DIR\" }
With the same settings, training gets exactly the batches that SRC itself would give. Captions,
tables, class folders and the order of the clips are kept in DIR.

Pixels are stored as u8, arrays of other types as f32 with NaN for missing numbers: training sees the
numbers that it would see in SRC. --dtype f16 takes half the space and rounds: the number of rounded
values and the largest error are reported, and a clip with a number beyond 65504 is refused. If
numbers are rounded, or scaled by --size, --invalid has to name the value that marks missing data
(data.invalid).

DIR gets shard-00000.bin, ... (raw frames), index.jsonl, the table of the captions if there is one,
and bad.jsonl: the files that could not be prepared, with the reasons. A command that was stopped
(Ctrl-C) or killed resumes when it is started again. With SRC unchanged it does nothing; if files
were added, removed or changed, it prepares the new ones. Other settings need another DIR.

--size scales to cover HxW and crops the centre, as data.size does in training; the borders that
training could crop at random (data.crop = \"random\") are lost. --fps and --stride drop frames and
never invent any.

Examples:
  vd data prepare videos --out shards
  vd data prepare videos --out shards64 --size 64 --fps 8 --max-frames 128 --workers 4
  vd data prepare videos --out shards --captions captions.csv --max-bad 10
  vd data prepare radar --out shards --dtype f16 --axes nfhw --invalid -9999";

pub(super) const PREVIEW: &str = "\
SRC is a folder of videos or arrays, or one that `vd data prepare` wrote. The clips are spread evenly
over it; each is labelled with its name, frames (f), height x width and caption. Each channel of an
array goes from black, its minimum in the shown frames, to white; missing values are black.

Examples:
  vd data preview videos --out sheet.png
  vd data preview shards --out sheet.png --num 12 --frames 6";

pub(super) const STATS: &str = "\
SRC is a folder of videos or arrays, or one that `vd data prepare` wrote. Counts, lengths, rates and
sizes cover all clips; statistics of pixels and numbers cover four frames of each of --sample clips,
evenly spread, and at most 65536 values of a frame.

Examples:
  vd data stats videos
  vd data stats shards --sample 1000 --json";

pub(super) const VERIFY: &str = "\
Reads every shard once, and compares each clip with its checksum in the index. The exit status is 1
if any clip differs.

Examples:
  vd data verify shards
  vd data verify shards --json";
