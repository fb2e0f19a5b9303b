//! What the help texts of the commands that take a video say beyond the flags.

/// What a command does, what all that take a video have in common, and examples.
macro_rules! held {
    ($text:literal, $examples:literal) => {
        concat!(
            $text,
            "

VIDEO is a GIF, APNG, animated WebP, MP4, MOV, WebM, MKV or AVI (the last five through ffmpeg), or a
folder of PNG, JPEG or WebP frames; of a model of arrays it is an array, and so is FILE (.npy or
.safetensors). It may stand before CHECKPOINT as well as behind it. The model draws --window frames
at a time; a longer video is drawn in windows, each of which goes on from frames of those before.

What is known is replaced at every step by itself with as much noise as the rest has, and a
gradient pulls the rest towards it (reconstruction guidance). --weight is the w_r of the paper; 0
takes no gradient and is faster. Known pixels come back as they are: FILE.gif holds 256 of
their colours a frame, FILE.mp4 comes near them, all other formats hold all. With --no-replace the
pixels of a part of a frame are drawn like the others; whole known frames (extend, interpolate,
upscale --time) are copied all the same. With --json, \"exact\" says whether all came back: null
where none is held.

--prompt \"A -> B\" goes from A at the first frame of the result to B at its last; values of --signal
that are a number or vector for each frame, or a video, have the frames of the result. Both are as
in `vd sample --help`.

FILE.gif is written at the end, and shows at most 50 frames per second (FILE.webp 90). A folder of
frames gets each as soon as it is final: one that was broken off holds the frames up to there.
--format adds files beside FILE; with --out NAME, which has no ending, they are NAME.webp and so on.

Examples:
",
            $examples
        )
    };
}

pub(super) const EXTEND: &str = held!(
    "\
The video goes on to --frames frames. Each window begins with half a window of known frames; other
plans are
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
K - 1 frames are drawn between any two, and the frame rate is K times that of the video. Where a
window does not reach from one to the next, frames further apart are drawn first.",
    "  vd interpolate runs/first clip.gif --out smooth.gif
  vd interpolate runs/first keyframes --factor 4 --fps 8 --out film.gif"
);

pub(super) const INPAINT: &str = held!(
    "\
--mask is of the size of the frames; what is white in it (128 or brighter of 255) is drawn, what is
black stays. A mask that moves is a video of as many frames. What is missing from an array is drawn in
any case, and with --missing that alone.",
    "  vd inpaint runs/first clip.gif --mask hole.png --out whole.gif
  vd inpaint runs/first clip.gif --box 8,8,16,16 --weight 5 --out whole.gif
  vd inpaint runs/radar scan.npy --missing --out whole.npy"
);

pub(super) const UPSCALE: &str = held!(
    "\
The model draws at its own size, or at --size, which is a whole multiple of the video's. No pixel
of a smaller video is a pixel of the larger one: it acts by the gradient alone, so --weight has to
be above 0, and the mean of each square comes near its pixel and is not the same. By default it is
the square of the factor; from about twice that on it overshoots, and colours break.

With --time the frames between are drawn too.",
    "  vd upscale runs/first small.gif --out large.gif
  vd upscale runs/first small.gif --time 2 --out large.gif
  vd upscale runs/first small.gif --size 64 --down bilinear --out large.gif"
);
