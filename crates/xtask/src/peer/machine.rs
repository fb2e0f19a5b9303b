//! The kernel's data on the machine and on the processor time of processes.

use std::fs;

use super::json::Json;

/// Ticks per second; the same on every Linux architecture for which there are libtorch wheels.
pub(super) const TICKS: f64 = 100.0;
/// How much of one core other processes may use during the measurement if the machine is to count
/// as idle.
const QUIET: f64 = 0.05;

/// Properties that do not change between shapes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    /// The one-minute load average when the command was started.
    pub(super) load: f64,
}

/// How busy the machine was while one shape was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Busy {
    /// One-minute load averages: before the first turn, and the largest after any of them.
    pub(super) load: [f64; 2],
    /// Cores used by other processes, as a mean over the turns.
    pub(super) others: f64,
    /// Cores used by sides while it was another one's turn.
    pub(super) waiting: f64,
}

impl Busy {
    /// Whether other processes left the machine alone. The load average cannot tell, since it
    /// includes the sides.
    pub(super) fn is_idle(&self) -> bool {
        self.others <= QUIET
    }

    /// `idle`, or `NOT idle (others used 0.4 cores)`.
    pub(super) fn words(&self) -> String {
        if self.is_idle() {
            return "idle".to_owned();
        }
        format!("NOT idle (others used {:.2} cores)", self.others)
    }

    pub(super) fn json(&self) -> Json {
        let [before, during] = self.load;
        Json::Object(vec![
            ("idle", Json::Bool(self.is_idle())),
            ("cores_used_by_others", Json::Number(self.others)),
            ("cores_used_by_waiting_sides", Json::Number(self.waiting)),
            ("load_before", Json::Number(before)),
            ("load_during", Json::Number(during)),
        ])
    }
}

pub(super) fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// A name in the form used in file names: `AMD EPYC 9R14 (x)` becomes `amd-epyc-9r14-x`.
pub(super) fn slug(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

/// The one-minute load average; 0 if it cannot be read.
pub(super) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// Ticks during which the cores were busy, summed over all of them.
pub(super) fn busy() -> u64 {
    busy_of(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// `cpu  user nice system idle iowait irq softirq steal guest guest_nice`; user includes the
/// guests.
fn busy_of(stat: &str) -> u64 {
    let first = stat.lines().next().unwrap_or_default();
    let numbers: Vec<u64> = first.split_whitespace().skip(1).flat_map(str::parse).collect();
    [0, 1, 2, 5, 6, 7].iter().filter_map(|i| numbers.get(*i)).sum()
}

/// Ticks used by one process, summed over its threads.
pub(super) fn used(process: u32) -> u64 {
    used_of(&fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default())
}

/// User and system time are fields 14 and 15; field 2, in brackets, may contain anything.
fn used_of(stat: &str) -> u64 {
    after_name(stat).skip(11).take(2).sum()
}

/// The number of minor page faults of one process up to now: pages that the kernel provided at
/// their first or repeated access, and zeroed. Pages read from a disk are not included.
pub(super) fn faults(process: u32) -> u64 {
    faults_of(&fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default())
}

/// Field 10.
fn faults_of(stat: &str) -> u64 {
    after_name(stat).nth(7).unwrap_or(0)
}

/// The fields from the 3rd on; one that is not a count is 0.
fn after_name(stat: &str) -> impl Iterator<Item = u64> {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().map(|field| field.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_told_from_waiting() {
        assert_eq!(busy_of("cpu  100 20 3 5000 600 7 8 9 50 5\ncpu0 1 1 1 1\n"), 147);
        assert_eq!(busy_of(""), 0);
    }

    #[test]
    fn a_bracket_in_the_name_of_a_program_does_not_mislead() {
        let stat = "71 (a b) 9 c) S 1 71 71 0 -1 4194304 900 0 0 0 250 31 0 0 20 0 3 0 99 1 1";
        assert_eq!([used_of(stat), faults_of(stat)], [281, 900]);
        assert_eq!([used_of(""), faults_of("")], [0, 0]);
    }

    #[test]
    fn names_become_parts_of_names_of_files() {
        assert_eq!(slug("Intel(R) Xeon(R) CPU @ 2.20GHz"), "intel-r-xeon-r-cpu-2-20ghz");
    }

    #[test]
    fn a_machine_is_idle_where_others_leave_it_alone() {
        let busy = |others| Busy { load: [9.0; 2], others, waiting: 0.0 };
        assert_eq!(busy(0.01).words(), "idle");
        assert_eq!(busy(0.3).words(), "NOT idle (others used 0.30 cores)");
        assert!(busy(0.3).json().to_string().contains("\"idle\": false"));
    }
}
