//! Values that are a name, or a TOML table with a kind and its settings.

use serde::de::DeserializeOwned;
use toml::{Table, Value};
use vd_diffusion::{
    GuidanceConfig, LongVideoPlan, SamplerConfig, SamplerFacts, Spacing, Threshold,
};

use super::values::MOST_FRAMES;

/// How a sampler is named.
pub(crate) fn sampler(text: &str) -> Result<SamplerConfig, String> {
    let names: Vec<_> = SamplerFacts::ALL.iter().map(|facts| facts.name).collect();
    let config: SamplerConfig = named(text, &names, "{kind=\"ddim\", eta=0.5}")?;
    config.build().map_err(|error| error.to_string())?;
    Ok(config)
}

/// How a spacing is named.
pub(crate) fn spacing(text: &str) -> Result<Spacing, String> {
    let all = Spacing::all();
    let names: Vec<_> = all.iter().map(Spacing::name).chain(["explicit"]).collect();
    let spacing: Spacing = named(text, &names, "{kind=\"explicit\", t=[1.0, 0.5, 0.0]}")?;
    spacing.validate().map_err(|error| error.to_string())?;
    Ok(spacing)
}

/// How a rule of guidance is named.
pub(crate) fn guidance(text: &str) -> Result<GuidanceConfig, String> {
    let example = "{kind=\"classifier-free\", rescale=0.7}";
    let rule: GuidanceConfig = named(text, &GuidanceConfig::all_names(), example)?;
    rule.validate().map_err(|error| error.to_string())?;
    Ok(rule)
}

/// How a threshold is named.
pub(crate) fn threshold(text: &str) -> Result<Threshold, String> {
    let example = "{kind=\"dynamic\", percentile=0.995}";
    let rule: Threshold = named(text, &["static", "dynamic", "none"], example)?;
    rule.validate().map_err(|error| error.to_string())?;
    Ok(rule)
}

/// A plan whose window the checkpoint says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlanArg(Table);

const PLANS: [&str; 3] = ["autoregressive", "sliding", "hierarchical"];

/// How a plan is named.
pub(crate) fn plan(text: &str) -> Result<PlanArg, String> {
    let table: Table = match table(text)? {
        Value::Table(table) => table,
        name => [("kind".to_owned(), name)].into_iter().collect(),
    };
    if table.contains_key("window") {
        return Err("omit `window` and give --window instead".to_owned());
    }
    let known = table.get("kind").and_then(Value::as_str).is_some_and(|kind| PLANS.contains(&kind));
    let plan = PlanArg(table);
    // What the largest window refuses, all do; the rest is looked at when the window is known.
    match plan.of(MOST_FRAMES as usize) {
        Ok(_) => Ok(plan),
        Err(why) if known => Err(why),
        Err(why) => Err(offer(&why, &PLANS, "{kind=\"autoregressive\", overlap=4}")),
    }
}

impl PlanArg {
    /// The plan for windows of so many frames; what is not said is half a window.
    pub(crate) fn of(&self, window: usize) -> Result<LongVideoPlan, String> {
        let half = (window / 2).max(1);
        let mut table = self.0.clone();
        let mut default = |key: &str, value: Value| {
            table.entry(key).or_insert(value);
        };
        default("window", integer(window));
        match self.0.get("kind").and_then(Value::as_str) {
            Some("autoregressive") => default("overlap", integer(half)),
            Some("sliding") => default("step", integer(half)),
            Some("hierarchical") => {
                default("overlap", integer((window / 4).max(1)));
                let strides = if half > 1 { vec![half, 1] } else { vec![1] };
                default("strides", Value::Array(strides.into_iter().map(integer).collect()));
            }
            _ => {}
        }
        let plan: LongVideoPlan =
            Value::Table(table).try_into().map_err(|error: toml::de::Error| one_line(&error))?;
        plan.validate().map_err(|error| error.to_string())?;
        Ok(plan)
    }
}

