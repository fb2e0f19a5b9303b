//! The formats and paths of results, from --out and --format together.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use vd_data::{Clip, ClipFormat, Ffmpeg, mp4_size};

use crate::output::Usage;

/// File extensions that --out does not support, and that no folder is likely to have.
const OTHER_FORMATS: [&str; 8] = ["webm", "mov", "avi", "mkv", "m4v", "png", "apng", "jpg"];

/// One result in one or more formats, each with its path.
pub(crate) type Files = Vec<(ClipFormat, PathBuf)>;

/// The files of one result if --out names a file; `None` if it names a folder.
pub(crate) fn of_file(out: &Path, formats: &[ClipFormat]) -> Result<Option<Files>> {
    let name = out.display();
    let ending = out.extension().map(|e| e.to_string_lossy().to_lowercase());
    let other = ending.as_deref().is_some_and(|ending| OTHER_FORMATS.contains(&ending));
    let Some(named) = ClipFormat::of_name(out).filter(|_| !out.is_dir()) else {
        if other && !out.is_dir() {
            return Err(Usage(format!(
                "--out {name}: give FILE.gif, .webp, .mp4, .npy or .safetensors, or a folder \
                 (--format png writes frames to it)"
            ))
            .into());
        }
        return Ok(None);
    };
    if !formats.is_empty() && !formats.contains(&named) {
        return Err(Usage(format!(
            "--out {name}: its extension matches none of --format; omit --format, or add {} to it",
            named.name()
        ))
        .into());
    }
    let stem = out.with_extension("");
    let mut files = vec![(named, out.to_path_buf())];
    let others = formats.iter().filter(|format| **format != named);
    files.extend(others.map(|format| (*format, format.path(&stem))));
    Ok(Some(files))
}

/// Refuses formats that cannot be written, before anything is sampled.
pub(crate) fn check(formats: impl Iterator<Item = ClipFormat>) -> Result<()> {
    for format in formats {
        if let (ClipFormat::Mp4, Err(why)) = (format, Ffmpeg::find()) {
            bail!("writing MP4 needs ffmpeg: {why}; GIF and WebP do not");
        }
    }
    Ok(())
}

/// Creates a folder, or the parent of a file.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_file() {
        bail!("--out {}: is a file, expected a folder", folder.display());
    }
    fs::create_dir_all(folder).with_context(|| format!("--out {}", folder.display()))
}

/// Creates the parent folders of files.
pub(crate) fn make_folders_of(files: &[(ClipFormat, PathBuf)]) -> Result<()> {
    let folders = files.iter().filter_map(|(_, file)| file.parent());
    folders.filter(|folder| !folder.as_os_str().is_empty()).try_for_each(make_folder)
}

/// Writes a clip in a format, at the rate that the format supports.
pub(crate) fn write(format: ClipFormat, path: &Path, clip: &Clip, asked: f64) -> Result<()> {
    Ok(format.write(path, &at_rate(format, clip, asked))?)
}

/// The clip at the rate at which a format shows it.
pub(crate) fn at_rate(format: ClipFormat, clip: &Clip, asked: f64) -> Clip {
    let mut clip = clip.clone();
    clip.fps = format.fps(asked);
    clip
}

/// Reports rates that differ from the requested one.
pub(crate) fn announce_rates(formats: impl Iterator<Item = ClipFormat>, asked: f64) {
    for format in formats {
        let held = format.fps(asked);
        if held != asked {
            let kind = if format == ClipFormat::WebP { "an animated WebP" } else { "a GIF" };
            tracing::warn!(
                "{asked} frames per second: {kind} cannot store this rate; it is shown at {held}"
            );
        }
    }
}

/// Reports that an MP4 has more pixels than were sampled.
pub(crate) fn announce_padding(format: ClipFormat, clip: &Clip) {
    let [h, w] = mp4_size([clip.h, clip.w]);
    if format == ClipFormat::Mp4 && [h, w] != [clip.h, clip.w] {
        tracing::info!(
            "MP4 needs even sides: {}x{} is written as {h}x{w}, the last row or column repeated",
            clip.h,
            clip.w
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ClipFormat::{Gif, Mp4, Npy, Png, WebP};

    fn files(out: &str, formats: &[ClipFormat]) -> Option<Vec<(ClipFormat, String)>> {
        let files = of_file(Path::new(out), formats).unwrap();
        files.map(|f| f.into_iter().map(|(a, b)| (a, b.display().to_string())).collect())
    }

    #[test]
    fn an_ending_names_a_file_and_other_formats_stand_beside_it() {
        let named = |format, path: &str| (format, path.to_owned());
        assert_eq!(files("a/b.GIF", &[]), Some(vec![named(Gif, "a/b.GIF")]));
        assert_eq!(files("a/step.12", &[]), None);
        assert_eq!(files("clips", &[WebP]), None);
        let all = vec![
            named(Mp4, "a/b.mp4"),
            named(Gif, "a/b.gif"),
            named(Png, "a/b"),
            named(Npy, "a/b.npy"),
        ];
        assert_eq!(files("a/b.mp4", &[Gif, Mp4, Png, Npy]), Some(all));
    }

    #[test]
    fn endings_that_are_not_written_and_contradictions_are_refused() {
        for (out, formats, expected) in
            [("clip.mov", &[][..], "FILE.gif"), ("clip.gif", &[Mp4], "none of --format")]
        {
            let error = of_file(Path::new(out), formats).unwrap_err();
            assert!(error.is::<Usage>() && error.to_string().contains(expected), "{error}");
        }
    }
}
