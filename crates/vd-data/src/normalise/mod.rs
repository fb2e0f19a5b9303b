//! Maps numbers in any unit to the range of the diffusion process, and back.

mod map;
mod measure;
mod tally;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use map::Normaliser;
pub(crate) use measure::measure;

use crate::{Error, Result};

/// The `[data.normalise]` section: maps numbers in any unit to the diffusion process's range.
///
/// One rule for all channels, or, as `[[data.normalise]]`, one for each.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalise(Vec<ChannelRule>);

/// How the numbers of a channel are mapped to a range around [-1, 1]: by a transform, then by a
/// linear function.
///
/// Nothing is clipped: values beyond the statistics lie beyond [-1, 1]; the inverse restores them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRule {
    /// Which statistics define the linear function.
    pub kind: Scaling,
    /// The lower percentile, for `percentile` alone \[default: 1\].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// The upper percentile, for `percentile` alone \[default: 99\].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// The transform applied to each number first.
    #[serde(default, skip_serializing_if = "Transform::is_none")]
    pub transform: Transform,
    /// Added to each number before `transform` \[default: 1 for `log`, 0 for `sqrt`\].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<f64>,
    /// The statistics, of the transformed numbers: the two that become -1 and 1, or mean and
    /// standard deviation. Measured in the data if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<[f64; 2]>,
    /// The least and the largest number, after `transform` as `statistics`: samplers keep clips within
    /// them. Measured together with statistics; where they are left out, clips have no limits. Not for
    /// `min-max`, whose statistics they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extremes: Option<[f64; 2]>,
}

/// The linear function after the transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// The minimum becomes -1, the maximum 1.
    MinMax,
    /// The mean becomes 0, one standard deviation above it 1.
    ZScore,
    /// The percentile `low` becomes -1, `high` becomes 1.
    Percentile,
    /// Numbers keep their value: the data are already in a suitable range.
    None,
}

/// The transform applied to a number first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// None.
    #[default]
    None,
    /// The natural logarithm of the number plus `offset`; the sum must be above 0.
    Log,
    /// The square root of the number plus `offset`; the sum must not be below 0.
    Sqrt,
}

impl Transform {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl ChannelRule {
    /// A rule without a transform whose statistics are measured.
    pub fn new(kind: Scaling) -> Self {
        Self {
            kind,
            low: None,
            high: None,
            transform: Transform::None,
            offset: None,
            statistics: None,
            extremes: None,
        }
    }

    /// The two percentiles, each in [0, 100].
    pub fn percentiles(&self) -> [f64; 2] {
        [self.low.unwrap_or(1.0), self.high.unwrap_or(99.0)]
    }

    /// The number added before the transform.
    pub fn offset(&self) -> f64 {
        self.offset.unwrap_or(if self.transform == Transform::Log { 1.0 } else { 0.0 })
    }

    /// Whether no statistics remain to be measured.
    fn is_complete(&self) -> bool {
        self.kind == Scaling::None || self.statistics.is_some()
    }

    fn validate(&self) -> Result<()> {
        let given = self.low.is_some() || self.high.is_some();
        if given && self.kind != Scaling::Percentile {
            let expected = "no value, except for kind = \"percentile\"";
            return Err(Error::config("data.normalise.low and high", expected, "a number"));
        }
        let [low, high] = self.percentiles();
        if !(0.0 <= low && low < high && high <= 100.0) {
            let expected = "two percentiles, 0 <= low < high <= 100";
            return Err(Error::config("data.normalise.low", expected, format!("{low} and {high}")));
        }
        if let (Some(offset), Transform::None) = (self.offset, self.transform) {
            let expected = "no value, except for transform = \"log\" or \"sqrt\"";
            return Err(Error::config("data.normalise.offset", expected, offset));
        }
        if !self.offset().is_finite() {
            return Err(Error::config("data.normalise.offset", "a finite number", self.offset()));
        }
        if let Some([a, b]) = self.extremes {
            let key = "data.normalise.extremes";
            if self.kind == Scaling::MinMax {
                let expected = "nothing, for kind = \"min-max\", whose statistics they are";
                return Err(Error::config(key, expected, format!("[{a}, {b}]")));
            }
            if !(a <= b && a.is_finite() && b.is_finite()) {
                let expected = "the least and the largest number, finite";
                return Err(Error::config(key, expected, format!("[{a}, {b}]")));
            }
        }
        let Some([a, b]) = self.statistics else { return Ok(()) };
        let (sound, expected) = match self.kind {
            Scaling::None => (false, "no value for kind = \"none\""),
            Scaling::ZScore => (b > 0.0, "a mean and a standard deviation above 0, both finite"),
            _ => (a < b, "the two numbers that map to -1 and 1, finite and increasing"),
        };
        if !(sound && a.is_finite() && b.is_finite() && (b - a).is_finite()) {
            return Err(Error::config(
                "data.normalise.statistics",
                expected,
                format!("[{a}, {b}]"),
            ));
        }
        Ok(())
    }
}

impl Normalise {
    /// One rule for all channels.
    pub fn all(rule: ChannelRule) -> Self {
        Self(vec![rule])
    }

    /// A rule for each channel.
    pub fn each(rules: Vec<ChannelRule>) -> Self {
        Self(rules)
    }

    /// The rules for each of `channels` channels.
    ///
    /// # Errors
    /// A different number of rules; settings outside their range.
    pub fn rules(&self, channels: usize) -> Result<Vec<ChannelRule>> {
        self.0.iter().try_for_each(ChannelRule::validate)?;
        match self.0.as_slice() {
            [one] => Ok(vec![one.clone(); channels]),
            each if each.len() == channels => Ok(each.to_vec()),
            other => {
                let expected = format!("one rule, or one for each of {channels} channels");
                Err(Error::config("data.normalise", expected, format!("{} rules", other.len())))
            }
        }
    }

