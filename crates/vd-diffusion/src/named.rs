//! Config enums written as `"name"`, or as `{ kind = "name", ... }` if there are settings.

use std::cell::Cell;

use serde::de::{DeserializeSeed, MapAccess};

/// Gives an enum that derives serde with `remote = "Self"` and `tag = "kind"` its serde
/// implementations, `name()` and `FromStr`.
///
/// The type is followed by its description, as used in messages, then by the kinds without settings
/// and those with settings, each with its name. A kind without settings is written as its bare
/// name, and refuses further keys, which serde itself would ignore.
macro_rules! name_or_table {
    (
        $type:ty, $what:literal,
        [$($bare:ident => $bare_name:literal),* $(,)?],
        [$($table:ident => $table_name:literal),* $(,)?] $(,)?
    ) => {
        impl $type {
            /// Its name in a config.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$bare => $bare_name,)*
                    $(Self::$table { .. } => $table_name,)*
                }
            }

            fn is_bare(&self) -> bool {
                match self {
                    $(Self::$bare => true,)*
                    $(Self::$table { .. } => false,)*
                }
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::Error;

            /// The kind with this name, with default settings.
            fn from_str(name: &str) -> crate::Result<Self> {
                let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
                    serde::de::IntoDeserializer::into_deserializer(name);
                let config = <$type as serde::Deserialize>::deserialize(name);
                config.map_err(|error| crate::Error::custom(format!("{}: {error}", $what)))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
                if self.is_bare() {
                    return to.serialize_str(self.name());
                }
                <$type>::serialize(self, to)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("the name of a ", $what, ", or a table with its `kind`"))
                    }
                    fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<$type, E> {
                        let table = std::iter::once(("kind", name));
                        <$type>::deserialize(serde::de::value::MapDeserializer::new(table))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        table: A,
                    ) -> std::result::Result<$type, A::Error> {
                        let keys = std::cell::Cell::new(0);
                        let table = crate::named::Counted { table, keys: &keys };
                        let table = serde::de::value::MapAccessDeserializer::new(table);
                        let value = <$type>::deserialize(table)?;
                        if value.is_bare() && keys.get() > 1 {
                            return Err(serde::de::Error::custom(format_args!(
                                "kind `{}` has no settings: expected no key but `kind`",
                                value.name()
                            )));
                        }
                        Ok(value)
                    }
                }
                from.deserialize_any(Visitor)
            }
        }
    };
}
pub(crate) use name_or_table;

/// A table that counts the keys read from it.
pub(crate) struct Counted<'a, A> {
    pub(crate) table: A,
    pub(crate) keys: &'a Cell<usize>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let key = self.table.next_key_seed(seed)?;
        self.keys.set(self.keys.get() + usize::from(key.is_some()));
        Ok(key)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.table.next_value_seed(seed)
    }
}

/// A number that may be infinite: as JSON has no such number, it is written as "inf".
pub(crate) mod number_or_inf {
    use serde::{Deserialize, Deserializer, Serializer};

    const INF: &str = "inf";

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number, or \"inf\"")]
    enum Number {
        Finite(f64),
        Named(Name),
    }

    #[derive(Deserialize)]
    enum Name {
        #[serde(rename = "inf")]
        Inf,
    }

    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        if *value == f64::INFINITY { to.serialize_str(INF) } else { to.serialize_f64(*value) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(match Number::deserialize(from)? {
            Number::Finite(value) => value,
            Number::Named(Name::Inf) => f64::INFINITY,
        })
    }
}
