//! Writes clips as MP4, through ffmpeg.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use vd_tensor_ops::write_atomically_with;

use crate::process::Process;
use crate::{Clip, Error, Ffmpeg, Result};

/// The longest time that encoding may take after the last frame, while many frames are still in the
/// encoder.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Height and width of a clip's MP4: even, because colours are stored for squares of four pixels.
pub fn mp4_size([h, w]: [usize; 2]) -> [usize; 2] {
    [h, w].map(|side| side.next_multiple_of(2))
}

/// Writes a clip as an MP4 that any player supports: H.264, 4:2:0, rate factor 18, its index at the
/// front.
///
/// An odd height or width is extended by repeating the last row or column: see [`mp4_size`]. The
/// compression is lossy: pixels change slightly.
///
/// # Errors
/// When there is no ffmpeg, when it lacks the encoder, or when the file cannot be written.
pub fn write_mp4(path: &Path, clip: &Clip) -> Result<()> {
    clip.check()?;
    let tools = Ffmpeg::find().map_err(|why| Error::NeedsFfmpeg {
        path: path.to_path_buf(),
        format: "MP4",
        why: format!("{why}; or write a GIF or an animated WebP, which need no ffmpeg"),
    })?;
    // The index is moved to the front at the end, which needs a seekable file.
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let whole = tempfile::Builder::new()
        .prefix(".vd-")
        .suffix(".tmp")
        .tempfile_in(folder)
        .map_err(|e| Error::write(path, e))?;
    let failed = |detail: String| Error::Ffmpeg { path: path.to_path_buf(), detail };
    let mut process = Process::start(&mut command(tools, clip, whole.path())?, PATIENCE)
        .map_err(|e| failed(format!("could not be started: {e}")))?;
    let fed = match process.input() {
        Some(mut input) => feed(&mut input, clip),
        None => Ok(()),
    };
    let (status, said) = process.finish().map_err(|e| failed(e.to_string()))?;
    if !status.success() {
        let said = said.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>();
        let said = if said.is_empty() { status.to_string() } else { said.join("; ") };
        return Err(failed(format!("could not encode it: {said}")));
    }
    fed.map_err(|e| Error::write(path, e))?;
    let mut file = std::fs::File::open(whole.path()).map_err(|e| Error::write(path, e))?;
    write_atomically_with(path, |out| {
        std::io::copy(&mut file, out)
            .map(drop)
            .map_err(|source| vd_tensor_ops::Error::Io { path: path.to_path_buf(), source })
    })
    .map_err(|e: vd_tensor_ops::Error| super::unwritten(path, e))
}

fn command(tools: &Ffmpeg, clip: &Clip, into: &Path) -> Result<Command> {
    let [h, w] = mp4_size([clip.h, clip.w]);
    let mut command = Command::new(&tools.ffmpeg);
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]);
    let format = if clip.c == 1 { "gray" } else { "rgb24" };
    command.args(["-f", "rawvideo", "-pix_fmt", format, "-s", &format!("{w}x{h}")]);
    command.args(["-r", &clip.fps.to_string(), "-i", "pipe:0"]);
    // Players guess the colour matrix of unmarked files from their size, so this one is marked.
    let scale = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int";
    command.args(["-vf", scale, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-crf", "18"]);
    command.args(["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]);
    command.args(["-color_range", "tv", "-movflags", "+faststart", "-bitexact", "-f", "mp4"]);
    let mut name = std::ffi::OsString::from("file:");
    name.push(std::path::absolute(into).map_err(|e| Error::write(into, e))?);
    command.arg(name).stdin(Stdio::piped()).stdout(Stdio::null());
    Ok(command)
}

/// Writes the frames; odd sides are made even by repeating the last pixels.
fn feed(input: &mut impl Write, clip: &Clip) -> std::io::Result<()> {
    let row = clip.w * clip.c;
    let mut frame = Vec::new();
    for index in 0..clip.f {
        frame.clear();
        for pixels in clip.frame(index).chunks_exact(row) {
            frame.extend_from_slice(pixels);
            if clip.w % 2 == 1 {
                frame.extend_from_slice(&pixels[row - clip.c..]);
            }
        }
        if clip.h % 2 == 1 {
            let last = frame.len() - row.next_multiple_of(2 * clip.c);
            frame.extend_from_within(last..);
        }
        input.write_all(&frame)?;
    }
    input.flush()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_side_repeats_its_last_pixels() {
        let clip = Clip::new((1..=18).collect(), [2, 3, 3, 1], 8.0).unwrap();
        let mut fed = Vec::new();
        feed(&mut fed, &clip).unwrap();
        let first = [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 7, 8, 9, 9];
        assert_eq!((fed.len(), &fed[..16]), (32, &first[..]));
        let clip = Clip::new((1..=18).collect(), [1, 3, 2, 3], 8.0).unwrap();
        fed.clear();
        feed(&mut fed, &clip).unwrap();
        assert_eq!((fed.len(), &fed[18..]), (24, &[13, 14, 15, 16, 17, 18][..]));
        assert_eq!(mp4_size([3, 2]), [4, 2]);
    }
}
