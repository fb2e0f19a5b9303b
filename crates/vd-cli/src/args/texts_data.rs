//! What the help texts of `vd data` say beyond the flags.

pub(super) const DATA: &str = "\
Examples:
  vd data synth fireworks --num 300 --frames 8 --size 32 --out videos
  vd data inspect videos
  vd data preview videos --out videos.png
  vd data prepare videos --out shards --size 64
  vd data stats shards";

pub(super) const PREPARE: &str = "\
Every video or array is read once; training then reads frames and decodes nothing:
  [data]
  source = { kind = \"shards\", path = \"DIR\" }
With the same settings it gets the very batches that SRC itself would give. Captions, tables, class
folders and the order of the clips are kept in DIR.

Pixels are stored as u8, arrays of other types as f32 with NaN where a number is missing: training sees
the numbers that it would see in SRC. --dtype f16 takes half of that and rounds; how many numbers, and
how far, is reported, and a clip with a number beyond 65504 is refused. A number that stands for none
(data.invalid) has to be told by --invalid where numbers are rounded, or scaled by --size.

DIR gets shard-00000.bin, ... (raw frames), index.jsonl, the table of the captions if there is one,
and bad.jsonl: what could not be prepared, and why. A run that was stopped (Ctrl-C) or killed goes on
where it was when it is started again; one that is started again with SRC unchanged does nothing, and
with files more, fewer or newer prepares those that are new. Other settings need another DIR.

--size covers HxW and cuts out the middle, as data.size does in training; what training would crop at
random (data.crop = \"random\") is lost then. --fps and --stride leave out frames, and make up none.

Examples:
  vd data prepare videos --out shards
  vd data prepare videos --out shards64 --size 64 --fps 8 --max-frames 128 --workers 4
  vd data prepare videos --out shards --captions captions.csv --max-bad 10
  vd data prepare radar --out shards --dtype f16 --axes nfhw --invalid -9999";

pub(super) const PREVIEW: &str = "\
SRC is a folder of videos or arrays, or one that `vd data prepare` wrote. The clips are spread evenly
over it; beside each stand its name, frames (f), height x width and caption. Each channel of an array
goes from black, its least number there, to white; what is missing is black.

Examples:
  vd data preview videos --out sheet.png
  vd data preview shards --out sheet.png --num 12 --frames 6";

pub(super) const STATS: &str = "\
SRC is a folder of videos or arrays, or one that `vd data prepare` wrote. Counts, lengths, rates and
sizes are those of all clips; pixels and numbers are those of four frames of each of --sample clips,
evenly spread, and at most 65536 of a frame.

Examples:
  vd data stats videos
  vd data stats shards --sample 1000 --json";

pub(super) const VERIFY: &str = "\
Reads every shard once, and compares each clip with the checksum that its index has. The exit status
is 1 where one differs.

Examples:
  vd data verify shards
  vd data verify shards --json";
