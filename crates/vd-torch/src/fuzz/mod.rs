//! Fuzz tests of parsers: damaged inputs by the hundred thousand, the same in every run.
//!
//! A test binary installs [`Counting`] as its allocator and gives [`Fuzz`] valid inputs and a
//! parser. The parser may refuse an input, but must not panic, hang, or allocate more than a stated
//! multiple of the input.

mod counting;
mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use counting::Counting;
pub use mutate::mutated;

/// A parser that spends this long on one input counts as hanging.
const HANG: Duration = Duration::from_secs(60);
/// Of so many inputs some are refused, unless the damage never reaches the parser.
const SOME: u64 = 1000;

/// Valid inputs, and the allocation limit of a parser for inputs made from them.
#[derive(Debug, Clone)]
pub struct Fuzz {
    seeds: Vec<Vec<u8>>,
    inputs: u64,
    multiple: usize,
    base: usize,
}

impl Fuzz {
    /// Inputs made from `seeds`, 100,000 of them; at most 64 bytes may be allocated at once for
    /// each byte of an input, plus 1 MiB.
    ///
    /// # Panics
    /// Without a seed.
    pub fn new(seeds: Vec<Vec<u8>>) -> Self {
        assert!(!seeds.is_empty(), "inputs are made of sound ones: at least one is needed");
        Self { seeds, inputs: 100_000, multiple: 64, base: 1 << 20 }
    }

    /// Sets the number of inputs, unless the variable `VD_FUZZ` does.
    #[must_use]
    pub fn inputs(self, inputs: u64) -> Self {
        Self { inputs, ..self }
    }

    /// At most `multiple` bytes may be allocated at once for each byte of an input, plus `base`
    /// bytes.
    ///
    /// Only Rust allocations of the parsing thread are counted.
    #[must_use]
    pub fn allocation(self, multiple: usize, base: usize) -> Self {
        Self { multiple, base, ..self }
    }

    /// Gives every seed to `parse`, which has to accept it, and then every input, which it may
    /// refuse. Returns how many inputs were accepted.
    ///
    /// # Panics
    /// If a seed is refused, or an input makes the parser panic or allocate too much; the message
    /// names the input, and [`mutated`] makes it again. If each of a thousand inputs or more is
    /// accepted. A parser that hangs ends the process.
    pub fn run<T, E: std::fmt::Display>(
        &self,
        mut parse: impl FnMut(&[u8]) -> Result<T, E>,
    ) -> u64 {
        for (k, seed) in self.seeds.iter().enumerate() {
            if let Err(error) = parse(seed) {
                panic!("seed {k} is refused: {error}");
            }
        }
        let given = std::env::var("VD_FUZZ").ok().and_then(|n| n.parse().ok());
        let inputs = given.unwrap_or(self.inputs);
        let watch = Watch::start();
        let mut taken = 0;
        for number in 0..inputs {
            watch.begins(number);
            let input = mutated(&self.seeds, number);
            let before = Counting::begin();
            let outcome = catch_unwind(AssertUnwindSafe(|| parse(&input).is_ok()));
            let most = Counting::most_since(before);
            let bound = input.len() * self.multiple + self.base;
            match outcome {
                Ok(sound) => taken += u64::from(sound),
                Err(_) => panic!("input {number} makes the parser panic: {}", shown(&input)),
            }
            assert!(
                most <= bound,
                "input {number} of {} bytes: {most} bytes allocated at once, at most {bound} are allowed: {}",
                input.len(),
                shown(&input)
            );
        }
        assert!(taken < inputs.max(SOME), "all {inputs} inputs are taken: no damage is seen");
        taken
    }
}

/// An input, for a message.
fn shown(input: &[u8]) -> String {
    const SHOWN: usize = 400;
    let more = if input.len() > SHOWN { " ..." } else { "" };
    format!("\"{}\"{more}", input[..input.len().min(SHOWN)].escape_ascii())
}

/// A thread that ends the process when one input takes too long.
struct Watch(Arc<AtomicU64>);

impl Watch {
    fn start() -> Self {
        let at = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&at);
        // detached: it ends when nobody is parsing any more
        std::thread::spawn(move || {
            let (mut last, mut since) = (u64::MAX, Instant::now());
            while let Some(at) = seen.upgrade() {
                let now = at.load(Ordering::Relaxed);
                drop(at);
                if now != last {
                    (last, since) = (now, Instant::now());
                } else if since.elapsed() > HANG {
                    // a hanging thread cannot be stopped: only the end of the process ends it
                    std::process::abort();
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self(at)
    }

    fn begins(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_the_same_in_every_run_and_differ_from_each_other() {
        let seeds = vec![b"GIF89a, 12 frames of 34".to_vec(), vec![0; 40]];
        let all: Vec<_> = (0..500).map(|number| mutated(&seeds, number)).collect();
        assert!((0..500).all(|number| mutated(&seeds, number) == all[number as usize]));
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert!(different.len() > 400, "{}", different.len());
        assert!(all.iter().any(|input| input.len() < 20) && all.iter().any(|i| i.len() > 45));
    }

    #[test]
    fn a_parser_that_panics_is_found_with_the_number_of_the_input() {
        let fuzz = Fuzz::new(vec![vec![1, 2, 3, 4]]).inputs(2000);
        let taken = fuzz.run(|bytes| if bytes.len() > 3 { Ok(()) } else { Err("short") });
        assert!((1..2000).contains(&taken));
        let broken = |bytes: &[u8]| -> Result<u8, String> { Ok(bytes[3]) };
        let found = catch_unwind(|| fuzz.run(broken));
        let message = found.expect_err("some input is shorter").downcast::<String>();
        assert!(message.is_ok_and(|text| text.contains("makes the parser panic")));
    }
}
