//! Finds packets that are decoded but not shown: those that an edit list hides.
//!
//! The binding does not expose the flag for this. A muxer that writes packets as text reveals it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ffmpeg_next::codec::Id;
use ffmpeg_next::ffi::AV_PKT_FLAG_DISCARD;
use ffmpeg_next::format::context::{Output, StreamIo};
use ffmpeg_next::format::output_to_stream;
use ffmpeg_next::{Error, Packet};

use super::film::Film;

pub(super) struct Hidden {
    output: Output,
    text: Text,
    /// Whether each packet was written; empty packets are not.
    written: Vec<bool>,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Hidden {
    pub(super) fn new(film: &Film<'_>) -> Result<Self, Error> {
        let text = Text::default();
        let io = StreamIo::from_write(text.clone())?;
        let mut output = output_to_stream(io, None, Some("framecrc"))?;
        let parameters = film.parameters().ok_or(Error::StreamNotFound)?;
        output.add_stream(Id::None)?.set_parameters(parameters);
        output.write_header()?;
        Ok(Self { output, text, written: Vec::new() })
    }

    /// Takes the next packet, and reduces it to its flags.
    pub(super) fn take(&mut self, packet: &mut Packet) -> Result<(), Error> {
        let written = packet.size() > 0;
        self.written.push(written);
        if written {
            packet.set_stream(0);
            // the muxer refuses times that do not ascend
            packet.set_pts(Some(0));
            packet.set_dts(Some(0));
            packet.write(&mut self.output)?;
        }
        Ok(())
    }

    /// Whether each packet is hidden.
    pub(super) fn told(mut self) -> Result<Vec<bool>, Error> {
        self.output.write_trailer()?;
        drop(self.output);
        let bytes = self.text.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::Bug)?;
        let mut told = text.lines().filter(|line| !line.starts_with('#')).map(is_hidden);
        let of = |written: bool| if written { told.next().ok_or(Error::Bug) } else { Ok(false) };
        self.written.into_iter().map(of).collect()
    }
}

/// Parses `stream, dts, pts, duration, size, sum`, and the flags if there are others than that of a
/// key frame: `F=0x5`.
fn is_hidden(line: &str) -> bool {
    let flags = line.split(", ").find_map(|part| part.trim().strip_prefix("F=0x"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & AV_PKT_FLAG_DISCARD != 0)
}
