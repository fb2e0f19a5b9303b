//! The mapping of each channel and its inverse.

use super::{ChannelRule, Normalise, Scaling, Transform};
use crate::{Error, FloatClip, Result};

/// How many standard deviations from the mean a picture can show.
const SHOWN: f64 = 3.0;
/// How far beyond the extremes of the data a channel's range reaches, as a share of their distance: the
/// numbers that were measured are only a part of what there could be.
const MARGIN: f64 = 0.05;
/// A percentile is computed in f32, an extreme in f64: closer than this, relative to the distance from
/// -1 to 1, they are one number.
const SAME: f64 = 1e-6;

/// Maps numbers in any unit to the range of the diffusion process, channel by channel, and back.
///
/// Computed in f64; the round trip changes a number by a few units in the last place of f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Normaliser {
    maps: Vec<Map>,
    within: bool,
}

/// y = (transform(x) - centre) / spread
#[derive(Debug, Clone, Copy, PartialEq)]
struct Map {
    transform: Transform,
    offset: f64,
    centre: f64,
    spread: f64,
    /// The y that is white in a picture; its negative is black.
    shown: f64,
    /// The least and the largest y of the data, with a margin.
    range: Option<[f64; 2]>,
}

impl Normaliser {
    /// The mappings for a config's rules.
    ///
    /// # Errors
    /// Settings outside their range; statistics that have not been measured yet.
    pub fn new(config: &Normalise, channels: usize) -> Result<Self> {
        let rules = config.rules(channels)?;
        let within = rules.iter().all(|rule| rule.kind == Scaling::MinMax);
        let maps = rules.iter().map(Map::new).collect::<Result<_>>()?;
        Ok(Self { maps, within })
    }

    /// The mapping of bytes, 0 to 255, to [-1, 1], as used for pictures.
    pub fn bytes(channels: usize) -> Self {
        let (transform, offset) = (Transform::None, 0.0);
        let range = Some([-1.0, 1.0]);
        let map = Map { transform, offset, centre: 127.5, spread: 127.5, shown: 1.0, range };
        Self { maps: vec![map; channels], within: true }
    }

    /// Whether all measured numbers are mapped into [-1, 1]; if not, a clamp to that range, which
    /// samplers use for pixels, would cut some of them off.
    pub fn is_within(&self) -> bool {
        self.within
    }

    /// For each channel the range of the data in the numbers of the diffusion process; `None` where the
    /// rule has no extremes.
    ///
    /// [-1, 1] for min-max. Else from the least to the largest number that was measured, and 5 % of
    /// their distance further on each side. An end that is a percentile of the rule as well has no
    /// margin: many values lie at it, so that it is a limit of the data (no rain).
    pub fn ranges(&self) -> Vec<Option<[f64; 2]>> {
        self.maps.iter().map(|map| map.range).collect()
    }

    /// The same as limits, infinite for channels whose range is not known; `None` where none is.
    pub fn limits(&self) -> Option<Vec<[f64; 2]>> {
        let free = [f64::NEG_INFINITY, f64::INFINITY];
        let limits = self.maps.iter().map(|map| map.range.unwrap_or(free)).collect();
        self.maps.iter().any(|map| map.range.is_some()).then_some(limits)
    }

    /// How many numbers of a clip that [`Normaliser::undo`] has filled are overflows and no data: not
    /// finite, the largest that f32 has, or at the limit of the logarithm.
    ///
    /// # Errors
    /// Another number of channels.
    pub fn overflows(&self, clip: &FloatClip) -> Result<usize> {
        self.check(clip)?;
        let pixels = clip.values.chunks_exact(self.maps.len());
        let over = pixels.map(|pixel| {
            pixel.iter().zip(&self.maps).filter(|(value, map)| map.is_overflow(**value)).count()
        });
        Ok(over.sum())
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.maps.len()
    }

    /// Maps numbers to the range of the diffusion process; missing values stay missing.
    ///
    /// # Errors
    /// A different number of channels; a number that has no logarithm or root.
    pub fn apply(&self, clip: &mut FloatClip) -> Result<()> {
        self.check(clip)?;
        for pixel in clip.values.chunks_exact_mut(self.maps.len()) {
            for (value, map) in pixel.iter_mut().zip(&self.maps) {
                let there = value.is_finite();
                let mapped = if there { map.apply(f64::from(*value)) as f32 } else { f32::NAN };
                if there && !mapped.is_finite() {
                    let expected = format!("numbers {}", map.domain());
                    return Err(Error::clip(expected, format!("{value}")));
                }
                *value = mapped;
            }
        }
        Ok(())
    }

