//! One recording at a time, and what has to wait for its end.

use std::any::Any;
use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// libtorch takes one recording at a time.
static ONE: Mutex<()> = Mutex::new(());
/// What could not be dropped while another thread recorded.
static LEFT: Mutex<Vec<Box<dyn Any + Send>>> = Mutex::new(Vec::new());

thread_local! {
    static HELD: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, no other thread records.
#[derive(Debug)]
pub(crate) struct Alone(Option<MutexGuard<'static, ()>>);

impl Alone {
    /// Waits for a recording of another thread; returns at once where this thread is alone already.
    pub(crate) fn enter() -> Self {
        if HELD.get() {
            return Alone(None);
        }
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        HELD.set(true);
        Alone(Some(one))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some(one) = self.0.take() {
            HELD.set(false);
            drop(one);
            sweep();
        }
    }
}

/// Drops `what` as soon as no thread records, without blocking: the caller may be a thread of
/// libtorch's backward, and a recording waits for those.
pub(crate) fn drop_alone(what: Box<dyn Any + Send>) {
    left().push(what);
    sweep();
}

fn left() -> MutexGuard<'static, Vec<Box<dyn Any + Send>>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops what was left. While another thread records, that thread does it at its end.
fn sweep() {
    while !left().is_empty() {
        let _one = match ONE.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let all = std::mem::take(&mut *left());
        drop(all);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Says when it is dropped.
    struct Says(mpsc::Sender<()>);

    impl Drop for Says {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }

    #[test]
    fn what_is_dropped_while_somebody_records_goes_afterwards_and_nobody_waits() {
        let (send, dropped) = mpsc::channel();
        let alone = Alone::enter();
        // Again, on the same thread.
        drop(Alone::enter());
        drop_alone(Box::new(Says(send.clone())));
        let other = send.clone();
        thread::spawn(move || drop_alone(Box::new(Says(other)))).join().unwrap();
        assert!(dropped.try_recv().is_err());
        let waits = thread::spawn(move || {
            drop(Alone::enter());
            send.send(()).unwrap();
        });
        assert!(dropped.try_recv().is_err());
        drop(alone);
        waits.join().unwrap();
        assert_eq!(dropped.iter().count(), 3);
    }
}
