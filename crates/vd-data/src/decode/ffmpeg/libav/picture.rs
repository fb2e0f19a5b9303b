//! Frames as shown, in red, green, blue.

use ffmpeg_next::filter::{self, Graph};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Error, filter::Context};
use image::RgbImage;

use super::turn::Turn;

/// The same conversion that `ask` requests from the programs.
const SCALE: &str = "scale=flags=bicubic+accurate_rnd+full_chroma_int,format=rgb24";

/// Rotates and converts frames.
pub(super) struct Pictures {
    chain: String,
    graph: Option<([u32; 2], Pixel, Graph)>,
    shown: Video,
}

impl Pictures {
    pub(super) fn new(turn: &Turn) -> Self {
        let chain = format!("{}{SCALE}", turn.filters);
        Self { chain, graph: None, shown: Video::empty() }
    }

    /// Converts a frame, which is consumed.
    pub(super) fn rgb(&mut self, frame: &mut Video) -> Result<RgbImage, Error> {
        let kind = ([frame.height(), frame.width()], frame.format());
        if kind.0.contains(&0) {
            return Err(Error::InvalidData);
        }
        let graph = match &mut self.graph {
            Some((size, format, graph)) if (*size, *format) == kind => graph,
            other => {
                let graph = graph(kind, &self.chain)?;
                &mut other.insert((kind.0, kind.1, graph)).2
            }
        };
        let end = |graph: &mut Graph, name| graph.get(name).ok_or(Error::FilterNotFound);
        end(graph, "in")?.source().add(frame)?;
        end(graph, "out")?.sink().frame(&mut self.shown)?;
        let (h, w) = (self.shown.height(), self.shown.width());
        let (row, stride) = (w as usize * 3, self.shown.stride(0));
        let mut pixels = Vec::with_capacity(row * h as usize);
        for line in self.shown.data(0).chunks(stride).take(h as usize) {
            pixels.extend_from_slice(line.get(..row).ok_or(Error::Bug)?);
        }
        RgbImage::from_raw(w, h, pixels).ok_or(Error::Bug)
    }
}

/// The filter graph from one kind of frames to the shown picture.
fn graph(([h, w], format): ([u32; 2], Pixel), chain: &str) -> Result<Graph, Error> {
    let name = format.descriptor().ok_or(Error::InvalidData)?.name();
    let source = format!("video_size={w}x{h}:pix_fmt={name}:time_base=1/1:pixel_aspect=1/1");
    let mut graph = Graph::new();
    add(&mut graph, "buffer", "in", &source)?;
    add(&mut graph, "buffersink", "out", "")?;
    graph.output("in", 0)?.input("out", 0)?.parse(chain)?;
    graph.validate()?;
    Ok(graph)
}

fn add(graph: &mut Graph, filter: &str, name: &str, options: &str) -> Result<Context, Error> {
    graph.add(&filter::find(filter).ok_or(Error::FilterNotFound)?, name, options)
}