    /// Maps numbers back to their unit, always to ones that [`Normaliser::apply`] accepts. Values
    /// beyond the range of f32 become its largest numbers.
    ///
    /// # Errors
    /// A different number of channels.
    pub fn undo(&self, clip: &mut FloatClip) -> Result<()> {
        self.check(clip)?;
        let most = f64::from(f32::MAX);
        for pixel in clip.values.chunks_exact_mut(self.maps.len()) {
            for (value, map) in pixel.iter_mut().zip(&self.maps) {
                let number = map.undo(f64::from(*value)).clamp(-most, most) as f32;
                // Rounding to f32 may lead to a number without logarithm or root; the next f32 has
                // one.
                let is_in = map.apply(f64::from(number)).is_finite();
                *value = if is_in { number } else { number.next_up() };
            }
        }
        Ok(())
    }

    /// For each channel, the value that is white in a picture, its negative being black: three
    /// standard deviations for z-scores, else 1.
    pub(crate) fn shown(&self) -> Vec<f32> {
        self.maps.iter().map(|map| map.shown as f32).collect()
    }

    fn check(&self, clip: &FloatClip) -> Result<()> {
        if clip.c == self.maps.len() {
            return Ok(());
        }
        Err(Error::clip(format!("{} channels", self.maps.len()), format!("{}", clip.c)))
    }
}

impl Map {
    fn new(rule: &ChannelRule) -> Result<Self> {
        let missing = || {
            let expected = "statistics for each channel, as measured by `vd train`";
            Error::config("data.normalise.statistics", expected, "none")
        };
        let (centre, spread) = match (rule.kind, rule.statistics) {
            (Scaling::None, _) => (0.0, 1.0),
            (_, None) => return Err(missing()),
            (Scaling::ZScore, Some([mean, std])) => (mean, std),
            (_, Some([low, high])) => (low / 2.0 + high / 2.0, high / 2.0 - low / 2.0),
        };
        let shown = if rule.kind == Scaling::ZScore { SHOWN } else { 1.0 };
        let (transform, offset) = (rule.transform, rule.offset());
        let range = match rule.kind {
            Scaling::MinMax => Some([-1.0, 1.0]),
            kind => rule.extremes.map(|extremes| {
                widened(extremes.map(|x| (x - centre) / spread), kind == Scaling::Percentile)
            }),
        };
        Ok(Self { transform, offset, centre, spread, shown, range })
    }

    fn apply(&self, x: f64) -> f64 {
        (transformed(self.transform, self.offset, x) - self.centre) / self.spread
    }

    fn undo(&self, y: f64) -> f64 {
        let t = y * self.spread + self.centre;
        match self.transform {
            Transform::None => t,
            Transform::Log => t.exp() - self.offset,
            // a root is not negative: sampled values below 0 become 0
            Transform::Sqrt => t.max(0.0).powi(2) - self.offset,
        }
    }

    /// Whether a number that was brought back is none of the data's.
    fn is_overflow(&self, x: f32) -> bool {
        let at_limit = || !self.apply(f64::from(x.next_down())).is_finite();
        !x.is_finite() || x.abs() == f32::MAX || (self.transform == Transform::Log && at_limit())
    }

    fn domain(&self) -> String {
        let least = -self.offset;
        match self.transform {
            Transform::None => "that f32 can hold after scaling".to_owned(),
            Transform::Log => format!("above {least}, for the logarithm (data.normalise.offset)"),
            Transform::Sqrt => format!("from {least} on, for the root (data.normalise.offset)"),
        }
    }
}

/// The extremes of the data with a margin, but for one at which a percentile is.
fn widened([low, high]: [f64; 2], percentiles: bool) -> [f64; 2] {
    let margin = MARGIN * (high - low);
    let is_limit = |away: f64| percentiles && away <= 2.0 * SAME;
    [
        if is_limit(-1.0 - low) { low } else { low - margin },
        if is_limit(high - 1.0) { high } else { high + margin },
    ]
}

