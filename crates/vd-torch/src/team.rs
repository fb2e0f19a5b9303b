//! Parallel work on the threads of libtorch's own operators.
//!
//! libtorch parallelises with OpenMP, and its idle threads spin for a while. A second pool beside
//! them would compete for the cores, so kernels run on the same team: [`team`] enters a parallel
//! region of the OpenMP runtime that libtorch has loaded.

use std::any::Any;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::init::{libtorch_dir, threads};

/// One thread of a team, as seen by the function that runs on it.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Number of the member, from 0, which is the calling thread.
    pub index: usize,
    /// Number of members of the team, at least 1.
    pub count: usize,
    barrier: &'a Barrier,
}

impl Member<'_> {
    /// Waits until every member of the team has arrived.
    ///
    /// Values that other members wrote before their barrier can be read after it. All members must
    /// call it equally often.
    ///
    /// # Panics
    /// If another member panicked or returned, and will never arrive.
    pub fn barrier(&self) {
        self.barrier.wait(self.count);
    }

    /// This member's share of `0..n`: shares are contiguous, in order, and differ by at most 1 in
    /// length.
    pub fn share(&self, n: usize) -> Range<usize> {
        let (each, more) = (n / self.count, n % self.count);
        let start = self.index * each + self.index.min(more);
        start..start + each + usize::from(self.index < more)
    }
}

/// Hands out the numbers `0..n` in pieces, each once, on demand.
///
/// For pieces of unequal cost; if they are equal, [`Member::share`] needs no synchronisation.
#[derive(Debug)]
pub struct Tasks {
    next: AtomicUsize,
    n: usize,
    grain: usize,
}

impl Tasks {
    /// The numbers `0..n` in pieces of `grain`, at least 1; the last piece may be shorter.
    pub fn new(n: usize, grain: usize) -> Self {
        Self { next: AtomicUsize::new(0), n, grain: grain.max(1) }
    }

    /// The next piece; None when all are taken.
    pub fn take(&self) -> Option<Range<usize>> {
        let start = self.next.fetch_add(self.grain, Ordering::Relaxed);
        (start < self.n).then(|| start..self.n.min(start.saturating_add(self.grain)))
    }
}

/// Runs `f` once on every thread of libtorch's team, as many as [`threads`] returns, and returns
/// when all have finished.
///
/// Inside a parallel region, libtorch's or an outer call of this, `f` runs once, on this thread,
/// with a team of one; likewise if no OpenMP runtime is found. `f` must not call libtorch
/// operators: the members do not have the calling thread's gradient mode and other settings.
///
/// # Panics
/// If `f` panics on any member: the region ends first, members at a barrier included, and the first
/// panic is resumed here.
pub fn team<F: Fn(Member<'_>) + Sync>(f: F) {
    team_of(threads(), f);
}

/// As [`team`], with at most `count` members; at least 1.
///
/// Entering regions of varying size is more expensive than entering regions of one size.
///
/// # Panics
/// As [`team`].
pub fn team_of<F: Fn(Member<'_>) + Sync>(count: usize, f: F) {
    let barrier = Barrier::default();
    let openmp = match OpenMp::get() {
        // SAFETY: a query of the runtime without arguments.
        Some(openmp) if count > 1 && unsafe { (openmp.in_parallel)() } == 0 => openmp,
        _ => return f(Member { index: 0, count: 1, barrier: &barrier }),
    };
    let region = Region { f, openmp, barrier, panic: Mutex::new(None) };
    let count = c_uint::try_from(count).unwrap_or(c_uint::MAX);
    // SAFETY: `run::<F>` takes a pointer to a `Region<F>`, which outlives the call since the
    // runtime returns after the last member; a `Region` may be shared, `F` being `Sync`.
    unsafe { (openmp.parallel)(run::<F>, (&raw const region).cast_mut().cast(), count, 0) };
    if let Some(payload) = region.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if payload.is::<Abandoned>() {
            panic!("a member of the team returned before a barrier at which others wait");
        }
        resume_unwind(payload);
    }
}

/// Runs `f` on pieces of `0..n` of length `grain` on libtorch's team, each number once; idle
/// threads take the next piece.
///
/// # Panics
/// As [`team`].
pub fn for_each<F: Fn(Range<usize>) + Sync>(n: usize, grain: usize, f: F) {
    let tasks = Tasks::new(n, grain);
    team_of(threads().min(n.div_ceil(tasks.grain)), |_| {
        while let Some(piece) = tasks.take() {
            f(piece);
        }
    });
}

