//! Values of signals that are stored in files.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Weights;
use vd_tensor_ops::video::from_u8;

/// The files that were read: once per signal, however many clips use them.
#[derive(Debug, Default)]
pub(crate) struct Files(HashMap<(String, String), Tensor>);

impl Files {
    /// The value that a file contains for a signal.
    pub(super) fn read(
        &mut self,
        signal: &str,
        path: &str,
        read: impl FnOnce(&Path) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let key = (signal.to_owned(), path.to_owned());
        if let Some(values) = self.0.get(&key) {
            return Ok(values.shallow_clone());
        }
        let values = read(Path::new(path))?;
        self.0.insert(key, values.shallow_clone());
        Ok(values)
    }
}

/// Whether a file contains numbers, not pictures.
pub(super) fn is_table(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    matches!(ending.as_deref(), Some("npy" | "safetensors"))
}

/// A video in any supported format, 1 c f h w.
pub(super) fn video(path: &Path, channels: i64) -> Result<Tensor> {
    if is_table(path) { tensor(path) } else { clip(path, channels) }
}

/// The only tensor of a safetensors file, c f h w with or without a leading axis for clips.
fn tensor(path: &Path) -> Result<Tensor> {
    let name = path.display();
    let is_npy = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy"));
    ensure!(
        !is_npy,
        "{name}: expected a video as .safetensors, GIF, WebP, MP4 or a folder of frames"
    );
    let mut tensors = Weights::read(path, Device::Cpu)?.tensors;
    let found = tensors.pop_first().filter(|_| tensors.is_empty());
    let (_, video) = found.ok_or_else(|| anyhow!("{name}: expected one f32 tensor"))?;
    ensure!(video.kind() == Kind::Float, "{name}: {:?} values, expected f32", video.kind());
    Ok(if video.dim() == 4 { video.f_unsqueeze(0)? } else { video })
}

fn clip(path: &Path, channels: i64) -> Result<Tensor> {
    ensure!(
        channels == 1 || channels == 3,
        "{}: videos have 1 or 3 channels, but this signal has {channels}; give a .safetensors file",
        path.display()
    );
    let clip = vd_data::decode(path, channels as usize)?;
    let shape = [clip.f, clip.h, clip.w, clip.c].map(|n| n as i64);
    let frames = Tensor::f_from_slice(&clip.frames)?.f_view(shape)?; // f h w c
    Ok(from_u8(&frames.f_permute([3, 0, 1, 2])?.f_contiguous()?.f_unsqueeze(0)?))
}