    /// Whether no statistics remain to be measured.
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(ChannelRule::is_complete)
    }

    /// Whether nothing can be taken over from the rules of an earlier run.
    pub fn is_full(&self) -> bool {
        let full = |rule: &ChannelRule| rule.kind == Scaling::MinMax || rule.extremes.is_some();
        self.is_complete() && self.0.iter().all(full)
    }

    /// The rules with those statistics and extremes of `other` that these leave out, if they are alike
    /// in all else.
    pub fn with_statistics_of(&self, other: &Self, channels: usize) -> Option<Self> {
        let (own, other) = (self.rules(channels).ok()?, other.rules(channels).ok()?);
        let filled = own.into_iter().zip(other).map(|(own, other)| {
            let statistics = own.statistics.or(other.statistics);
            let extremes = own.extremes.or(other.extremes);
            let filled = ChannelRule { statistics, extremes, ..own };
            let alike = ChannelRule { statistics, extremes, ..other } == filled;
            alike.then_some(filled)
        });
        filled.collect::<Option<Vec<_>>>().map(Self)
    }
}

/// A table for one rule, a list of tables for several.
impl Serialize for Normalise {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            each => each.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Normalise {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct OneOrEach;
        impl<'de> Visitor<'de> for OneOrEach {
            type Value = Vec<ChannelRule>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "a table such as { kind = \"min-max\" }, or a list with one per channel",
                )
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                Ok(vec![ChannelRule::deserialize(MapAccessDeserializer::new(map))?])
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                seq: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq))
            }
        }
        from.deserialize_any(OneOrEach).map(Self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Section {
        normalise: Normalise,
    }

    #[test]
    fn one_rule_is_a_table_and_several_are_a_list() {
        let one =
            "normalise = { kind = \"percentile\", low = 0.5, transform = \"log\", offset = 0.1 }";
        let each = "[[normalise]]\nkind = \"min-max\"\nstatistics = [0.1, 1e-7]\n\
                    [[normalise]]\nkind = \"z-score\"\ntransform = \"sqrt\"\n";
        for (text, rules) in [(one, 1), (each, 2)] {
            let section: Section = toml::from_str(text).unwrap();
            assert_eq!(section.normalise.0.len(), rules);
            let written = toml::to_string(&section).unwrap();
            assert_eq!(toml::from_str::<Section>(&written).unwrap(), section, "{written}");
        }
        for (text, expected) in [
            ("normalise = { kind = \"minmax\" }", "min-max"),
            ("normalise = { kind = \"min-max\", scale = 1 }", "statistics"),
            ("normalise = 3", "a table such as"),
        ] {
            let error = toml::from_str::<Section>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn settings_out_of_their_range_are_named() {
        let base = || ChannelRule::new(Scaling::Percentile);
        let error = |rule: ChannelRule| Normalise::all(rule).rules(2).unwrap_err().to_string();
        for (rule, key) in [
            (ChannelRule { low: Some(99.5), ..base() }, "data.normalise.low"),
            (
                ChannelRule { low: Some(1.0), ..ChannelRule::new(Scaling::MinMax) },
                "data.normalise.low",
            ),
            (ChannelRule { offset: Some(1.0), ..base() }, "data.normalise.offset"),
            (ChannelRule { statistics: Some([1.0, 1.0]), ..base() }, "data.normalise.statistics"),
            (
                ChannelRule { statistics: Some([0.0, f64::NAN]), ..base() },
                "data.normalise.statistics",
            ),
            (ChannelRule { extremes: Some([2.0, 1.0]), ..base() }, "data.normalise.extremes"),
            (
                ChannelRule { extremes: Some([1.0, 2.0]), ..ChannelRule::new(Scaling::MinMax) },
                "data.normalise.extremes",
            ),
        ] {
            assert!(error(rule).starts_with(key));
        }
        let three = Normalise::each(vec![base(); 3]);
        assert!(three.rules(2).unwrap_err().to_string().contains("each of 2 channels"));
        assert_eq!(three.rules(3).unwrap().len(), 3);
    }

    #[test]
    fn statistics_are_taken_over_from_rules_that_are_alike_in_all_else() {
        let rule = ChannelRule::new(Scaling::MinMax);
        let known = ChannelRule { statistics: Some([1.0, 2.0]), ..rule.clone() };
        let before = Normalise::each(vec![known.clone(), known.clone()]);
        let filled = Normalise::all(rule.clone()).with_statistics_of(&before, 2).unwrap();
        assert_eq!(filled, before);
        assert!(filled.is_complete());
        let own = ChannelRule { statistics: Some([1.0, 3.0]), ..rule };
        let kept = Normalise::all(own.clone()).with_statistics_of(&before, 2).unwrap();
        assert_eq!(kept, Normalise::each(vec![own.clone(), own]));
        let other = Normalise::all(ChannelRule::new(Scaling::ZScore));
        assert_eq!(other.with_statistics_of(&before, 2), None);
        let measured =
            ChannelRule { extremes: Some([-3.0, 4.0]), ..ChannelRule::new(Scaling::None) };
        let filled = Normalise::all(ChannelRule::new(Scaling::None));
        assert!(filled.is_complete() && !filled.is_full());
        let filled = filled.with_statistics_of(&Normalise::all(measured.clone()), 1).unwrap();
        assert!(filled == Normalise::all(measured) && filled.is_full());
    }
}