/// State shared by the members of one region.
struct Region<F> {
    f: F,
    openmp: &'static OpenMp,
    barrier: Barrier,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The runtime calls this on every member. Nothing may unwind into the runtime.
unsafe extern "C" fn run<F: Fn(Member<'_>) + Sync>(region: *mut c_void) {
    // SAFETY: `team_of` hands in its `Region<F>`, alive until all members are done, and shared.
    let region = unsafe { &*region.cast::<Region<F>>() };
    // SAFETY: queries of the runtime without arguments.
    let (index, count) = unsafe { ((region.openmp.index)(), (region.openmp.count)()) };
    let (index, count) = (index.max(0) as usize, count.max(1) as usize);
    let member = Member { index, count, barrier: &region.barrier };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (region.f)(member))) {
        let mut first = region.panic.lock().unwrap_or_else(PoisonError::into_inner);
        // A member that gave up at a barrier is only a consequence of the original panic.
        if first.as_ref().is_none_or(|p| p.is::<Abandoned>()) {
            *first = Some(payload);
        }
    }
    region.barrier.left.fetch_add(1, Ordering::Release);
}

/// Panic payload of a member that gave up waiting for another.
struct Abandoned;

/// A barrier that gives up when a member is gone: the runtime's own would wait for ever.
#[derive(Debug, Default)]
struct Barrier {
    arrived: AtomicUsize,
    turn: AtomicUsize,
    left: AtomicUsize,
}

/// About 10 microseconds, after which the core is yielded to others.
const SPINS: usize = 1 << 10;

impl Barrier {
    fn wait(&self, count: usize) {
        let turn = self.turn.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.store(0, Ordering::Relaxed);
            self.turn.store(turn.wrapping_add(1), Ordering::Release);
            return;
        }
        for spin in 0usize.. {
            // In this order: if a member has left after the end of the turn, the end is visible
            // too.
            let left = self.left.load(Ordering::Acquire);
            if self.turn.load(Ordering::Acquire) != turn {
                return;
            }
            if left > 0 {
                resume_unwind(Box::new(Abandoned));
            }
            if spin < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// The entry points of the OpenMP runtime.
struct OpenMp {
    parallel: unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint),
    index: unsafe extern "C" fn() -> c_int,
    count: unsafe extern "C" fn() -> c_int,
    in_parallel: unsafe extern "C" fn() -> c_int,
}

impl OpenMp {
    fn get() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<OpenMp>> = OnceLock::new();
        FOUND.get_or_init(Self::find).as_ref()
    }

    /// The symbols that libtorch itself is bound to: those of the process or, if libtorch was
    /// loaded privately, those of its dependencies.
    fn find() -> Option<Self> {
        Self::within(libc::RTLD_DEFAULT).or_else(|| {
            let file = libtorch_dir()?.join("libtorch_cpu.so");
            let name = std::ffi::CString::new(file.into_os_string().into_encoded_bytes()).ok()?;
            // SAFETY: a NUL-terminated name of a library that is loaded; the handle stays open.
            let lib = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
            (!lib.is_null()).then(|| Self::within(lib)).flatten()
        })
    }

    fn within(lib: *mut c_void) -> Option<Self> {
        let symbol = |name: &CStr| {
            // SAFETY: a handle of a loaded library or RTLD_DEFAULT, and a NUL-terminated name.
            let address = unsafe { libc::dlsym(lib, name.as_ptr()) };
            (!address.is_null()).then_some(address)
        };
        let parallel = symbol(c"GOMP_parallel")?;
        let index = symbol(c"omp_get_thread_num")?;
        let count = symbol(c"omp_get_num_threads")?;
        let in_parallel = symbol(c"omp_in_parallel")?;
        // SAFETY: the addresses of functions of these signatures, by the ABI of GNU OpenMP, which
        // the runtimes of LLVM and Intel offer too.
        unsafe {
            Some(Self {
                parallel: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(
                        unsafe extern "C" fn(*mut c_void),
                        *mut c_void,
                        c_uint,
                        c_uint,
                    ),
                >(parallel),
                index: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(index),
                count: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(count),
                in_parallel: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(
                    in_parallel,
                ),
            })
        }
    }
}

#[cfg(test)]
#[path = "team_tests.rs"]
mod tests;
