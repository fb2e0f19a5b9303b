//! Checks before the first step, so that a run does not fail in the middle.

use std::path::Path;

use vd_data::{Dataset, Folder};
use vd_text_cond::{EncoderConfig, TextEncoder};

use crate::checkpoint::{Use, newest_unwarned};
use crate::event::Resume;
use crate::preview::prompts;
use crate::{Error, Result, RunConfig};

/// Refuses to start where another run has left checkpoints.
pub(crate) fn check_room(out: &Path, resume: Resume) -> Result<()> {
    if resume == Resume::Newest {
        return Ok(());
    }
    if let Some(found) = newest_unwarned(out, Use::Resume)? {
        let step = found.step().unwrap_or(0);
        return Err(Error::WouldOverwrite { out: out.to_path_buf(), step });
    }
    match newest_unwarned(out, Use::Sample)? {
        Some(found) => {
            let what = "holds the weights of an earlier run, which cannot be resumed without its \
                        optimizer.safetensors, its state.json and, where train.uncertainty is on, \
                        its uncertainty.safetensors; choose another train.out";
            Err(Error::checkpoint(&found.dir, what))
        }
        None => Ok(()),
    }
}

/// Reports captions and prompts that the encoder, if there is one, refuses, and warns if there are
/// no captions to learn from.
pub(crate) fn check_captions(
    config: &RunConfig,
    dataset: &Dataset,
    encoder: Option<&dyn TextEncoder>,
) -> Result<()> {
    let (Some(text), Some(encoder)) = (&config.text, encoder) else { return Ok(()) };
    if lacks_captions(dataset) {
        tracing::warn!(
            "no clip in data.source.path has a caption: only the null embedding is trained, and \
             prompts will have no effect; add captions, or remove [text]"
        );
    } else {
        let clips = dataset.folder().and_then(|folder| without_caption(folder, "clips"));
        let images = dataset.image_folder().and_then(|folder| without_caption(folder, "images"));
        for warning in [clips, images].into_iter().flatten() {
            tracing::warn!("{warning}");
        }
    }
    for folder in dataset.folder().into_iter().chain(dataset.image_folder()) {
        let mut captions = folder.entries().iter().filter_map(|entry| entry.caption.as_deref());
        captions.try_for_each(|caption| encoder.check(caption))?;
    }
    if config.train.preview_every == 0 {
        return Ok(());
    }
    // Getting a generator's captions means drawing its clips, so do it only if the encoder may not
    // know them.
    let shown = match matches!(text.encoder, EncoderConfig::File { .. }) {
        true => prompts(config, dataset)?,
        false => config.train.preview_prompts.clone(),
    };
    Ok(shown.iter().try_for_each(|prompt| encoder.check(prompt))?)
}

/// What is said of entries that have no caption where others do.
fn without_caption(folder: &Folder, what: &str) -> Option<String> {
    let all = folder.entries().len();
    let missing = folder.entries().iter().filter(|entry| entry.caption.is_none()).count();
    (missing > 0).then(|| {
        format!("{missing} of {all} {what} have no caption and are trained with the null embedding")
    })
}

/// Whether the clips are of a folder and none has a caption, nor any image beside them.
fn lacks_captions(dataset: &Dataset) -> bool {
    let none = |folder: &Folder| folder.entries().iter().all(|entry| entry.caption.is_none());
    let generated = dataset.config().images.as_ref().and_then(|images| images.source.as_ref());
    let images = match dataset.image_folder() {
        Some(folder) => none(folder),
        None => generated.is_none(),
    };
    dataset.folder().is_some_and(none) && images
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vd_data::{Clip, DataConfig, Source, write_gif};

    /// A model without weights to read.
    fn no_weights(at: &Path) {
        let own = vd_torch::testing::folder(env!("CARGO_MANIFEST_DIR"));
        let bert = own.join("../vd-text-cond/tests/encoders/bert");
        for name in ["config.json", "tokenizer.json"] {
            std::fs::copy(bert.join(name), at.join(name)).unwrap();
        }
        // The shortest safetensors file: an empty header of two bytes.
        std::fs::write(at.join("model.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    }

    #[test]
    fn captions_and_prompts_that_are_too_long_are_found_without_running_the_model() {
        let (model, clips) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        no_weights(model.path());
        let frames = (0..3 * 8 * 8 * 3).map(|i| (i * 7) as u8).collect();
        let clip = Clip::new(frames, [3, 8, 8, 3], 10.0).unwrap();
        write_gif(&clips.path().join("a.gif"), &clip).unwrap();
        let long = "red ".repeat(60);
        let checked = |caption: &str, prompt: &str, truncate: bool| {
            std::fs::write(clips.path().join("a.txt"), caption).unwrap();
            let text = format!(
                "[data]\nsource = {{ kind = \"folder\", path = {:?} }}\nframes = 3\nsize = [8, 8]\n\
                 [text]\nencoder = {{ kind = \"pretrained\", path = {:?}, truncate = {truncate} }}\n\
                 [train]\nout = \"unused\"\npreview_every = 10\npreview_prompts = [{prompt:?}]\n",
                clips.path(),
                model.path(),
            );
            let config: RunConfig = toml::from_str(&text).unwrap();
            let dataset = Dataset::open(&config.data).unwrap();
            let encoder = config.text.as_ref().unwrap().encoder.build().unwrap();
            let checked = check_captions(&config, &dataset, Some(encoder.as_ref()));
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(checked("gold", "red", false), Ok(()));
        assert!(checked(&long, "red", false).unwrap_err().contains("62 tokens"));
        assert!(checked("gold", &long, false).unwrap_err().contains("62 tokens"));
        assert_eq!(checked(&long, &long, true), Ok(()));
    }

    #[test]
    fn a_folder_lacks_captions_where_no_clip_has_one_and_a_generator_never_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        for (k, name) in [5, 11].into_iter().zip(["a.gif", "b.gif"]) {
            let frames = (0..3 * 8 * 8 * 3).map(|i| (i * k) as u8).collect();
            write_gif(&path.join(name), &Clip::new(frames, [3, 8, 8, 3], 10.0).unwrap()).unwrap();
        }
        let config = DataConfig { frames: 3, size: [8, 8], workers: 0, ..DataConfig::default() };
        let folder = DataConfig { source: Source::folder(path.clone()), ..config.clone() };
        assert!(lacks_captions(&Dataset::open(&folder).unwrap()));
        std::fs::write(path.join("b.txt"), "a moving pattern").unwrap();
        let dataset = Dataset::open(&folder).unwrap();
        assert!(!lacks_captions(&dataset));
        let said = without_caption(dataset.folder().unwrap(), "clips").unwrap();
        assert_eq!(said, "1 of 2 clips have no caption and are trained with the null embedding");
        std::fs::write(path.join("a.txt"), "another pattern").unwrap();
        let dataset = Dataset::open(&folder).unwrap();
        assert_eq!(without_caption(dataset.folder().unwrap(), "clips"), None);
        assert!(!lacks_captions(&Dataset::open(&config).unwrap()));
    }
}
