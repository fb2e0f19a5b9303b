//! The learning rate schedule as written in configs: a name, or a table with its settings.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::LrSchedule;

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Constant,
    Cosine,
    Linear,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    kind: Kind,
    lr_steps: Option<u64>,
}

impl Settings {
    fn schedule<E: Error>(self) -> Result<LrSchedule, E> {
        match (self.kind, self.lr_steps) {
            (Kind::Constant, None) => Ok(LrSchedule::Constant),
            (Kind::Cosine, Some(lr_steps)) => Ok(LrSchedule::Cosine { lr_steps }),
            (Kind::Linear, Some(lr_steps)) => Ok(LrSchedule::Linear { lr_steps }),
            (Kind::Constant, Some(_)) => Err(E::custom("kind `constant` takes no `lr_steps`")),
            (_, None) => Err(E::custom(
                "missing `lr_steps`, the step at which the learning rate reaches 0: write for \
                 example `{ kind = \"cosine\", lr_steps = 10000 }`",
            )),
        }
    }
}

impl Serialize for LrSchedule {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let kind = match self {
            LrSchedule::Constant => return Kind::Constant.serialize(to),
            LrSchedule::Cosine { .. } => Kind::Cosine,
            LrSchedule::Linear { .. } => Kind::Linear,
        };
        Settings { kind, lr_steps: self.lr_steps() }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for LrSchedule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NameOrTable)
    }
}

struct NameOrTable;

impl<'de> Visitor<'de> for NameOrTable {
    type Value = LrSchedule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"constant\", or a table with `kind` and `lr_steps`")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<LrSchedule, E> {
        let kind = Kind::deserialize(serde::de::value::StrDeserializer::new(name))?;
        Settings { kind, lr_steps: None }.schedule()
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<LrSchedule, A::Error> {
        Settings::deserialize(MapAccessDeserializer::new(table))?.schedule()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_schedule_is_a_name_or_a_table_and_survives_being_written() {
        #[derive(Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Config {
            lr: LrSchedule,
        }
        for (text, expected) in [
            ("lr = \"constant\"", LrSchedule::Constant),
            ("lr = { kind = \"constant\" }", LrSchedule::Constant),
            ("lr = { kind = \"linear\", lr_steps = 7 }", LrSchedule::Linear { lr_steps: 7 }),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            assert_eq!(config.lr, expected);
            let written = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<Config>(&written).unwrap().lr, expected);
        }
        for (text, part) in [
            ("lr = \"cosine\"", "lr_steps"),
            ("lr = { kind = \"cosine\" }", "lr_steps"),
            ("lr = { kind = \"cosine\", lr_step = 7 }", "lr_steps"),
            ("lr = { kind = \"constant\", lr_steps = 7 }", "lr_steps"),
            ("lr = \"steps\"", "linear"),
            ("lr = 3", "lr_steps"),
        ] {
            let message = toml::from_str::<Config>(text).map(|c| c.lr).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("line 1"), "{message}");
        }
    }
}
