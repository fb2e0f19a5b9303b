//! Child processes: their output, their error messages, and their end.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

/// The longest time that a program may stay silent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes read from a pipe at once.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for their reader.
const WAITING: usize = 4;
/// How much of the error output is kept.
const COMPLAINTS: usize = 16 << 10;

/// A running program, which is ended at the latest when this value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    complaints: Arc<Mutex<Vec<u8>>>,
    /// Closed when the program's error output ends.
    silent: Option<Receiver<()>>,
    patience: Duration,
}

impl Process {
    /// Starts a program whose stdin and stdout are set in `command`.
    pub(crate) fn start(command: &mut Command, patience: Duration) -> io::Result<Self> {
        #[cfg(unix)]
        {
            // Ctrl-C is for this program, which may still need the other one to finish its work.
            use std::os::unix::process::CommandExt;
            command.process_group(0);
        }
        let child = command.stderr(Stdio::piped()).spawn()?;
        let mut process = Self { child, complaints: Arc::default(), silent: None, patience };
        if let Some(mut stderr) = process.child.stderr.take() {
            let (open, silent) = bounded::<()>(0);
            let kept = Arc::clone(&process.complaints);
            // A pipe that is not emptied fills up and blocks the program for ever.
            let drain = move || {
                let _open = open;
                let mut chunk = [0; 4096];
                while let Ok(n @ 1..) = stderr.read(&mut chunk) {
                    if let Ok(mut kept) = kept.lock() {
                        let room = COMPLAINTS.saturating_sub(kept.len());
                        kept.extend_from_slice(&chunk[..n.min(room)]);
                    }
                }
            };
            thread::Builder::new().name("vd-stderr".to_owned()).spawn(drain)?;
            process.silent = Some(silent);
        }
        Ok(process)
    }

    /// The program's output, if its stdout is a pipe.
    pub(crate) fn output(&mut self) -> io::Result<Output> {
        let (send, chunks) = bounded(WAITING);
        if let Some(mut stdout) = self.child.stdout.take() {
            let take = move || {
                loop {
                    let mut chunk = vec![0; CHUNK];
                    let read = stdout.read(&mut chunk);
                    let last = !matches!(read, Ok(1..));
                    let sent = send.send(read.map(|n| {
                        chunk.truncate(n);
                        chunk
                    }));
                    if last || sent.is_err() {
                        break;
                    }
                }
            };
            thread::Builder::new().name("vd-stdout".to_owned()).spawn(take)?;
        }
        Ok(Output { chunks, chunk: Vec::new(), at: 0, patience: self.patience })
    }

    /// The program's input, if its stdin is a pipe.
    pub(crate) fn input(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for the end; returns the exit status and the error output.
    pub(crate) fn finish(mut self) -> io::Result<(ExitStatus, String)> {
        let begun = Instant::now();
        let mut pause = Duration::from_micros(200);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if begun.elapsed() > self.patience {
                return Err(late(self.patience));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        if let Some(silent) = &self.silent {
            // A child of the program may hold the pipe open.
            let _ = silent.recv_timeout(Duration::from_secs(2));
        }
        let kept = self.complaints.lock().map(|kept| kept.clone()).unwrap_or_default();
        Ok((status, String::from_utf8_lossy(&kept).into_owned()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the program has already ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program's output; silence beyond its patience is an error.
#[derive(Debug)]
pub(crate) struct Output {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
    patience: Duration,
}

impl Read for Output {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.chunks.recv_timeout(self.patience) {
                Ok(chunk) => (self.chunk, self.at) = (chunk?, 0),
                Err(RecvTimeoutError::Timeout) => return Err(late(self.patience)),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let n = into.len().min(self.chunk.len() - self.at);
        into[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

fn late(patience: Duration) -> io::Error {
    let text = format!("no output for {} s", patience.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        Process::start(&mut command, patience).unwrap()
    }

    #[test]
    fn output_and_complaints_larger_than_any_pipe_come_through() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo \"a line of complaint, number $i\" >&2; \
                      printf '%01000d' $i; i=$((i+1)); done; exit 3";
        let mut process = shell(script, PATIENCE);
        let mut output = Vec::new();
        process.output().unwrap().read_to_end(&mut output).unwrap();
        let (status, complaints) = process.finish().unwrap();
        assert_eq!((output.len(), status.code()), (3_000_000, Some(3)));
        assert!(complaints.starts_with("a line of complaint, number 0\n"), "{complaints}");
        assert_eq!(complaints.len(), COMPLAINTS);
    }

    #[test]
    fn a_program_that_says_nothing_is_given_up_and_ended() {
        let mut process = shell("echo $$; exec sleep 600", Duration::from_millis(200));
        let mut output = process.output().unwrap();
        let mut line = [0; 2];
        output.read_exact(&mut line).unwrap();
        let error = output.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let id = process.child.id();
        assert_eq!(process.finish().unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Its process has been waited for too, so that even its number is free.
        assert!(!std::path::Path::new(&format!("/proc/{id}/stat")).exists());
    }
}
