//! What the help texts of the commands that take a video say beyond the flags.

/// What a command does, what all that take a video have in common, and examples.
macro_rules! held {
    ($text:literal, $examples:literal) => {
        concat!(
            $text,
            "

VIDEO is a GIF, APNG, animated WebP, MP4, MOV, WebM, MKV or AVI (the last five through ffmpeg), or a
folder of PNG, JPEG or WebP frames. For a model of arrays, VIDEO and FILE are arrays (.npy or
.safetensors). VIDEO may be given before or after CHECKPOINT. The model draws --window frames at
once; a longer video is drawn in windows, each of which continues from frames of earlier ones.

At every step, known pixels are replaced by their own values with as much noise as the rest has, and
a gradient pulls the rest towards them (reconstruction guidance). --weight is the w_r of the paper; 0
computes no gradient and is faster. Known pixels are preserved exactly, except in FILE.gif, which
holds 256 colours per frame, and FILE.mp4, which is lossy. With --no-replace, the known pixels of
partly known frames are drawn like the others; whole known frames (extend, interpolate,
upscale --time) are still copied. With --json, \"exact\" reports whether all known pixels are
preserved: null if none are held.

--prompt \"A -> B\" moves from A at the first frame of the result to B at its last; values of --signal
given per frame (numbers, vectors, videos) must have as many frames as the result. Both are as in
`vd sample --help`.

FILE.gif is written at the end, and shows at most 50 frames per second (FILE.webp 90). A folder gets
each frame as soon as it is final; after an interruption it holds the frames drawn so far.
--format adds files beside FILE; with --out NAME, without an extension, they are NAME.webp and so on.

Examples:
",
            $examples
        )
    };
}

pub(super) const EXTEND: &str = held!(
    "\
Continues the video to --frames frames. By default each window begins with half a window of known
frames; other plans are
  autoregressive   '{kind=\"autoregressive\", overlap=2}': each begins with 2 known frames
  sliding          '{kind=\"sliding\", step=4}': one begins at every fourth frame
  hierarchical     '{kind=\"hierarchical\", strides=[4, 1], overlap=1}': every fourth frame first,
                   then those between",
    "  vd extend runs/first clip.gif --frames 40 --out long.gif
  vd extend runs/first clip.gif --prompt \"a red firework\" --cfg-scale 2 --out longer.gif
  vd extend runs/first clip.gif --frames 100 --plan '{kind=\"autoregressive\", overlap=2}' \\
      --steps 20 --out frames"
);

pub(super) const INTERPOLATE: &str = held!(
    "\
Draws K - 1 frames between any two, at K times the video's frame rate. If a window does not reach
from one known frame to the next, frames further apart are drawn first.",
    "  vd interpolate runs/first clip.gif --out smooth.gif
  vd interpolate runs/first keyframes --factor 4 --fps 8 --out film.gif"
);

pub(super) const INPAINT: &str = held!(
    "\
--mask has the size of the frames; its white pixels (128 or brighter of 255) are drawn, its black ones
kept. A moving mask is a video with as many frames. Missing numbers of an array are always drawn; with
--missing, only those are.",
    "  vd inpaint runs/first clip.gif --mask hole.png --out whole.gif
  vd inpaint runs/first clip.gif --box 8,8,16,16 --weight 5 --out whole.gif
  vd inpaint runs/radar scan.npy --missing --out whole.npy"
);

pub(super) const UPSCALE: &str = held!(
    "\
The model draws at its own size, or at --size, an integer multiple of the video's. No pixel of the
small video is a pixel of the large one: it acts only through the gradient, so --weight must be above
0, and the mean of each square is close to its pixel but not equal to it. --weight is the square of
the factor by default; from about twice that value on, guidance overshoots and colours break.

With --time, the frames between are drawn too.",
    "  vd upscale runs/first small.gif --out large.gif
  vd upscale runs/first small.gif --time 2 --out large.gif
  vd upscale runs/first small.gif --size 64 --down bilinear --out large.gif"
);
