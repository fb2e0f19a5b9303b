//! An open film: its packets and its frames.

use std::fs::File;
use std::path::Path;
use std::sync::Once;

use ffmpeg_next::codec::Context;
use ffmpeg_next::codec::packet::side_data::Type;
use ffmpeg_next::decoder::{self, Opened};
use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::format::input_from_stream;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Dictionary, Packet, Rational, log, media};

use super::super::Container;
use super::super::index::no_stream;
use super::super::listing::Stream;
use super::turn::Turn;
use crate::decode::check_size;
use crate::{Error, Result};

/// The seconds before a presentation time that hold at most as many frames as can be reordered.
const REORDERED: f64 = 3.0 / 23.0;
/// The clock of the libraries, in ticks per second.
const TICKS: f64 = 1e6;

pub(super) struct Film<'a> {
    path: &'a Path,
    container: Container,
    input: Input,
    /// The index of the stream.
    index: usize,
    tick: Rational,
    decoder: decoder::Video,
    about: Stream,
    turn: Turn,
}

impl<'a> Film<'a> {
    /// Opens the first video stream.
    pub(super) fn open(path: &'a Path, container: Container) -> Result<Self> {
        quiet();
        let file = File::open(path).map_err(|e| Error::read(path, e))?;
        let refuse = |e| damaged(path, container, e);
        let io = StreamIo::from_read_seek(file).map_err(refuse)?;
        // the file is read as the format of its first bytes
        let options =
            [("format_whitelist", container.demuxer())].into_iter().collect::<Dictionary>();
        let input = input_from_stream(io, None, Some(options)).map_err(refuse)?;
        let stream = input.streams().find(|stream| {
            stream.parameters().medium() == media::Type::Video
                && !stream.disposition().contains(Disposition::ATTACHED_PIC)
        });
        let Some(stream) = stream else { return Err(no_stream(path)) };
        let context = || Context::from_parameters(stream.parameters()).map_err(refuse);
        let (h, w) = {
            // from a decoder that is not open yet: frames of size 0, or huge ones, get no further
            let unopened = decoder::Video(Opened(context()?.decoder()));
            (unopened.height(), unopened.width())
        };
        check_size(path, h, w)?;
        let tick = stream.time_base();
        let mut decoder = context()?.decoder();
        decoder.set_packet_time_base(tick);
        let decoder = decoder.video().map_err(refuse)?;
        let matrix = stream.side_data().find(|data| data.kind() == Type::DisplayMatrix);
        let turn = Turn::of(matrix.as_ref().map_or(&[], |data| data.data()));
        let rate = ratio(stream.avg_frame_rate());
        let rate = (rate.is_finite() && rate > 0.0).then_some(rate);
        let about = Stream { h, w, rotation: turn.degrees, rate };
        let index = stream.index();
        Ok(Self { path, container, input, index, tick, decoder, about, turn })
    }

    pub(super) fn about(&self) -> Stream {
        self.about
    }

    pub(super) fn turn(&self) -> &Turn {
        &self.turn
    }

    pub(super) fn parameters(&self) -> Option<ffmpeg_next::codec::Parameters> {
        self.input.stream(self.index).map(|stream| stream.parameters())
    }

    /// A time on the stream's clock in seconds, rounded to microseconds like ffprobe's output.
    pub(super) fn seconds(&self, ticks: i64) -> f64 {
        let exact = ticks as f64 * ratio(self.tick);
        format!("{exact:.6}").parse().unwrap_or(exact)
    }

    /// When a frame is shown.
    pub(super) fn time(&self, frame: &Video) -> Option<f64> {
        frame.timestamp().map(|ticks| self.seconds(ticks))
    }

    /// Seeks to a key frame from which everything shown at `at` or later can be decoded.
    pub(super) fn seek(&mut self, at: f64) -> Result<()> {
        // MP4's index has presentation times, those of the others only decoding times
        let early = self.container != Container::Mov && self.decoder.has_b_frames();
        let at = ((at - if early { REORDERED } else { 0.0 }) * TICKS) as i64;
        self.input.seek(at, ..at).map_err(|e| damaged(self.path, self.container, e))
    }

    /// The next packet of the stream; `None` at the end of the file.
    pub(super) fn packet(&mut self) -> Result<Option<Packet>> {
        loop {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() != self.index => {}
                Ok(()) if packet.is_corrupt() => {
                    return Err(self.refuse("a truncated packet"));
                }
                Ok(()) => return Ok(Some(packet)),
                Err(ffmpeg_next::Error::Eof) => return Ok(None),
                Err(error) => return Err(self.damaged(error)),
            }
        }
    }

    /// Reads the next frame that is shown; false at the end.
    pub(super) fn frame(&mut self, frame: &mut Video) -> Result<bool> {
        loop {
            match self.decoder.receive_frame(frame) {
                Ok(()) if frame.is_corrupt() || frame.has_decode_errors() => {
                    return Err(self.refuse("a damaged frame"));
                }
                Ok(()) => return Ok(true),
                Err(ffmpeg_next::Error::Other { errno: EAGAIN }) => {}
                Err(ffmpeg_next::Error::Eof) => return Ok(false),
                Err(error) => return Err(self.damaged(error)),
            }
            let sent = match self.packet()? {
                Some(packet) => self.decoder.send_packet(&packet),
                None => self.decoder.send_eof(),
            };
            sent.map_err(|e| self.damaged(e))?;
        }
    }

    /// Turns an error of the libraries into one about the file.
    pub(super) fn damaged(&self, error: ffmpeg_next::Error) -> Error {
        damaged(self.path, self.container, error)
    }

    fn refuse(&self, found: &str) -> Error {
        let expected = format!("an intact {} file", self.container.name());
        Error::damaged(self.path, expected, found)
    }
}

fn damaged(path: &Path, container: Container, error: ffmpeg_next::Error) -> Error {
    let expected = format!("an intact {} file", container.name());
    Error::damaged(path, expected, format!("the libav error: {error}"))
}

fn ratio(of: Rational) -> f64 {
    f64::from(of.numerator()) / f64::from(of.denominator())
}

/// Silences the libraries, which write to stderr on their own; their errors are returned anyway.
fn quiet() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        // fills the table of error texts; does not fail
        let _ = ffmpeg_next::init();
        log::set_level(log::Level::Quiet);
    });
}
