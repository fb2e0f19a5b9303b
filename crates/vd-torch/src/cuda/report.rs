//! Resource usage of compiled kernels, from the assembler's log.

/// Memory that one kernel uses per thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelReport {
    /// Name of the kernel.
    pub name: String,
    /// Registers per thread.
    pub registers: u32,
    /// Bytes of local memory per thread, which resides in device memory: arrays indexed at run
    /// time, and values that did not fit into registers.
    pub stack: u32,
    /// Bytes spilled there for want of registers.
    pub spill_stores: u32,
    /// Bytes of spilled values read back.
    pub spill_loads: u32,
}

/// The kernels of an assembler's log.
pub(super) fn parse(log: &str) -> Vec<KernelReport> {
    let mut all: Vec<KernelReport> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let name = rest.split('\'').next().unwrap_or_default().to_owned();
            all.push(KernelReport { name, ..KernelReport::default() });
        }
        let Some(kernel) = all.last_mut() else { continue };
        for (words, to) in [
            (" bytes stack frame", &mut kernel.stack),
            (" bytes spill stores", &mut kernel.spill_stores),
            (" bytes spill loads", &mut kernel.spill_loads),
            (" registers", &mut kernel.registers),
        ] {
            if let Some(number) = before(line, words) {
                *to = number;
            }
        }
    }
    all
}

/// The number right before `words`.
fn before(line: &str, words: &str) -> Option<u32> {
    let (head, _) = line.split_once(words)?;
    head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_log_is_read() {
        let log = "ptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'one' for 'sm_90'\n\
            ptxas info    : Function properties for one\n    \
            16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n\
            ptxas info    : Used 255 registers, used 1 barriers, 624 bytes cmem[0]\n\
            ptxas info    : Compile time = 3.1 ms\n\
            ptxas info    : Compiling entry function 'two' for 'sm_90'\n\
            ptxas info    : Used 30 registers\n";
        let one = KernelReport {
            name: "one".to_owned(),
            registers: 255,
            stack: 16,
            spill_stores: 8,
            spill_loads: 12,
        };
        let two = KernelReport { name: "two".to_owned(), registers: 30, ..Default::default() };
        assert_eq!(parse(log), [one, two]);
        assert!(parse("nothing of it").is_empty());
    }
}
