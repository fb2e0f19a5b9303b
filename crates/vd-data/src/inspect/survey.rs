//! How long the clips of a folder are and how fast, as far as that is cheap to know.

use super::for_all;
use crate::decode::{Media, Probe};
use crate::folder::{Entry, Folder};

/// Video files that are opened; where there are more, these lie evenly among all.
const OPENED: usize = 32;

/// What a look at the clips of a folder found, without decoding any.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Survey {
    /// Clips of the folder.
    pub clips: usize,
    /// Frames of each clip that was looked at.
    pub lengths: Vec<usize>,
    /// Frames per second of each of them that has a rate, ascending: folders of images and arrays
    /// have none.
    pub rates: Vec<f64>,
}

impl Survey {
    /// The median of the rates, a function of the folder alone.
    pub fn median_rate(&self) -> Option<f64> {
        self.rates.get(self.rates.len().saturating_sub(1) / 2).copied()
    }
}

/// Looks at all clips whose length is known once the folder is listed, and at no more than 32 video
/// files; a file that cannot be read is passed over.
pub fn survey(folder: &Folder) -> Survey {
    let mut found = Survey { clips: folder.entries().len(), lengths: vec![], rates: vec![] };
    let mut files: Vec<&Entry> = Vec::new();
    for entry in folder.entries() {
        match &entry.media {
            Media::Frames { files, .. } => found.lengths.push(files.len()),
            Media::Array(array) => found.lengths.push(array.probe().f),
            Media::Packed(packed) => found.note(packed.probe().ok()),
            Media::File(_) => files.push(entry),
        }
    }
    let opened = files.len().min(OPENED);
    let chosen: Vec<Entry> = (0..opened).map(|k| files[k * files.len() / opened].clone()).collect();
    for probe in for_all(&chosen, &|media: &Media| media.probe()) {
        found.note(probe.ok());
    }
    found.rates.sort_by(f64::total_cmp);
    found
}

impl Survey {
    fn note(&mut self, probe: Option<Probe>) {
        let Some(probe) = probe else { return };
        self.lengths.push(probe.f);
        // one frame has no rate
        if probe.f > 1 {
            self.rates.push(probe.fps);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Clip, write_gif};

    #[test]
    fn lengths_and_rates_are_those_of_the_files_and_a_large_folder_is_sampled_evenly() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: String, frames: usize, fps: f64| {
            let pixels = (0..frames * 4 * 4 * 3).map(|i| (i * 7) as u8).collect();
            let clip = Clip::new(pixels, [frames, 4, 4, 3], fps).unwrap();
            write_gif(&dir.path().join(name), &clip).unwrap();
        };
        for (k, (frames, fps)) in [(3, 10.0), (5, 25.0), (1, 50.0), (4, 20.0)].iter().enumerate() {
            write(format!("{k}.gif"), *frames, *fps);
        }
        std::fs::write(dir.path().join("9.gif"), b"GIF89a\x04\0\x04\0\0\0\0").unwrap();
        let found = survey(&Folder::list(dir.path()).unwrap());
        // The damaged one is no clip of the folder.
        assert_eq!((found.clips, found.lengths.as_slice()), (4, [3, 5, 1, 4].as_slice()));
        assert_eq!(
            (found.rates.as_slice(), found.median_rate()),
            (&[10.0, 20.0, 25.0][..], Some(20.0))
        );
        for k in 10..50 {
            write(format!("{k}.gif"), 2, 10.0);
        }
        let found = survey(&Folder::list(dir.path()).unwrap());
        assert_eq!((found.clips, found.lengths.len()), (44, OPENED));
        assert_eq!(found.lengths.iter().filter(|n| **n == 2).count(), OPENED - 3);
    }
}
