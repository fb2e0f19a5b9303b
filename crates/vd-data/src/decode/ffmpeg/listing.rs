//! ffprobe's output about packets and streams, line by line.

use std::path::Path;

use crate::{Error, Result};

/// The maximum number of packets in one file.
const MAX_PACKETS: usize = 1 << 26;

/// One coded frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Packet {
    /// When it is shown, in seconds.
    pub(super) time: f64,
    /// For how long it is shown, if stated.
    pub(super) duration: Option<f64>,
    /// Whether all later frames can be decoded without anything before it.
    pub(super) key: bool,
}

/// What is known of the stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stream {
    pub(super) h: u32,
    pub(super) w: u32,
    /// Degrees by which frames are rotated when they are shown.
    pub(super) rotation: f64,
    /// Frames per second, on average.
    pub(super) rate: Option<f64>,
}

/// Everything reported up to now.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) packets: Vec<Packet>,
    pub(super) stream: Option<Stream>,
    /// Whether some packet has no presentation time.
    pub(super) untimed: bool,
    /// The number of frames, if they had to be counted by decoding.
    pub(super) counted: Option<usize>,
}

impl Stream {
    /// Height and width of a frame as shown.
    pub(super) fn shown(&self) -> (u32, u32) {
        let quarters = (self.rotation / 90.0).round();
        let lies =
            (self.rotation / 90.0 - quarters).abs() < 0.02 && quarters.rem_euclid(2.0) == 1.0;
        if lies { (self.w, self.h) } else { (self.h, self.w) }
    }
}

impl Listing {
    /// Adds a packet whose frame is shown.
    pub(super) fn packet(
        &mut self,
        path: &Path,
        time: Option<f64>,
        duration: Option<f64>,
        key: bool,
    ) -> Result<()> {
        if self.packets.len() == MAX_PACKETS {
            let (found, limit) = ("more frames".to_owned(), format!("{MAX_PACKETS} per file"));
            return Err(Error::TooLarge { path: path.to_path_buf(), found, limit });
        }
        let duration = duration.filter(|duration| *duration > 0.0);
        match time {
            Some(time) => self.packets.push(Packet { time, duration, key }),
            None => self.untimed = true,
        }
        Ok(())
    }

    /// Parses a line of the `compact` writer: a name, then `key=value` separated by bars.
    pub(super) fn line(&mut self, path: &Path, line: &str) -> Result<()> {
        let value = |key: &str| {
            let mut parts = line.split('|').filter_map(|part| part.split_once('='));
            // keys of nested sections are prefixed with the section's name
            parts.find(|(name, _)| name.rsplit([':', '/']).next() == Some(key)).map(|(_, v)| v)
        };
        let number = |key: &str| value(key)?.parse::<f64>().ok().filter(|x| x.is_finite());
        if line.starts_with("packet|") {
            // frames hidden by an edit list are decoded but not shown
            if value("flags").is_some_and(|flags| flags.contains('D')) {
                return Ok(());
            }
            let key = value("flags").is_some_and(|flags| flags.contains('K'));
            self.packet(path, number("pts_time"), number("duration_time"), key)?;
        } else if line.starts_with("stream|") && value("codec_type") == Some("video") {
            let side = |key: &str| value(key).and_then(|n| n.parse().ok()).unwrap_or(0);
            let (h, w) = (side("height"), side("width"));
            let rotation = number("rotation").unwrap_or(0.0);
            self.stream =
                Some(Stream { h, w, rotation, rate: value("avg_frame_rate").and_then(ratio) });
        }
        Ok(())
    }
}

/// `30000/1001`; `0/0` is `None`.
fn ratio(text: &str) -> Option<f64> {
    let (numerator, denominator) = text.split_once('/')?;
    let ratio = numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?;
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn listing(lines: &[&str]) -> Listing {
        let mut listing = Listing::default();
        for line in lines {
            listing.line(Path::new("a.mp4"), line).unwrap();
        }
        listing
    }

    #[test]
    fn packets_streams_and_rotations_are_understood() {
        let found = listing(&[
            "packet|pts_time=-0.040000|duration_time=0.040000|flags=KD_",
            "packet|pts_time=0.000000|duration_time=N/A|flags=K__",
            "packet|pts_time=0.080000|flags=___",
            "",
            "stream|codec_type=video|width=64|height=48|avg_frame_rate=0/0|side_data|rotation=-90",
        ]);
        assert!(!found.untimed);
        let packet = |time, key| Packet { time, duration: None, key };
        assert_eq!(found.packets, [packet(0.0, true), packet(0.08, false)]);
        let stream = found.stream.unwrap();
        assert_eq!((stream.shown(), stream.rate), ((64, 48), None));
        let turned = |rotation| Stream { h: 1, w: 2, rotation, rate: None }.shown();
        for angle in [90.0, -90.0, 270.0, 89.999] {
            assert_eq!(turned(angle), (2, 1), "{angle}");
        }
        for angle in [0.0, 180.0, -180.0, 45.0, 360.0] {
            assert_eq!(turned(angle), (1, 2), "{angle}");
        }
        assert!(listing(&["packet|pts_time=N/A|flags=K_"]).untimed);
        assert_eq!(ratio("30000/1001").map(f64::round), Some(30.0));
    }

    #[test]
    fn no_damage_breaks_the_reader_of_lines() {
        let seed = b"packet|pts_time=-0.040000|duration_time=0.040000|flags=KD_\n\
                     stream|codec_type=video|width=64|height=48|avg_frame_rate=24/1|side_data|rotation=-90\n";
        vd_torch::fuzz::Fuzz::new(vec![seed.to_vec()]).run(|bytes| {
            let (text, mut found) = (String::from_utf8_lossy(bytes), Listing::default());
            for line in text.lines() {
                found.line(Path::new("a.mp4"), line).map_err(|e| e.to_string())?;
            }
            let stream = found.stream.ok_or("no stream")?;
            stream.shown();
            Ok::<_, String>(())
        });
    }
}
