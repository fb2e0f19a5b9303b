//! What the lengths of the clips mean for a run, looked at before its first step.

use vd_data::{DataConfig, Dataset, Short, Survey};

/// How far the rates of clips may be from each other.
const ALIKE: f64 = 1.1;

/// Warns of clips that are padded and of rates that differ. Returns the frames per second of what a run
/// learns: the median over the folder, so that it depends on no seed; `None` where no rate is known.
pub(crate) fn check_clips(dataset: &Dataset) -> Option<f64> {
    let found = vd_data::survey(dataset.folder()?);
    let config = dataset.config();
    for warning in [short(config, &found), rates(&found)].into_iter().flatten() {
        tracing::warn!("{warning}");
    }
    found.median_rate().map(|rate| rate / config.stride as f64)
}

/// What is said of clips of unlike rates: a stride takes each as it is.
fn rates(found: &Survey) -> Option<String> {
    let (slow, fast) = (found.rates.first()?, found.rates.last()?);
    if *fast <= slow * ALIKE {
        return None;
    }
    let median = found.median_rate()?;
    Some(format!(
        "the clips have {} to {} frames per second (the median is {}), so the same \
         motion is learned at different speeds; `vd data prepare` with --fps brings them to one rate",
        brief(*slow),
        brief(*fast),
        brief(median),
    ))
}

/// At most two decimals, none where they are 0.
fn brief(rate: f64) -> String {
    let text = format!("{rate:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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

    #[test]
    fn rates_that_differ_are_named_and_the_median_holds_for_the_run() {
        let said = rates(&found(&[(3, 10.0), (4, 25.0), (3, 12.5)])).unwrap();
        assert!(said.starts_with("the clips have 10 to 25 frames per second (the median is 12.5)"));
        assert!(said.contains("--fps"), "{said}");
        assert_eq!(rates(&found(&[(3, 10.0), (4, 10.0)])), None);
        assert_eq!(rates(&found(&[])), None);
        let dir = tempfile::tempdir().unwrap();
        for (k, fps) in [25.0, 10.0, 12.5].into_iter().enumerate() {
            let pixels = (0..3 * 4 * 4 * 3).map(|i| (i * 7) as u8).collect();
            let clip = Clip::new(pixels, [3, 4, 4, 3], fps).unwrap();
            write_gif(&dir.path().join(format!("{k}.gif")), &clip).unwrap();
        }
        let source = vd_data::Source::folder(dir.path());
        let config = DataConfig { source, stride: 2, frames: 2, ..DataConfig::default() };
        assert_eq!(check_clips(&Dataset::open(&config).unwrap()), Some(6.25));
        assert_eq!(check_clips(&Dataset::open(&DataConfig::default()).unwrap()), None);
    }
}