/// A number after the transform; not finite where there is none.
pub(super) fn transformed(transform: Transform, offset: f64, x: f64) -> f64 {
    match transform {
        Transform::None => x,
        Transform::Log => (x + offset).ln(),
        Transform::Sqrt => (x + offset).sqrt(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(kind: Scaling, transform: Transform, statistics: [f64; 2]) -> ChannelRule {
        let statistics = Some(statistics).filter(|_| kind != Scaling::None);
        ChannelRule { transform, statistics, ..ChannelRule::new(kind) }
    }

    /// How far the round trip may lead from x: half a unit in the last place of y, scaled by
    /// `spread` and by the slope of the inverse transform, plus one unit of x itself. The few
    /// roundings in f64 are 2^29 times smaller than those, except for the differences that they
    /// enter.
    fn bound(map: &Map, x: f64) -> f64 {
        let half_ulp = 2f64.powi(-24);
        let t = transformed(map.transform, map.offset, x);
        let y = (t - map.centre) / map.spread;
        let slope = match map.transform {
            Transform::None => 1.0,
            Transform::Log => x + map.offset,
            Transform::Sqrt => 2.0 * t,
        };
        let rounded = y.abs() * map.spread + 1e-6 * (map.centre.abs() + t.abs());
        1.01 * half_ulp * (rounded * slope + x.abs() + 1e-6 * map.offset.abs())
    }

    fn kinds() -> impl Strategy<Value = (Scaling, Transform)> {
        use Scaling::{MinMax, None, Percentile, ZScore};
        let kind = prop::sample::select(vec![MinMax, ZScore, Percentile, None]);
        let transforms = vec![Transform::None, Transform::Log, Transform::Sqrt];
        (kind, prop::sample::select(transforms))
    }

    proptest! {
        #[test]
        fn whatever_is_drawn_comes_back_as_a_number_that_can_be_given_again(
            (kind, transform) in kinds(),
            at in -3.0f64..3.0, width in 0.1f64..4.0, offset in 0.0f64..2.0,
            values in prop::collection::vec(-200.0f32..20.0, 1..40),
        ) {
            let statistics = match kind {
                Scaling::ZScore => [at, width],
                _ => [at, at + width],
            };
            let rule = ChannelRule {
                offset: (transform != Transform::None).then_some(offset),
                ..rule(kind, transform, statistics)
            };
            let normaliser = Normaliser::new(&Normalise::all(rule), 1).unwrap();
            let mut clip = FloatClip::new(values.clone(), [values.len(), 1, 1, 1], 1.0).unwrap();
            normaliser.undo(&mut clip).unwrap();
            prop_assert!(normaliser.apply(&mut clip).is_ok());
        }

        #[test]
        fn what_is_done_is_undone_within_the_bound(
            (kind, transform) in kinds(),
            at in -3.0f64..3.0, width in 0.1f64..4.0,
            values in prop::collection::vec(0.0f32..500.0, 1..40),
        ) {
            let statistics = match kind {
                Scaling::ZScore => [at, width],
                _ => [at, at + width],
            };
            let rule = rule(kind, transform, statistics);
            let normaliser = Normaliser::new(&Normalise::all(rule), 1).unwrap();
            let shape = [1, 1, values.len(), 1];
            let mut clip = FloatClip::new(values.clone(), shape, 8.0).unwrap();
            normaliser.apply(&mut clip).unwrap();
            normaliser.undo(&mut clip).unwrap();
            for (x, back) in values.into_iter().zip(clip.values) {
                let (x, back) = (f64::from(x), f64::from(back));
                prop_assert!((x - back).abs() <= bound(&normaliser.maps[0], x), "{x} {back}");
            }
        }
    }

    #[test]
    fn statistics_become_minus_one_and_one_and_values_beyond_stay_beyond() {
        for kind in [Scaling::MinMax, Scaling::Percentile] {
            let rule = rule(kind, Transform::None, [-2.0, 6.0]);
            let normaliser = Normaliser::new(&Normalise::all(rule), 1).unwrap();
            let values = vec![-2.0, 6.0, 2.0, 14.0, f32::NAN, f32::INFINITY];
            let mut clip = FloatClip::new(values, [1, 2, 3, 1], 8.0).unwrap();
            normaliser.apply(&mut clip).unwrap();
            assert_eq!(clip.values[..4], [-1.0, 1.0, 0.0, 3.0]);
            assert!(clip.values[4..].iter().all(|x| x.is_nan()));
            assert_eq!(normaliser.is_within(), kind == Scaling::MinMax);
        }
    }

    #[test]
    fn bytes_go_through_the_map_of_pictures_up_to_one_rounding() {
        let bytes: Vec<u8> = (0..=255).collect();
        let there = vd_tensor_ops::video::from_u8(&tch::Tensor::from_slice(&bytes));
        let there: Vec<f32> = Vec::try_from(&there).unwrap();
        let values = bytes.iter().map(|b| f32::from(*b)).collect();
        let mut clip = FloatClip::new(values, [1, 16, 16, 1], 8.0).unwrap();
        Normaliser::bytes(1).apply(&mut clip).unwrap();
        let away = clip.values.iter().zip(&there).map(|(a, b)| (a - b).abs());
        // one rounding here, two there: at most half a unit of 2 and half of 1 apart
        assert!(away.fold(0.0, f32::max) <= 2f32.powi(-23), "{:?}", clip.values);
    }

    #[test]
    fn numbers_without_a_logarithm_are_refused_and_none_comes_back_infinite() {
        let rule = rule(Scaling::None, Transform::Log, [0.0; 2]);
        let normaliser = Normaliser::new(&Normalise::all(rule), 1).unwrap();
        let mut clip = FloatClip::new(vec![3.0, -1.0], [1, 1, 2, 1], 8.0).unwrap();
        let error = normaliser.apply(&mut clip).unwrap_err().to_string();
        assert!(error.contains("above -1") && error.contains("offset"), "{error}");
        let mut clip = FloatClip::new(vec![300.0, -300.0], [1, 1, 2, 1], 8.0).unwrap();
        normaliser.undo(&mut clip).unwrap();
        assert_eq!(clip.values, [f32::MAX, (-1f32).next_up()]);
    }

    #[test]
    fn ranges_are_the_extremes_with_a_margin_where_values_thin_out() {
        let range = |kind, extremes| {
            let rule = ChannelRule { extremes, ..rule(kind, Transform::Log, [0.0, 2.0]) };
            Normaliser::new(&Normalise::all(rule), 1).unwrap().ranges()[0]
        };
        assert_eq!(range(Scaling::MinMax, None), Some([-1.0, 1.0]));
        assert_eq!(range(Scaling::Percentile, None), None);
        let near = |got: Option<[f64; 2]>, [low, high]: [f64; 2]| {
            let [a, b] = got.unwrap();
            assert!((a - low).abs() < 1e-12 && (b - high).abs() < 1e-12, "{a} {b}");
        };
        // centre and spread are 1: 4 becomes 3, and a percentile is the least number
        let (least, most) = (-1.0 - 1e-7, 3.0);
        near(range(Scaling::Percentile, Some([-1e-7, 4.0])), [least, most + 0.05 * (most - least)]);
        near(range(Scaling::Percentile, Some([-1.0, 4.0])), [-2.25, 3.25]);
        // mean 0 and deviation 2
        near(range(Scaling::ZScore, Some([-4.0, 8.0])), [-2.3, 4.3]);
    }

    #[test]
    fn what_overflows_is_counted() {
        let log = ChannelRule { transform: Transform::Log, ..ChannelRule::new(Scaling::None) };
        let rules = Normalise::each(vec![log, ChannelRule::new(Scaling::None)]);
        let normaliser = Normaliser::new(&rules, 2).unwrap();
        let values = vec![300.0, 1.0, -300.0, -300.0, 0.0, f32::MAX];
        let mut clip = FloatClip::new(values, [1, 3, 1, 2], 8.0).unwrap();
        normaliser.undo(&mut clip).unwrap();
        assert_eq!(normaliser.overflows(&clip).unwrap(), 3);
    }

    #[test]
    fn statistics_that_are_still_to_be_measured_are_asked_for() {
        let config = Normalise::all(ChannelRule::new(Scaling::MinMax));
        assert!(!config.is_complete());
        let error = Normaliser::new(&config, 2).unwrap_err().to_string();
        assert!(error.starts_with("data.normalise.statistics"), "{error}");
        assert!(Normalise::all(ChannelRule::new(Scaling::None)).is_complete());
    }
}
