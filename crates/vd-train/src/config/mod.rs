//! The config of a run, as written in its TOML file.

mod classes;
mod overrides;
mod plain;
mod signals;
mod statistics;
mod train;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vd_data::{DataConfig, Source};
use vd_diffusion::DiffusionConfig;
use vd_text_cond::TextConfig;
use vd_unet3d::{TimeEmbedding, UNet3dConfig};

pub(crate) use classes::columns;
pub use signals::{SignalFrom, SignalSource, Upsampling};
pub use train::TrainConfig;

use crate::{Error, Result};

/// A run: `[model]`, `[diffusion]`, `[text]`, `[signals]`, `[data]` and `[train]`.
///
/// Relative paths start at the current directory, except that of a table of captions, which starts
/// at the folder of the data. Without `[text]` and `[signals]` the model is unconditional.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The network.
    #[serde(default)]
    pub model: UNet3dConfig,
    /// The diffusion process.
    #[serde(default)]
    pub diffusion: DiffusionConfig,
    /// How captions and prompts condition the network; if missing, they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// The sources of all conditioning inputs besides the text, `[signals.NAME]` for each
    /// `[model.signals.NAME]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, SignalSource>,
    /// The data that it is trained on.
    pub data: DataConfig,
    /// How it is trained.
    pub train: TrainConfig,
}

impl RunConfig {
    /// Reads a config file, applies settings of the form `section.key=value`, and checks and
    /// completes the result like [`RunConfig::resolved`].
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML; unknown keys, reported with their line and the
    /// known ones; values outside their range or inconsistent with each other.
    pub fn load(path: &Path, overrides: &[String]) -> Result<RunConfig> {
        let text = read_text(path)?;
        overrides::parse(path, &text, overrides)?.resolved()
    }

    /// The config with derived settings filled in: the widths of embeddings and tokens, the
    /// channels of the network, and missing class names, which are taken from the newest checkpoint
    /// in `train.out`, else from the data, sorted. Missing statistics of `data.normalise` are taken
    /// from that checkpoint too, if there is one.
    ///
    /// # Errors
    /// As [`RunConfig::validate`]; an encoder's file, or a folder of clips, that cannot be read.
    pub fn resolved(mut self) -> Result<RunConfig> {
        if self.train.out.is_file() {
            let got = format!("{}, which is a file", self.train.out.display());
            return Err(Error::config("train.out", "a folder for the run", got));
        }
        self.check_text()?;
        signals::check_sections(&self)?;
        if let Some(text) = &self.text {
            text.validate()?;
            complete_widths(&mut self.model, text.encoder.widths()?)?;
        }
        classes::complete_classes(&mut self)?;
        statistics::complete(&mut self)?;
        self.model.init_dim = Some(self.model.first_channels());
        self.model.out_dim = Some(self.model.out_channels());
        self.validate()?;
        Ok(self)
    }

    /// Checks every section, and their consistency.
    ///
    /// # Errors
    /// Names the first setting that is outside its range or inconsistent with another.
    pub fn validate(&self) -> Result<()> {
        // first, because without a source a class signal has no classes, which the network would
        // refuse too
        signals::check_sections(self)?;
        self.model.validate()?;
        if let Some(text) = &self.text {
            text.validate()?;
        }
        self.data.validate()?;
        self.train.validate()?;
        self.check_text()?;
        self.check_network()?;
        signals::check_sources(self)?;
        self.check_previews()?;
        self.check_images()?;
        let images = self.data.images.as_ref().and_then(|images| images.source.as_ref());
        let sources = [("data.source", Some(&self.data.source)), ("data.images.source", images)];
        for (key, source) in sources {
            if let Some(path) = source.and_then(Source::path)
                && path.exists()
                && vd_data::folder_contains(path, &self.train.out)?
            {
                let expected = format!("a folder outside {key}.path = \"{}\"", path.display());
                return Err(Error::config("train.out", expected, self.train.out.display()));
            }
        }
        Ok(())
    }

    /// The config as TOML, with every default written out except settings that are off when left
    /// out; parsing it gives an equal config.
    ///
    /// # Errors
    /// Numbers that TOML cannot represent.
    pub fn to_toml(&self) -> Result<String> {
        to_toml(self)
    }

    fn check_text(&self) -> Result<()> {
        let model = &self.model;
        if (model.cond_dim.is_some() || model.tokens.is_some()) && self.text.is_none() {
            let got = match model.cond_dim {
                Some(_) => "model.cond_dim without it",
                None => "[model.tokens] without it",
            };
            return Err(Error::config("text", "an encoder for the conditional model", got));
        }
        Ok(())
    }

