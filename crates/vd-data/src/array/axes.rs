//! The meaning of each axis of an array.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The axes of an array in the order of its shape, by their letters: `f` frames, `h` height, `w`
/// width, `c` channels, and `n` if one array holds many clips.
///
/// `f`, `h` and `w` are required; without `c` there is one channel. Moving MNIST as it is
/// distributed has its frames first: `fnhw`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Axes(Vec<u8>);

/// All valid letters.
const LETTERS: &[u8] = b"nfhwc";

impl Axes {
    /// The default for an array with `rank` axes: 3 are `fhw`, 4 are `fhwc`.
    pub fn of_rank(rank: usize) -> Option<Self> {
        match rank {
            3 => Some(Self(b"fhw".to_vec())),
            4 => Some(Self(b"fhwc".to_vec())),
            _ => None,
        }
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The position of an axis.
    pub(super) fn place(&self, letter: u8) -> Option<usize> {
        self.0.iter().position(|one| *one == letter)
    }
}

impl FromStr for Axes {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let letters = s.as_bytes();
        let known = letters.iter().all(|one| LETTERS.contains(one));
        let once = (0..letters.len()).all(|k| !letters[..k].contains(&letters[k]));
        if !known || !once || !b"fhw".iter().all(|one| letters.contains(one)) {
            return Err(format!(
                "data.axes: expected each of the letters f, h and w once, and c or n at most once, \
                 such as \"fhwc\", \"cfhw\" or \"nfhw\", got \"{s}\""
            ));
        }
        Ok(Self(letters.to_vec()))
    }
}

impl TryFrom<String> for Axes {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Axes> for String {
    fn from(axes: Axes) -> Self {
        axes.to_string()
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_read_and_written_as_their_letters() {
        for text in ["fhw", "fhwc", "cfhw", "nfhw", "fnhw", "whfcn"] {
            assert_eq!(text.parse::<Axes>().unwrap().to_string(), text);
        }
        for text in ["", "hw", "fhwx", "fhwf", "fhwcc", "FHW"] {
            let error = text.parse::<Axes>().unwrap_err();
            assert!(error.contains("data.axes") && error.contains("fhwc"), "{error}");
        }
        assert_eq!(Axes::of_rank(3).unwrap().to_string(), "fhw");
        assert_eq!(Axes::of_rank(4).unwrap().to_string(), "fhwc");
        assert_eq!((Axes::of_rank(2), Axes::of_rank(5)), (None, None));
    }
}
