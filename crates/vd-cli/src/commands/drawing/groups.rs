//! What clips show: prompts, rows of embeddings, or nothing in particular.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::Tensor;
use vd_text_cond::{Condition, read_embeddings};

use crate::model::Model;

/// What clips show, once for each group of clips.
#[derive(Debug)]
pub(crate) enum Groups {
    /// Nothing in particular.
    Nothing,
    Prompts(Vec<String>),
    /// n d
    Rows(Tensor),
}

impl Groups {
    /// What --prompt or --cond say, if the model takes it.
    pub(crate) fn new(prompts: &[String], cond: Option<&Path>, model: &Model) -> Result<Self> {
        if prompts.is_empty() && cond.is_none() {
            return Ok(Groups::Nothing);
        }
        let flag = if cond.is_some() { "--cond" } else { "--prompt" };
        let Some(width) = model.config().cond_dim else {
            bail!(
                "{flag}: this model is unconditional and takes no prompts; leave {flag} out, or use \
                 a model trained with a [text] section"
            );
        };
        if let Some(path) = cond {
            return Ok(Groups::Rows(rows(path, width)?));
        }
        if model.checkpoint.config.text.is_none() {
            bail!(
                "--prompt: nothing says how this converted model's prompts were encoded; give their \
                 embeddings with --cond instead, {width} numbers a row"
            );
        }
        Ok(Groups::Prompts(prompts.to_vec()))
    }

    /// The number of groups.
    pub(crate) fn count(&self) -> usize {
        match self {
            Groups::Nothing => 0,
            Groups::Prompts(prompts) => prompts.len(),
            Groups::Rows(rows) => rows.size()[0] as usize,
        }
    }

    /// The prompt of a group.
    pub(crate) fn prompt(&self, group: usize) -> Option<&str> {
        match self {
            Groups::Prompts(prompts) => prompts.get(group).map(String::as_str),
            _ => None,
        }
    }

    /// The condition of these clips, `num` of which are in each group.
    pub(crate) fn condition(&self, clips: Range<usize>, num: usize) -> Result<Condition> {
        Ok(match self {
            Groups::Nothing => Condition::Nothing { clips: clips.len() },
            Groups::Prompts(prompts) => {
                Condition::Prompts(clips.map(|clip| prompts[clip / num].clone()).collect())
            }
            Groups::Rows(rows) => {
                let picked: Vec<_> = clips.map(|clip| (clip / num) as i64).collect();
                Condition::Embeddings(rows.f_index_select(0, &Tensor::f_from_slice(&picked)?)?)
            }
        })
    }
}

fn rows(path: &Path, width: i64) -> Result<Tensor> {
    let rows = read_embeddings(path).context("--cond")?;
    let got = rows.size()[1];
    ensure!(
        got == width,
        "--cond {}: rows of {got} numbers, but this model takes {width}",
        path.display()
    );
    Ok(rows)
}
