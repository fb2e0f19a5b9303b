//! Random numbers of many streams, made where they are wanted.

use tch::{Device, Kind, Tensor};
use vd_torch::cuda::Launch;

use super::machine::run;
use super::rows::floats;
use super::{Machine, Unit};

/// Threads of a block; as in `cu/noise.cu`.
const MAKERS: u32 = 128;
/// Words that a block takes of its row.
const WORDS: u64 = 16 * (MAKERS as u64 - 1);

/// How the numbers are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Standard normal.
    Normal,
    /// Uniform on [0, 1).
    Uniform,
}

impl Law {
    /// Words of its stream that a row of `each` values takes.
    pub fn words(self, each: u64) -> u64 {
        match self {
            Law::Normal => each + each % 2,
            Law::Uniform => each,
        }
    }
}

/// Rows of ChaCha streams (8 rounds) that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// The key of all of them.
    pub key: [u32; 8],
    /// The number of the first row's stream.
    pub first: u64,
    /// The word of each stream from which on numbers are taken.
    pub word: u64,
}

/// Declared as in `cu/noise.cu`.
#[repr(C)]
struct Draw {
    out: *mut f32,
    stream: u64,
    word: u64,
    each: u64,
    chunks: u32,
    key: [u32; 8],
}

/// Numbers from the streams' words, a row from each, as [`crate::SeededNoise`] draws them on the host:
/// uniform ones the same, normal ones but for what rounding to f32 makes of the last bits of f64's
/// logarithm, sine and cosine.
///
/// # Shapes
/// Result: rows each, f32, on `device`
/// # Errors
/// Whatever the machine says; words beyond the ends of their streams.
pub fn draw(
    on: &dyn Machine,
    law: Law,
    streams: &Streams,
    (rows, each): (u64, u64),
    device: Device,
) -> vd_torch::Result<Tensor> {
    let out = Tensor::f_empty([rows as i64, each as i64], (Kind::Float, device))?;
    if rows * each == 0 {
        return Ok(out);
    }
    let failed =
        |why: &str| vd_torch::Error::Driver { what: "noise".to_owned(), why: why.to_owned() };
    let words = law.words(each);
    if streams.word.checked_add(words).is_none() {
        return Err(failed("a stream has no more words"));
    }
    let chunks = (streams.word % 16 + words).div_ceil(WORDS);
    let blocks = rows.checked_mul(chunks).and_then(|blocks| i32::try_from(blocks).ok());
    let blocks = blocks.ok_or_else(|| failed("more numbers than a launch has blocks for"))?;
    let params = Draw {
        out: floats(&out),
        stream: streams.first,
        word: streams.word,
        each,
        chunks: chunks as u32,
        key: streams.key,
    };
    let launch = Launch { blocks: blocks as u32, threads: MAKERS, shared: 16 * 4 * MAKERS };
    let kernel = match law {
        Law::Normal => "normal_f32",
        Law::Uniform => "uniform_f32",
    };
    // SAFETY: room for the numbers of all rows, on the machine's device.
    unsafe { run(on, Unit::NOISE, kernel, launch, &params)? };
    Ok(out)
}
