//! Arguments of the programs run by a comparison, in the form `key=value`.

use std::collections::BTreeMap;
use std::error::Error;
use std::str::FromStr;

pub(crate) struct Arguments(BTreeMap<String, String>);

impl Arguments {
    pub(crate) fn read() -> Self {
        let pairs = std::env::args().filter_map(|argument| {
            argument.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
        });
        Arguments(pairs.collect())
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, Box<dyn Error>> {
        Ok(self.0.get(key).ok_or_else(|| format!("give {key}=..."))?)
    }

    pub(crate) fn number<T: FromStr<Err: Error + 'static>>(
        &self,
        key: &str,
    ) -> Result<T, Box<dyn Error>> {
        Ok(self.text(key)?.parse()?)
    }
}
