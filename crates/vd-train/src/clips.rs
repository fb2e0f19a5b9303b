//! What the lengths of the clips mean for a run, looked at before its first step.

use vd_data::{DataConfig, Dataset, Short, Survey};

/// Warns of clips that a run can only learn from in part.
pub(crate) fn check_clips(dataset: &Dataset) {
    let Some(found) = dataset.folder().map(vd_data::survey) else { return };
    if let Some(warning) = short(dataset.config(), &found) {
        tracing::warn!("{warning}");
    }
}

/// What is said of clips that are padded.
fn short(config: &DataConfig, found: &Survey) -> Option<String> {
    let (span, looked) = (config.span(), found.lengths.len());
    let short = found.lengths.iter().filter(|n| **n < span).count();
    if short == 0 || config.short != Short::Pad {
        return None;
    }
    let of = match looked < found.clips {
        true => format!("the {looked} clips looked at (of {})", found.clips),
        false => format!("{looked} clips"),
    };
    let strided = match config.stride {
        1 => String::new(),
        stride => format!(" at data.stride = {stride} ({span} frames of a file)"),
    };
    let longest = found.lengths.iter().max().copied().unwrap_or(0);
    Some(format!(
        "{short} of {of} are shorter than data.frames = {}{strided}; their last frame is repeated \
         (data.short = \"pad\"). The longest has {longest} frames",
        config.frames,
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vd_data::{Clip, Folder, write_gif};

    /// What a look at clips of so many frames, and of such rates, finds.
    fn found(clips: &[(usize, f64)]) -> Survey {
        let dir = tempfile::tempdir().unwrap();
        for (k, (frames, fps)) in clips.iter().enumerate() {
            let pixels = (0..frames * 4 * 4 * 3).map(|i| (i * 7) as u8).collect();
            let clip = Clip::new(pixels, [*frames, 4, 4, 3], *fps).unwrap();
            write_gif(&dir.path().join(format!("{k}.gif")), &clip).unwrap();
        }
        vd_data::survey(&Folder::list(dir.path()).unwrap())
    }

    #[test]
    fn clips_shorter_than_the_config_asks_for_are_counted_where_they_are_padded() {
        let found = found(&[(3, 10.0), (5, 10.0), (9, 10.0)]);
        let config = DataConfig { frames: 6, ..DataConfig::default() };
        let said = short(&config, &found).unwrap();
        let expected = "2 of 3 clips are shorter than data.frames = 6; their last frame is repeated \
                        (data.short = \"pad\"). The longest has 9 frames";
        assert_eq!(said, expected);
        let strided =
            short(&DataConfig { frames: 5, stride: 2, ..config.clone() }, &found).unwrap();
        assert!(strided.contains("data.frames = 5 at data.stride = 2 (9 frames"), "{strided}");
        assert_eq!(short(&DataConfig { frames: 3, ..config.clone() }, &found), None);
        assert_eq!(short(&DataConfig { short: Short::Skip, ..config.clone() }, &found), None);
        let mut some = found;
        some.clips = 300;
        assert!(short(&config, &some).unwrap().starts_with("2 of the 3 clips looked at (of 300)"));
    }
}
