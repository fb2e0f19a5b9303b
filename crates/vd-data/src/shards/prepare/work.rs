//! Threads that decode, and the one that writes in order.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::clip::{Encoded, encode, signature};
use super::state::State;
use super::writer::Writer;
use super::{Prepare, Progress, bad, check_bad};
use crate::decode::Media;
use crate::folder::{BadFile, Entry, Folder};
use crate::shards::name::Name;
use crate::shards::record::{ClipLine, Key, Line, Signature};
use crate::shards::verify::checksum;
use crate::{Error, Result};

/// The results for the clips of a folder.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// In the order of the folder; incomplete if the run was stopped.
    pub(super) lines: Vec<Line>,
    pub(super) bad: Vec<BadFile>,
    pub(super) new: usize,
    pub(super) kept: usize,
}

/// A thread's result for one clip.
type Outcome = Result<(Encoded, Signature, String)>;

/// What is known of a clip before it is opened.
enum Known {
    /// It is already stored; only its caption may have changed.
    Kept(Box<ClipLine>),
    New,
}

/// Prepares the clips that are missing. They are written in order, whichever thread finishes first,
/// so that the bytes do not depend on the threads.
pub(super) fn prepare_all(
    config: &Prepare,
    listed: &Folder,
    state: &mut State,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Done> {
    let known: Vec<Known> = listed.entries().iter().map(|entry| look_up(state, entry)).collect();
    let window = config.workers * 2;
    std::thread::scope(|scope| {
        // the channels close when this closure ends, before the threads are joined, so that these
        // end too
        let (jobs, work) = bounded::<usize>(window);
        let (send, outcomes) = bounded(window);
        for _ in 0..config.workers {
            let (work, send) = (work.clone(), send.clone());
            let run = move || run(config, listed, &work, &send);
            std::thread::Builder::new().spawn_scoped(scope, run).map_err(Error::Threads)?;
        }
        drop((work, send));
        let mut course = Course {
            config,
            listed,
            writer: Writer::new(state, config.shard_bytes),
            done: Done::default(),
        };
        let written = course.go(known, window, (jobs, outcomes), watch);
        // finished clips are kept, however the run ends
        let kept = course.writer.commit();
        written.and(kept).map(|()| course.done)
    })
}

/// A clip of an earlier run counts if its source has not changed.
fn look_up(state: &State, entry: &Entry) -> Known {
    let found = state.find(&key(entry));
    match found.filter(|clip| signature(&entry.media).is_ok_and(|now| now == clip.from)) {
        Some(clip) => {
            let mut clip = clip.clone();
            clip.caption = own_caption(entry);
            Known::Kept(Box::new(clip))
        }
        None => Known::New,
    }
}

fn key(entry: &Entry) -> Key {
    let (member, clip) = match &entry.media {
        Media::Array(array) => (array.member().map(str::to_owned), array.clip()),
        _ => (None, 0),
    };
    (Name::of(&entry.name), member, clip)
}

/// The caption stored in the clip's line; captions of a table are stored in the table.
fn own_caption(entry: &Entry) -> Option<String> {
    entry.caption.clone().filter(|_| entry.row.is_none())
}

/// Decodes clips until there are no more jobs.
fn run(config: &Prepare, listed: &Folder, work: &Receiver<usize>, send: &Sender<(usize, Outcome)>) {
    for index in work {
        let media = &listed.entries()[index].media;
        // taken before the frames are read: a file that changes meanwhile is prepared again next
        // time
        let outcome = signature(media).and_then(|from| {
            let clip = encode(media, config)?;
            let sum = checksum(&clip.bytes);
            Ok((clip, from, sum))
        });
        if send.send((index, outcome)).is_err() {
            return;
        }
    }
}

/// The state of the writing thread.
struct Course<'a, 'b> {
    config: &'a Prepare,
    listed: &'a Folder,
    writer: Writer<'b>,
    done: Done,
}

impl Course<'_, '_> {
    fn go(
        &mut self,
        known: Vec<Known>,
        window: usize,
        (jobs, outcomes): (Sender<usize>, Receiver<(usize, Outcome)>),
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        let new = |(index, known): (usize, &Known)| matches!(known, Known::New).then_some(index);
        let mut waiting = known.iter().enumerate().filter_map(new).collect::<Vec<_>>().into_iter();
        let mut arrived = HashMap::new();
        let mut under_way = 0;
        let clips = known.len();
        for (index, known) in known.into_iter().enumerate() {
            match known {
                Known::Kept(clip) => {
                    self.done.kept += 1;
                    self.done.lines.push(Line::Clip(*clip));
                }
                Known::New => {
                    let outcome = loop {
                        while under_way < window
                            && let Some(next) = waiting.next()
                        {
                            jobs.send(next).map_err(|_| Error::WorkersGone)?;
                            under_way += 1;
                        }
                        if let Some(outcome) = arrived.remove(&index) {
                            break outcome;
                        }
                        let (other, outcome) = outcomes.recv().map_err(|_| Error::WorkersGone)?;
                        arrived.insert(other, outcome);
                    };
                    under_way -= 1;
                    self.write(index, outcome)?;
                }
            }
            let (done, bad) = (self.done.lines.len(), self.done.bad.len());
            let progress = Progress { done, clips, bad, bytes: self.writer.total() };
            if watch(progress).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes a clip, or records why it could not be prepared.
    fn write(&mut self, index: usize, outcome: Outcome) -> Result<()> {
        let entry = &self.listed.entries()[index];
        match outcome {
            Ok((clip, from, sha256)) => {
                let mut line = ClipLine {
                    name: Name::of(&entry.name),
                    shard: 0,
                    offset: 0,
                    shape: clip.shape,
                    dtype: clip.dtype,
                    fps: clip.fps.to_string(),
                    caption: own_caption(entry),
                    sha256,
                    from,
                    array: clip.array,
                };
                self.writer.write(&clip.bytes, &mut line)?;
                self.done.new += 1;
                self.done.lines.push(Line::Clip(line));
            }
            // a program that was killed from outside says nothing about the file: the next run
            // tries it again
            Err(error @ Error::Ffmpeg { .. }) => return Err(error),
            Err(error) => {
                let (line, file) = bad(entry, &error);
                self.done.lines.push(line);
                self.done.bad.push(file);
                let before = self.listed.bad_files();
                if self.config.max_bad.is_some() {
                    check_bad(self.config, &[before, &self.done.bad[..]].concat())?;
                }
            }
        }
        Ok(())
    }
}