fn integer(n: usize) -> Value {
    Value::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

fn named<T: DeserializeOwned>(text: &str, names: &[&str], example: &str) -> Result<T, String> {
    let value = table(text)?;
    let table = value.as_table();
    let kind = table.and_then(|table| table.get("kind")).and_then(Value::as_str).map(str::to_owned);
    // Some kinds have another spelling too.
    let known = |kind: &String| {
        names.contains(&kind.as_str()) || Value::String(kind.clone()).try_into::<T>().is_ok()
    };
    value.try_into::<T>().map_err(|error| match kind.filter(known) {
        // serde names the settings that this kind has.
        Some(kind) => format!("{kind}: {}", one_line(&error)),
        None => offer(&one_line(&error), names, example),
    })
}

/// What is wrong, and what is understood.
fn offer(why: &str, names: &[&str], example: &str) -> String {
    // serde lists the names with their other spellings, where the name is what is wrong.
    let why = why.split(", expected one of").next().unwrap_or(why);
    format!("{why}; expected one of {}, or a table such as '{example}'", names.join(", "))
}

/// A table where the text begins like one, else a name.
fn table(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if !text.starts_with('{') {
        return Ok(Value::String(text.to_owned()));
    }
    let line = toml::from_str::<Table>(&format!("value = {text}"));
    let mut line = line.map_err(|error| format!("not a TOML table: {}", one_line(&error)))?;
    line.remove("value").ok_or_else(|| "not a TOML table".to_owned())
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_listed_name_is_taken_and_tables_set_what_they_say() {
        for facts in SamplerFacts::ALL {
            assert_eq!(sampler(facts.name).unwrap().facts().name, facts.name);
        }
        for expected in Spacing::all() {
            assert_eq!(spacing(expected.name()).unwrap(), expected);
        }
        for expected in GuidanceConfig::all() {
            assert_eq!(guidance(expected.name()).unwrap(), expected);
        }
        assert_eq!(sampler("ddpm").unwrap(), SamplerConfig::DdpmSmall { gamma: 0.0 });
        let table = "{kind=\"ddim\", eta=0.5}";
        assert_eq!(sampler(table).unwrap(), SamplerConfig::Ddim { eta: 0.5 });
        for (name, rule) in [("none", Threshold::None), ("dynamic", Threshold::dynamic())] {
            assert_eq!(threshold(name).unwrap(), rule);
        }
        let table = "{kind=\"dynamic\", percentile=0.995}";
        assert_eq!(threshold(table).unwrap(), Threshold::Dynamic { percentile: 0.995 });
        let explicit = spacing("{ kind = \"explicit\", t = [1.0, 0.0] }").unwrap();
        assert_eq!(explicit, Spacing::Explicit { t: vec![1.0, 0.0] });
    }

    #[test]
    fn what_is_not_understood_is_told_with_what_would_be() {
        let errors = [
            (sampler("hein").unwrap_err(), "heun"),
            (sampler("{kind=\"ddim\", eta=2}").unwrap_err(), "a number from 0 to 1"),
            (
                sampler("{kind=\"ddim\", eto=1}").unwrap_err(),
                "ddim: unknown field `eto`, expected `eta`",
            ),
            (sampler("{kind=\"ddpm\", eto=1}").unwrap_err(), "ddpm: unknown field `eto`"),
            (sampler("{eta=1}").unwrap_err(), "heun"),
            (spacing("explicit").unwrap_err(), "t=[1.0, 0.5, 0.0]"),
            (spacing("{kind=\"explicit\"}").unwrap_err(), "missing field `t`"),
            (
                spacing("{kind=\"explicit\", t=[1, 1]}").unwrap_err(),
                "decreasing times, got 1 after 1",
            ),
            (spacing("{kind=\"explicit\", t=[1]}").unwrap_err(), "2 times or more"),
            (spacing("{kind=\"explicit\", t=[2, 1]}").unwrap_err(), "from 0 to 1, got 2"),
            (spacing("{kind=\"karras\", rho=0}").unwrap_err(), "from 1 to 1000, got 0"),
            (guidance("{kind=\"apg\", momentum=2}").unwrap_err(), "between -1 and 1, got 2"),
            (plan("{kind=\"sliding\", step=0}").unwrap_err(), "step: expected from 1"),
            (plan("{kind=\"hierarchical\", strides=[4]}").unwrap_err(), "end with 1"),
            (threshold("on").unwrap_err(), "static, dynamic, none, or a table"),
            (threshold("{kind=\"dynamic\", percentile=2}").unwrap_err(), "from 0 to 1, got 2"),
            (threshold("{kind=\"static\", percentile=1}").unwrap_err(), "no settings"),
            (sampler("{kind=").unwrap_err(), "not a TOML table"),
            (spacing("even").unwrap_err(), "uniform-t, "),
            (guidance("cfg").unwrap_err(), "classifier-free, "),
            (plan("backwards").unwrap_err(), "autoregressive, sliding, hierarchical"),
            (plan("{kind=\"sliding\", window=3}").unwrap_err(), "--window"),
            (plan("{kind=\"sliding\", overlap=3}").unwrap_err(), "overlap"),
        ];
        for (error, expected) in errors {
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
            assert!(!error.contains("ddim: ") || !error.contains("heun"), "{error}");
        }
    }

    #[test]
    fn plans_have_settings_for_windows_of_any_length() {
        for name in PLANS {
            for window in 2..20 {
                let plan = plan(name).unwrap().of(window).unwrap();
                assert!(plan.windows(50, &[]).is_ok(), "{plan:?}");
            }
        }
        let plan = plan("{kind=\"autoregressive\", overlap=3}").unwrap().of(8).unwrap();
        assert_eq!(plan, LongVideoPlan::Autoregressive { window: 8, overlap: 3 });
    }
}
