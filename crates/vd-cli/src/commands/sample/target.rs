//! Where clips go: a folder with a GIF each, or one GIF with all of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};
use vd_data::{Clip, write_gif};
use vd_tensor_ops::{video, write_atomically};

use super::plan::Plan;
use crate::output::Usage;

/// Pixels between clips that share a picture.
const GAP: i64 = 2;
/// Endings of files that --out does not write, and that no folder is meant to have.
const OTHER_FORMATS: [&str; 10] =
    ["mp4", "webm", "mov", "avi", "mkv", "webp", "png", "apng", "jpg", "npy"];

/// Where clips go.
#[derive(Debug)]
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

    /// Writes all clips (n c f h w, in [-1, 1]), and names the file of each.
    pub(crate) fn write(&self, videos: &Tensor, plan: &Plan, seed: u64) -> Result<Vec<PathBuf>> {
        let pixels = video::to_u8(videos);
        let n = pixels.size()[0];
        match self {
            Target::File(file) => {
                let picture = tiled(&pixels, plan.columns() as i64)?;
                write_gif(file, &Clip::from_tensor(&picture, plan.fps)?)?;
                Ok(vec![file.to_path_buf(); n as usize])
            }
            Target::Folder(folder) => (0..n)
                .map(|k| {
                    let file = folder.join(format!("seed-{seed}-clip-{k:05}.gif"));
                    write_gif(&file, &Clip::from_tensor(&pixels.f_get(k)?, plan.fps)?)?;
                    write_caption(&file.with_extension("txt"), plan.prompt(k as usize))?;
                    Ok(file)
                })
                .collect(),
        }
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

/// Clips side by side, row by row, with black between them and where the last row has none.
///
/// # Shapes
/// n c f h w -> c f H W, u8
fn tiled(clips: &Tensor, columns: i64) -> Result<Tensor> {
    let size = clips.size();
    let (n, c, f, h, w) = (size[0], size[1], size[2], size[3], size[4]);
    let columns = columns.clamp(1, n);
    let rows = (n + columns - 1) / columns;
    let (height, width) = (rows * (h + GAP) - GAP, columns * (w + GAP) - GAP);
    let picture = Tensor::f_zeros([c, f, height, width], (Kind::Uint8, clips.device()))?;
    for k in 0..n {
        let (y, x) = (k / columns * (h + GAP), k % columns * (w + GAP));
        picture.f_narrow(2, y, h)?.f_narrow(3, x, w)?.f_copy_(&clips.f_get(k)?)?;
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::Device;

    #[test]
    fn clips_stand_row_by_row_and_the_rest_is_black() {
        let clips = Tensor::arange_start(1, 3 * 2 * 2 * 3 + 1, (Kind::Uint8, Device::Cpu));
        let clips = clips.view([3, 1, 2, 2, 3]);
        let picture = tiled(&clips, 2).unwrap();
        assert_eq!(picture.size(), [1, 2, 2 + 2 + 2, 3 + 2 + 3]);
        let part = |y, x| picture.narrow(2, y, 2).narrow(3, x, 3);
        for (k, (y, x)) in [(0, 0), (0, 5), (4, 0)].into_iter().enumerate() {
            assert_eq!(part(y, x), clips.get(k as i64));
        }
        let all = picture.sum(Kind::Int64).int64_value(&[]);
        assert_eq!(all, clips.sum(Kind::Int64).int64_value(&[]));
    }

    #[test]
    fn a_file_is_a_gif_and_everything_else_a_folder() {
        assert!(matches!(Target::of(Path::new("a/b.GIF")).unwrap(), Target::File(_)));
        assert!(matches!(Target::of(Path::new("a/step.12")).unwrap(), Target::Folder(_)));
        let error = Target::of(Path::new("clip.mp4")).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("FILE.gif"));
    }
}
