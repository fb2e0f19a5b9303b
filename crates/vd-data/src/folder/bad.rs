//! Files that cannot be used.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The text between the name of a file that needs ffmpeg and the missing part.
const NEEDS: &str = ", which is read through ffmpeg: ";

/// A file that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl BadFile {
    /// The reasons for some files, one line each, for people to read; files that fail because
    /// ffmpeg is missing share one line.
    pub fn lines(bad: &[Self]) -> Vec<String> {
        const NAMED: usize = 5;
        let reason = |bad: &Self| bad.reason.clone();
        let need: Vec<_> =
            bad.iter().filter_map(|bad| Some((bad, bad.reason.split_once(NEEDS)?.1))).collect();
        if need.len() < 2 {
            return bad.iter().map(reason).collect();
        }
        let names: Vec<_> =
            need.iter().take(NAMED).map(|(bad, _)| bad.path.display().to_string()).collect();
        let more = need.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let line = format!(
            "{} videos are read through ffmpeg: {}; {}{more}",
            need.len(),
            need[0].1,
            names.join(", ")
        );
        let others = bad.iter().filter(|bad| !bad.reason.contains(NEEDS)).map(reason);
        std::iter::once(line).chain(others).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn files_that_need_ffmpeg_share_one_line() {
        let needs = |k: usize| {
            let path = PathBuf::from(format!("{k}.mp4"));
            let why = "there is none".to_owned();
            let error = Error::NeedsFfmpeg { path: path.clone(), format: "MP4 or MOV", why };
            BadFile { path, reason: error.to_string() }
        };
        let other = BadFile { path: "a.gif".into(), reason: "a.gif: damaged".to_owned() };
        let mut bad: Vec<_> = (0..7).map(needs).collect();
        bad.insert(3, other.clone());
        let line = "7 videos are read through ffmpeg: there is none; 0.mp4, 1.mp4, 2.mp4, 3.mp4, \
                    4.mp4 and 2 more";
        assert_eq!(BadFile::lines(&bad), [line, "a.gif: damaged"]);
        let alone = "0.mp4: is MP4 or MOV, which is read through ffmpeg: there is none";
        assert_eq!(BadFile::lines(&[needs(0), other]), [alone, "a.gif: damaged"]);
        assert!(BadFile::lines(&[]).is_empty());
    }
}