    fn check_network(&self) -> Result<()> {
        let (model, data) = (&self.model, &self.data);
        if model.channels != data.channels as i64 {
            let expected = format!("{}, like data.channels", data.channels);
            return Err(Error::config("model.channels", expected, model.channels));
        }
        if model.out_channels() != model.channels {
            let expected = format!("{}, like model.channels, for training", model.channels);
            return Err(Error::config("model.out_dim", expected, model.out_channels()));
        }
        if model.time == TimeEmbedding::LogSnr && !self.diffusion.schedule.tells_log_snr() {
            let expected = "\"step\", or a schedule that provides the log-SNR: diffusion.schedule = \
                            { kind = \"cosine\", time_input = \"log-snr\" }";
            return Err(Error::config("model.time", expected, "\"log-snr\""));
        }
        let multiple = model.spatial_multiple();
        if data.size.iter().any(|n| *n as i64 % multiple != 0) {
            let halvings = model.dim_mults.len() - 1;
            let expected = format!(
                "sides divisible by {multiple}, because model.dim_mults halves them {halvings} times"
            );
            return Err(Error::config("data.size", expected, format!("{:?}", data.size)));
        }
        Ok(())
    }

    /// Checks that images beside the clips would be independent of them.
    fn check_images(&self) -> Result<()> {
        if self.data.images.is_none() {
            return Ok(());
        }
        if self.train.focus_present > 0.0 {
            let expected = "0 with data.images, which already adds independent images";
            return Err(Error::config("train.focus_present", expected, self.train.focus_present));
        }
        match self.model.coupling() {
            Some(coupling) if !self.train.coupled_images => {
                let expected = "no data.images with a network that couples the clip and the images after it \
                                beyond its attention mask (use another norm, or set \
                                train.coupled_images = true for images that are not independent)";
                Err(Error::config("data.images", expected, coupling))
            }
            _ => Ok(()),
        }
    }

    fn check_previews(&self) -> Result<()> {
        let train = &self.train;
        if train.preview_every == 0 {
            return Ok(());
        }
        if let Some((name, _)) = self.signals.iter().find(|(_, source)| source.drop == 0.0) {
            let expected = format!(
                "0, or signals.{name}.drop above 0: previews use the signal's null embedding, \
                 which is otherwise not trained"
            );
            return Err(Error::config("train.preview_every", expected, train.preview_every));
        }
        if self.text.is_none() && !train.preview_prompts.is_empty() {
            let got = format!("{} prompts without a [text] section", train.preview_prompts.len());
            return Err(Error::config("train.preview_prompts", "none", got));
        }
        let drop = self.text.as_ref().map_or(0.0, |text| text.drop);
        if train.preview_scale != 1.0 && drop == 0.0 {
            let expected = "1, because guidance needs a [text] section with drop above 0";
            return Err(Error::config("train.preview_scale", expected, train.preview_scale));
        }
        Ok(())
    }
}

/// Fills in the widths of an encoder in the network's config.
fn complete_widths(
    model: &mut UNet3dConfig,
    (width, token_width): (i64, Option<i64>),
) -> Result<()> {
    let differs = |key, width, given| {
        let expected = format!("{width}, the width of text.encoder, or no value");
        Err(Error::config(key, expected, given))
    };
    // A network that pools the tokens sets the width of the embedding itself.
    if !model.tokens.as_ref().is_some_and(|tokens| tokens.pool) {
        let given = *model.cond_dim.get_or_insert(width);
        if given != width {
            return differs("model.cond_dim", width, given);
        }
    }
    let Some(tokens) = &mut model.tokens else { return Ok(()) };
    let Some(width) = token_width else {
        let expected = "an encoder that gives tokens, for [model.tokens]";
        return Err(Error::config("text.encoder", expected, "one that gives only embeddings"));
    };
    if tokens.dim == 0 {
        tokens.dim = width;
    }
    if tokens.dim != width {
        return differs("model.tokens.dim", width, tokens.dim);
    }
    Ok(())
}

/// The text of a config file.
fn read_text(path: &Path) -> Result<String> {
    let refuse = |message: String| Err(Error::Parse { path: path.to_path_buf(), message });
    if path.is_dir() {
        let inside = path.join("config.toml");
        return refuse(match inside.is_file() {
            true => format!("is the folder of a run: use {}", inside.display()),
            false => "is a folder; expected a TOML config".to_owned(),
        });
    }
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            refuse("not a TOML config: it is not text".to_owned())
        }
        read => read.map_err(Error::io(path)),
    }
}

/// Any config as TOML.
pub(crate) fn to_toml(config: &impl Serialize) -> Result<String> {
    toml::to_string(config).map_err(|e| Error::Parse {
        path: "the config".into(),
        message: format!("cannot be written as TOML: {e}"),
    })
}
