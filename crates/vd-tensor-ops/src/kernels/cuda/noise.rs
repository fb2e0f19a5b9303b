//! Random numbers of many streams, made on the device that uses them.

use tch::{Device, Kind, Tensor};
use vd_torch::cuda::Launch;

use super::machine::run;
use super::rows::floats;
use super::{Machine, Unit};

/// Threads per block; as in `cu/noise.cu`.
const MAKERS: u32 = 128;
/// Words that a block takes of its row.
const WORDS: u64 = 16 * (MAKERS as u64 - 1);

/// The distribution of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Standard normal.
    Normal,
    /// Uniform on [0, 1).
    Uniform,
}

impl Law {
    /// Number of stream words that a row of `each` values takes.
    pub fn words(self, each: u64) -> u64 {
        match self {
            Law::Normal => each + each % 2,
            Law::Uniform => each,
        }
    }
}

/// Rows of consecutive ChaCha streams (8 rounds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// The key of all streams.
    pub key: [u32; 8],
    /// The number of the first row's stream.
    pub first: u64,
    /// The first word of each stream to use.
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

/// Numbers from the streams' words, one row per stream, as [`crate::SeededNoise`] draws them on the
/// host: uniform ones are identical, normal ones up to how rounding to f32 treats differences in
/// the last bits of f64's logarithm, sine and cosine.
///
/// # Shapes
/// Result: rows each, f32, on `device`
/// # Errors
/// Whatever the machine says; another device than the machine's; words beyond the ends of their streams.
pub fn draw(
    on: &dyn Machine,
    law: Law,
    streams: &Streams,
    (rows, each): (u64, u64),
    device: Device,
) -> vd_torch::Result<Tensor> {
    let failed =
        |why: &str| vd_torch::Error::Driver { what: "noise".to_owned(), why: why.to_owned() };
    if device != on.device() {
        return Err(failed(&format!("expected {:?}, got {device:?}", on.device())));
    }
    let out = Tensor::f_empty([rows as i64, each as i64], (Kind::Float, device))?;
    if rows * each == 0 {
        return Ok(out);
    }
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
