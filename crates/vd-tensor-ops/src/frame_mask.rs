//! Masks of temporal attention: which frames may attend to which.

use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// Which frames may attend to which in temporal attention; every frame always attends to itself.
#[derive(Debug)]
pub enum FrameMask {
    /// Every frame attends to every frame.
    All,
    /// Per sample: `true` disables attention across time, so that each frame attends only to
    /// itself.
    ///
    /// # Shapes
    /// bool, b
    Focus(Tensor),
    /// A clip of `clip` frames, followed by independent images: the clip's frames attend to each
    /// other, each image only to itself.
    ///
    /// # Reference
    /// Ho et al. 2022, section 4.3.1, arXiv:2204.03458.
    ClipAndImages {
        /// Number of frames of the clip.
        clip: i64,
    },
}

impl FrameMask {
    /// Checks that the mask fits a video of `b` samples and `f` frames.
    ///
    /// # Errors
    /// A focus mask that is not bool of b values; a clip longer than the frames or shorter than 1.
    pub fn validate(&self, b: i64, f: i64) -> Result<()> {
        match self {
            FrameMask::All => Ok(()),
            FrameMask::Focus(mask) if mask.size() != [b] || mask.kind() != Kind::Bool => {
                let what = format!("focus mask of kind {:?}", mask.kind());
                Err(Error::shape(what, format!("bool [{b}], one per sample"), &mask.size()))
            }
            FrameMask::Focus(_) => Ok(()),
            FrameMask::ClipAndImages { clip } if *clip < 1 || *clip > f => Err(Error::Value {
                what: "frames of the clip before the images".to_owned(),
                expected: format!("1 to {f}, the number of frames"),
                got: clip.to_string(),
            }),
            FrameMask::ClipAndImages { .. } => Ok(()),
        }
    }

    /// The pairs for which attention is forbidden, or `None` if there are none.
    ///
    /// # Shapes
    /// bool, (b or 1) 1 1 f f: queries along the fourth axis, keys along the last
    pub fn forbidden(&self, f: i64, device: Device) -> Option<Tensor> {
        let other = || Tensor::eye(f, (Kind::Bool, device)).logical_not(); // f f
        match self {
            FrameMask::All => None,
            FrameMask::Focus(focus) => {
                Some(focus.to_device(device).view([-1, 1, 1, 1, 1]).logical_and(&other()))
            }
            FrameMask::ClipAndImages { clip } => {
                let in_clip = Tensor::arange(f, (Kind::Int64, device)).lt(*clip);
                let both = in_clip.unsqueeze(1).logical_and(&in_clip.unsqueeze(0));
                Some(other().logical_and(&both.logical_not()).view([1, 1, 1, f, f]))
            }
        }
    }

    /// How many of `f` frames belong to the clip, if images follow it.
    pub fn clip_before_images(&self, f: i64) -> Option<i64> {
        match self {
            FrameMask::ClipAndImages { clip } if *clip < f => Some(*clip),
            _ => None,
        }
    }

    /// The same mask for a batch that repeats all samples `times` times, one copy after the other.
    pub fn repeat(&self, times: i64) -> FrameMask {
        match self {
            FrameMask::All => FrameMask::All,
            // Of another number of axes it fits no batch, which `validate` tells.
            FrameMask::Focus(focus) if focus.dim() == 1 => FrameMask::Focus(focus.repeat([times])),
            FrameMask::Focus(focus) => FrameMask::Focus(focus.shallow_clone()),
            FrameMask::ClipAndImages { clip } => FrameMask::ClipAndImages { clip: *clip },
        }
    }

    /// A second handle to the same mask.
    pub fn shallow_clone(&self) -> FrameMask {
        match self {
            FrameMask::Focus(focus) => FrameMask::Focus(focus.shallow_clone()),
            FrameMask::All => FrameMask::All,
            FrameMask::ClipAndImages { clip } => FrameMask::ClipAndImages { clip: *clip },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(mask: &FrameMask, f: i64) -> Vec<Vec<bool>> {
        let t = mask.forbidden(f, Device::Cpu).unwrap();
        let b = t.size()[0];
        (0..b).map(|i| Vec::try_from(t.get(i).view([-1])).unwrap()).collect()
    }

    #[test]
    fn images_after_a_clip_are_alone() {
        let got = table(&FrameMask::ClipAndImages { clip: 2 }, 4);
        #[rustfmt::skip]
        let expected = vec![vec![
            false, false, true,  true,
            false, false, true,  true,
            true,  true,  false, true,
            true,  true,  true,  false,
        ]];
        assert_eq!(got, expected);
    }

    #[test]
    fn focus_is_per_sample() {
        let mask = FrameMask::Focus(Tensor::from_slice(&[true, false]));
        let got = table(&mask, 2);
        assert_eq!(got, vec![vec![false, true, true, false], vec![false; 4]]);
        assert_eq!(table(&mask.repeat(2), 2).len(), 4);
    }

    #[test]
    fn masks_that_do_not_fit_are_refused() {
        assert!(FrameMask::ClipAndImages { clip: 5 }.validate(1, 4).is_err());
        assert!(FrameMask::ClipAndImages { clip: 0 }.validate(1, 4).is_err());
        assert!(FrameMask::Focus(Tensor::from_slice(&[true])).validate(2, 4).is_err());
        assert!(FrameMask::Focus(Tensor::from_slice(&[1i64, 0])).validate(2, 4).is_err());
        assert!(FrameMask::All.validate(2, 4).is_ok());
    }
}
