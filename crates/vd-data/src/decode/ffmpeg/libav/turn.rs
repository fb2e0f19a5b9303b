//! How frames are rotated before they are shown.

/// The content of a display matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    /// As ffprobe reports it: whole degrees, counter-clockwise.
    pub(super) degrees: f64,
    /// The filters that rotate, each followed by a comma.
    pub(super) filters: String,
}

impl Turn {
    /// Reads the nine numbers of a matrix; anything else leaves frames unchanged.
    ///
    /// # Reference
    /// `libavutil/display.c` and the automatic rotation of the program ffmpeg.
    pub(super) fn of(matrix: &[u8]) -> Self {
        let (numbers, rest) = matrix.as_chunks::<4>();
        let numbers: Vec<i32> = numbers.iter().map(|bytes| i32::from_ne_bytes(*bytes)).collect();
        let still = Self { degrees: 0.0, filters: String::new() };
        let (&[a, b, _, c, d, ..], 9, []) = (&numbers[..], numbers.len(), rest) else {
            return still;
        };
        let fixed = |n: i32| f64::from(n) / 65536.0;
        let widths = [fixed(a).hypot(fixed(c)), fixed(b).hypot(fixed(d))];
        if widths.contains(&0.0) {
            return still;
        }
        let degrees = -(fixed(b) / widths[1]).atan2(fixed(a) / widths[0]).to_degrees();
        let theta = -degrees.round();
        let theta = theta - 360.0 * (theta / 360.0 + 0.9 / 360.0).floor();
        Self { degrees: degrees.trunc(), filters: filters(theta, [a, c, d]) }
    }
}

/// The filters for an angle, clockwise from 0 to 360; a matrix may also mirror.
fn filters(theta: f64, [a, c, d]: [i32; 3]) -> String {
    let near = |angle: f64| (theta - angle).abs() < 1.0;
    if near(90.0) {
        format!("transpose={},", if c > 0 { "cclock_flip" } else { "clock" })
    } else if near(180.0) {
        let (across, down) = (if a < 0 { "hflip," } else { "" }, if d < 0 { "vflip," } else { "" });
        format!("{across}{down}")
    } else if near(270.0) {
        format!("transpose={},", if c < 0 { "clock_flip" } else { "cclock" })
    } else if theta.abs() > 1.0 {
        format!("rotate={theta:.6}*PI/180,")
    } else if theta.abs() < 1.0 && d < 0 {
        "vflip,".to_owned()
    } else {
        String::new()
    }
}
