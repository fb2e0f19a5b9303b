//! The flags of `bench-peer`, and the available shapes.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// A network and the shape of its videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) dim: u32,
    pub(crate) mults: &'static str,
    pub(crate) heads: u32,
    /// Features per head of the temporal attentions.
    pub(crate) head: u32,
    pub(crate) batch: u32,
    pub(crate) frames: u32,
    /// Height and width.
    pub(crate) side: u32,
}

const LARGE: Shape = Shape {
    name: "b1f5s32",
    dim: 64,
    mults: "1,2,4,8",
    heads: 8,
    head: 32,
    batch: 1,
    frames: 5,
    side: 32,
};

/// By default the first three are measured.
pub(crate) const SHAPES: [Shape; 4] = [
    LARGE,
    Shape { name: "b4f5s32", batch: 4, ..LARGE },
    Shape { name: "b1f16s64", frames: 16, side: 64, ..LARGE },
    Shape {
        name: "small",
        dim: 16,
        mults: "1,2,4",
        heads: 4,
        head: 16,
        batch: 16,
        frames: 8,
        side: 32,
    },
];
const BY_DEFAULT: usize = 3;

/// The precision of this project's kernels, and the errors allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Precision {
    pub(crate) name: &'static str,
    /// Maximum error of the output, in relative L2.
    pub(crate) output: f64,
    /// Maximum error of a single gradient, and of all together.
    pub(crate) gradient: f64,
}

/// The first one is the default.
pub(crate) const PRECISIONS: [Precision; 4] = [
    Precision { name: "f32", output: 1e-5, gradient: 1e-4 },
    Precision { name: "exact", output: 1e-5, gradient: 1e-4 },
    Precision { name: "reference", output: 1e-5, gradient: 1e-4 },
    Precision { name: "bf16", output: 2e-3, gradient: 2e-3 },
];

/// What is measured, and how.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) shapes: Vec<Shape>,
    pub(crate) train: bool,
    pub(crate) json: bool,
    pub(crate) compile: bool,
    /// No side uses AVX-512.
    pub(crate) avx2: bool,
    pub(crate) precision: Precision,
    pub(crate) pairs: usize,
    /// How often all shapes are measured, each time with new processes.
    pub(crate) runs: usize,
    /// One per core by default.
    pub(crate) threads: Option<usize>,
    /// A Python that has the package.
    pub(crate) python: Option<PathBuf>,
    /// The file is `cpu-NAME.json`.
    pub(crate) name: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            shapes: SHAPES[..BY_DEFAULT].to_vec(),
            train: false,
            json: false,
            compile: false,
            avx2: false,
            precision: PRECISIONS[0],
            pairs: 11,
            runs: 1,
            threads: None,
            python: None,
            name: None,
        }
    }
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Options::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (flag, joined) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let alone = joined.is_none();
            let mut value = || {
                let next = joined.clone().or_else(|| args.next().cloned());
                let fits = next.filter(|v| !v.is_empty() && !v.starts_with("--"));
                fits.ok_or_else(|| Error::Usage(format!("`{flag}` expects a value")))
            };
            match flag {
                "--train" if alone => options.train = true,
                "--json" if alone => options.json = true,
                "--compile" if alone => options.compile = true,
                "--avx2" if alone => options.avx2 = true,
                "--precision" => options.precision = precision(&value()?)?,
                "--shapes" => options.shapes = shapes(&value()?)?,
                "--pairs" => options.pairs = count(flag, &value()?)?,
                "--runs" => options.runs = count(flag, &value()?)?,
                "--threads" => options.threads = Some(count(flag, &value()?)?),
                "--python" => options.python = Some(value()?.into()),
                "--name" => options.name = Some(name(value()?)?),
                _ => return Err(Error::Usage(format!("`bench-peer` has no option `{arg}`"))),
            }
        }
        Ok(options)
    }
}

fn shapes(list: &str) -> Result<Vec<Shape>> {
    let names = SHAPES.map(|shape| shape.name);
    list.split(',').map(|name| Ok(SHAPES[named("shape", name, &names)?])).collect()
}

fn precision(name: &str) -> Result<Precision> {
    Ok(PRECISIONS[named("precision", name, &PRECISIONS.map(|precision| precision.name))?])
}

/// The index of a name among the known ones.
fn named(what: &str, name: &str, known: &[&str]) -> Result<usize> {
    let place = known.iter().position(|candidate| *candidate == name);
    place.ok_or_else(|| {
        Error::Usage(format!("unknown {what} `{name}`, expected one of {}", known.join(", ")))
    })
}

fn count(flag: &str, value: &str) -> Result<usize> {
    let number = value.parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| Error::Usage(format!("`{flag}` expects a number from 1, got `{value}`")))
}

/// A name that becomes part of a file name.
fn name(value: String) -> Result<String> {
    if value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Ok(value);
    }
    Err(Error::Usage(format!("`--name` takes letters, digits, `-`, `_` and `.`, got `{value}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    #[test]
    fn flags_take_their_values_in_both_spellings() {
        let wanted = Options {
            shapes: vec![SHAPES[3], SHAPES[0]],
            train: true,
            json: true,
            compile: true,
            avx2: true,
            precision: PRECISIONS[1],
            pairs: 3,
            runs: 5,
            threads: Some(2),
            python: Some("/x/python".into()),
            name: Some("a-b.1".to_owned()),
        };
        for line in [
            "--shapes small,b1f5s32 --train --json --compile --avx2 --precision exact --pairs 3 --runs 5 \
             --threads 2 --python /x/python --name a-b.1",
            "--name=a-b.1 --python=/x/python --threads=2 --pairs=3 --runs=5 --compile --avx2 --precision=exact --json --train \
             --shapes=small,b1f5s32",
        ] {
            assert_eq!(parsed(line).as_ref(), Ok(&wanted));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_wrong_usage() {
        for line in [
            "--shapes",
            "--shapes big",
            "--shapes small,",
            "--precision f64",
            "--pairs 0",
            "--runs 0",
            "--threads many",
            "--train=1",
            "--name ../x",
            "--python --train",
            "x",
        ] {
            assert!(matches!(parsed(line), Err(Error::Usage(_))), "{line}");
        }
    }
}
