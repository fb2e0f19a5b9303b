//! Where clips go: a folder with a GIF each, or one GIF with all of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tch::Tensor;
use vd_data::{Clip, tile, write_gif};
use vd_tensor_ops::write_atomically;

use super::plan::Plan;
use crate::commands::drawing::Left;
use crate::output::Usage;

/// Endings of files that --out does not write, and that no folder is meant to have.
const OTHER_FORMATS: [&str; 10] =
    ["mp4", "webm", "mov", "avi", "mkv", "webp", "png", "apng", "jpg", "npy"];

/// Where clips go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    File(&'a Path),
    Folder(&'a Path),
}

impl<'a> Target<'a> {
    pub(crate) fn of(out: &'a Path) -> Result<Self> {
        let ending = out.extension().map(|e| e.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("gif") if !out.is_dir() => Ok(Target::File(out)),
            Some(other) if OTHER_FORMATS.contains(&other) && !out.is_dir() => {
                let out = out.display();
                Err(Usage(format!(
                    "--out {out}: clips are written as GIF; give FILE.gif or a folder"
                ))
                .into())
            }
            _ => Ok(Target::Folder(out)),
        }
    }

    /// Makes the folders.
    pub(crate) fn prepare(&self) -> Result<()> {
        let folder = match self {
            Target::Folder(folder) => *folder,
            Target::File(file) => match file.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => return Ok(()),
            },
        };
        if folder.is_file() {
            bail!("--out {}: is a file, expected a folder", folder.display());
        }
        fs::create_dir_all(folder).with_context(|| format!("--out {}", folder.display()))
    }

    /// Takes clips (n c f h w, u8) in their order; a folder gets each at once.
    pub(crate) fn writer(&self, plan: &'a Plan, seed: u64) -> Writer<'a> {
        Writer { target: *self, plan, seed, files: Vec::new(), together: Vec::new() }
    }
}

/// Clips on their way to the disk.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    target: Target<'a>,
    plan: &'a Plan,
    seed: u64,
    /// The file of each clip.
    files: Vec<PathBuf>,
    /// Those that share a picture.
    together: Vec<Tensor>,
}

impl Writer<'_> {
    pub(crate) fn add(&mut self, clips: Tensor) -> Result<()> {
        let Target::Folder(folder) = self.target else {
            self.together.push(clips);
            return Ok(());
        };
        for k in 0..clips.size()[0] {
            let clip = self.files.len();
            let seed = self.plan.seed(clip).unwrap_or(self.seed);
            let file = folder.join(format!("seed-{seed}-clip-{clip:05}.gif"));
            write_gif(&file, &Clip::from_tensor(&clips.f_get(k)?, self.plan.fps)?)?;
            write_caption(&file.with_extension("txt"), self.plan.prompt(clip).as_deref())?;
            self.files.push(file);
        }
        Ok(())
    }

    /// The files of those clips that have one each, so far.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What there is of the clips, if they end here.
    pub(crate) fn left(&self) -> Left<'_> {
        let (Target::File(out) | Target::Folder(out)) = self.target;
        Left { out, done: self.files.len(), of: self.plan.clips(), noun: "clip" }
    }

    /// The file of each clip.
    pub(crate) fn finish(self) -> Result<Vec<PathBuf>> {
        let Target::File(file) = self.target else { return Ok(self.files) };
        let clips = Tensor::f_cat(&self.together, 0)?;
        let picture = tile(&clips, self.plan.columns())?;
        write_gif(file, &Clip::from_tensor(&picture, self.plan.fps)?)?;
        Ok(vec![file.to_path_buf(); clips.size()[0] as usize])
    }
}

/// Writes the prompt beside its clip; without one, takes an older clip's away.
fn write_caption(path: &Path, prompt: Option<&str>) -> Result<()> {
    if let Some(prompt) = prompt {
        return Ok(write_atomically(path, format!("{prompt}\n").as_bytes())?);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_a_gif_and_everything_else_a_folder() {
        assert!(matches!(Target::of(Path::new("a/b.GIF")).unwrap(), Target::File(_)));
        assert!(matches!(Target::of(Path::new("a/step.12")).unwrap(), Target::Folder(_)));
        let error = Target::of(Path::new("clip.mp4")).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("FILE.gif"));
    }
}
