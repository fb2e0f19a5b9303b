//! Videos on disk to batches, batches to videos, and unlimited synthetic clips.
//!
//! Reading: [`Folder`] lists videos with captions (or a [`Generator`] draws them), and a [`Loader`]
//! turns them into batches of one shape. Their order depends on the seed alone and can be resumed
//! from any saved [`Cursor`]. Writing: [`ClipFormat`] names the clip formats; [`grid`],
//! [`write_contact_sheet`] and [`write_line_plot`] show many clips at once. MP4 and similar formats
//! are read and written through [`Ffmpeg`], if it is installed.
//! ```
//! use vd_data::{Cursor, DataConfig, FireworksConfig, Loader, Source};
//!
//! let config = DataConfig {
//!     source: Source::Fireworks(FireworksConfig::default()),
//!     size: [16, 16],
//!     ..DataConfig::default()
//! };
//! let mut loader = Loader::new(&config, 4, Cursor::start(0))?;
//! let batch = loader.next()?;
//! assert_eq!(batch.video.size(), [4, 3, 8, 16, 16]); // b c f h w
//! # Ok::<(), vd_data::Error>(())
//! ```
#![forbid(unsafe_code)]

mod array;
mod captions;
mod clip;
mod colour;
mod config;
mod config_numbers;
mod decode;
mod error;
mod fit;
mod fit_floats;
mod floats;
mod folder;
mod generate;
mod inspect;
mod interval;
mod loader;
mod normalise;
mod process;
mod random;
mod rows;
mod shards;
mod source;
mod synth;
mod take;
mod take_floats;
mod write;

pub use array::{Array, ArrayOptions, Axes, Dtype};
pub use captions::{Captions, Row, Value};
pub use clip::{Clip, UNSTATED_FPS};
pub use colour::{Colour, colour_votes, dominant_colour};
pub use config::{Crop, DataConfig, ImagesConfig, MAX_FRAMES, Short, Source};
pub use decode::{Ffmpeg, MAX_SIDE, Media, Probe, decode, films_through_libav};
pub use error::{Error, Result};
pub use fit::fit;
pub use fit_floats::fit_floats;
pub use floats::{AnyClip, FloatClip};
pub use folder::{BadFile, Entry, Folder, folder_contains};
pub use generate::{DigitsConfig, FireworksConfig, Generator};
pub use inspect::{
    ArrayReport, ArrayStats, Channel, Column, Histogram, Pixels, Report, SizeCount, Spread, Stats,
    Survey, inspect, inspect_arrays, inspect_with, stats, survey,
};
pub use interval::{Difference, Share, newcombe, wilson};
pub use loader::{Batch, Cursor, Dataset, Image, ImageInfo, Images, Loader};
pub use normalise::{ChannelRule, Normalise, Normaliser, Scaling, Transform};
pub use shards::{
    Dtype as ShardDtype, Packed, Prepare, Prepared, Progress, StoredArrays, Verified, is_shards,
    prepare, verify as verify_shards,
};
pub use synth::{Written, write_synthetic};
pub use take::{Sample, Taken};
pub use tch;
pub use vd_tensor_ops as ops;
pub use write::{
    ArrayFormat, ClipFormat, Line, LinePlot, Previewed, SheetRow, contact_sheet, gif_fps, grid,
    mp4_size, picture, tile, webp_fps, write_array, write_contact_sheet, write_floats,
    write_frames, write_frames_from, write_gif, write_gif_keeping, write_line_plot, write_mp4,
    write_preview, write_webp,
};
