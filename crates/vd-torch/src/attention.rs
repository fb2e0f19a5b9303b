//! Which implementation of attention libtorch takes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::shim;

/// How many are within [`without_cudnn_attention`], and what was set before the first of them.
static WITHOUT: Mutex<(usize, bool)> = Mutex::new((0, true));

/// Runs `f` with cuDNN's attention excluded from the implementations that
/// `scaled_dot_product_attention` chooses from on CUDA; a backward uses the one of its forward. The
/// setting is process-wide: other threads may get another implementation meanwhile.
pub fn without_cudnn_attention<R>(f: impl FnOnce() -> R) -> R {
    let _without = Without::enter();
    f()
}

struct Without;

impl Without {
    fn enter() -> Self {
        let mut without = locked();
        if without.0 == 0 {
            // SAFETY: takes a number.
            without.1 = unsafe { shim::vd_cudnn_attention(0) } != 0;
        }
        without.0 += 1;
        Without
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        let mut without = locked();
        without.0 -= 1;
        if without.0 == 0 {
            // SAFETY: takes a number.
            let _ = unsafe { shim::vd_cudnn_attention(without.1.into()) };
        }
    }
}

fn locked() -> MutexGuard<'static, (usize, bool)> {
    WITHOUT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether libtorch may take it now.
    fn allowed() -> bool {
        // SAFETY: take numbers.
        unsafe {
            let now = shim::vd_cudnn_attention(1);
            shim::vd_cudnn_attention(now);
            now != 0
        }
    }

    #[test]
    fn it_is_left_out_until_the_last_has_gone_and_after_a_panic_too() {
        assert!(allowed());
        let panic = crate::catch_panic(|| {
            without_cudnn_attention(|| {
                without_cudnn_attention(|| assert!(!allowed()));
                assert!(!allowed());
                panic!("within");
            })
        });
        assert_eq!(panic, Err::<(), _>("within".to_owned()));
        assert!(allowed());
    }
}
