//! Checks that a config fits the arrays of a data set.

use crate::array::Dtype;
use crate::decode::Media;
use crate::{DataConfig, Error, Folder, Result};

/// Refuses a config that does not fit the arrays of the folder, judged by the first of them; and
/// one for prepared arrays in which the mark of missing values can no longer be found.
pub(super) fn check_arrays(config: &DataConfig, folder: Option<&Folder>) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    let mut arrays =
        folder.entries().iter().filter_map(|entry| Some((entry, entry.media.numbers()?)));
    let Some((entry, numbers)) = arrays.next() else { return Ok(()) };
    let (name, channels) = (entry.place(folder.root()), numbers.channels);
    let name = name.display();
    if channels != config.channels {
        let which = match entry.media {
            Media::Packed(_) => "",
            _ => " (data.axes sets the order of the axes)",
        };
        let expected = format!("{channels}, as {name} has{which}");
        return Err(Error::config("data.channels", expected, config.channels));
    }
    if config.normalise.is_none() && numbers.dtype != Dtype::U8 {
        let expected = format!(
            "a rule for numbers other than u8, such as {{ kind = \"min-max\" }}: {name} is \
             an array of {}",
            numbers.dtype
        );
        return Err(Error::config("data.normalise", expected, "none"));
    }
    check_invalid(config, folder)
}

/// A mark of missing values is no longer found once it was rounded, or scaled together with other
/// values.
fn check_invalid(config: &DataConfig, folder: &Folder) -> Result<()> {
    let Some(invalid) = config.invalid else { return Ok(()) };
    let mixed = folder
        .entries()
        .iter()
        .find(|entry| matches!(&entry.media, Media::Packed(packed) if !packed.tells(invalid)));
    let Some(entry) = mixed else { return Ok(()) };
    let expected = format!(
        "none, or shards that were prepared with --invalid {invalid}: {} was rounded or scaled with \
         that number in it",
        entry.name.display()
    );
    Err(Error::config("data.invalid", expected, invalid))
}
