//! Operators that compute in half precision, through libtorch's autocast.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::{Error, Result, shim};

/// The dtype in which matrix products and convolutions compute; sums, norms and losses stay in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Autocast {
    /// The dtype of their tensors.
    #[default]
    Off,
    /// bfloat16: the range of f32, 8 bits of precision.
    Bf16,
    /// float16: 11 bits of precision, and a range that gradients leave unless the loss is scaled.
    Fp16,
}

impl Autocast {
    /// All variants.
    pub const ALL: [Autocast; 3] = [Autocast::Off, Autocast::Bf16, Autocast::Fp16];

    /// Whether it is off; by reference, as serde requires.
    pub fn is_off(&self) -> bool {
        *self == Autocast::Off
    }

    /// The dtype that it casts to.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Autocast::Off => None,
            Autocast::Bf16 => Some(Kind::BFloat16),
            Autocast::Fp16 => Some(Kind::Half),
        }
    }
}

impl fmt::Display for Autocast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Autocast::Off => "off",
            Autocast::Bf16 => "bf16",
            Autocast::Fp16 => "fp16",
        })
    }
}

impl FromStr for Autocast {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Autocast::ALL.into_iter().find(|cast| cast.to_string() == name);
        found.ok_or_else(|| Error::BadAutocast(name.to_owned()))
    }
}

thread_local! {
    /// The setting of [`autocast`] on this thread.
    static NOW: Cell<Option<(Device, Autocast)>> = const { Cell::new(None) };
}

/// Runs `f` on this thread with autocast to `cast` on `device`; with [`Autocast::Off`] it only runs
/// `f`.
///
/// Keep the backward outside: it computes in the dtypes of its forward without help. [`checkpoint`]
/// records the setting and restores it when it recomputes. Within one call a weight is cast once,
/// so `f` must not change any.
///
/// [`checkpoint`]: crate::checkpoint
///
/// # Errors
/// Any error of libtorch.
pub fn autocast<R>(device: Device, cast: Autocast, f: impl FnOnce() -> R) -> Result<R> {
    if cast.is_off() {
        return Ok(f());
    }
    let _inside = Inside::enter(device, cast)?;
    Ok(f())
}

/// The setting of [`autocast`] on this thread.
pub(crate) fn autocast_now() -> (Device, Autocast) {
    NOW.get().unwrap_or((Device::Cpu, Autocast::Off))
}

/// The dtype in which matrix products on `device` compute on this thread, if [`autocast`] is on.
pub fn autocast_kind(device: Device) -> Option<Kind> {
    let (on, cast) = autocast_now();
    cast.kind().filter(|_| on == device)
}

/// Restores the previous setting when dropped, also by a panic.
struct Inside {
    before: shim::AutocastBefore,
    outer: Option<(Device, Autocast)>,
}

impl Inside {
    fn enter(device: Device, cast: Autocast) -> Result<Self> {
        let mut before = shim::AutocastBefore::default();
        let (cuda, half) = (device.is_cuda().into(), (cast == Autocast::Fp16).into());
        shim::call(|error| {
            // SAFETY: writes one struct of the declared layout, and the error.
            unsafe { shim::vd_autocast_enter(cuda, half, &raw mut before, error) }
        })?;
        Ok(Inside { before, outer: NOW.replace(Some((device, cast))) })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        NOW.set(self.outer);
        // SAFETY: reads what vd_autocast_enter has written on this thread.
        unsafe { shim::vd_autocast_leave(&raw const self.before) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::Tensor;

    fn product() -> Kind {
        let a = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]);
        a.matmul(&a).kind()
    }

    #[test]
    fn products_on_the_cpu_are_in_the_dtype_that_is_set_and_in_f32_again_afterwards() {
        for cast in Autocast::ALL {
            let inside = autocast(Device::Cpu, cast, product).unwrap();
            assert_eq!(inside, cast.kind().unwrap_or(Kind::Float));
            let said = autocast(Device::Cpu, cast, || autocast_kind(Device::Cpu)).unwrap();
            assert_eq!((said, autocast_kind(Device::Cpu)), (cast.kind(), None));
            assert_eq!((product(), autocast_now()), (Kind::Float, (Device::Cpu, Autocast::Off)));
        }
    }

    #[test]
    fn one_within_another_gives_way_to_it_at_its_end_also_by_a_panic() {
        let seen = autocast(Device::Cpu, Autocast::Bf16, || {
            let inner = autocast(Device::Cpu, Autocast::Fp16, product).unwrap();
            let caught = std::panic::catch_unwind(|| {
                autocast(Device::Cpu, Autocast::Fp16, || panic!("in the midst"))
            });
            assert!(caught.is_err());
            (inner, product(), autocast_now())
        });
        assert_eq!(seen.unwrap(), (Kind::Half, Kind::BFloat16, (Device::Cpu, Autocast::Bf16)));
        assert_eq!(product(), Kind::Float);
    }

    #[test]
    fn a_weight_that_was_changed_between_two_calls_is_cast_anew() {
        let weight =
            Tensor::from_slice(&[1f32, 0.0, 0.0, 1.0]).view([2, 2]).set_requires_grad(true);
        let value = || {
            let y = autocast(Device::Cpu, Autocast::Bf16, || weight.matmul(&weight)).unwrap();
            y.to_kind(Kind::Double).sum(Kind::Double).double_value(&[])
        };
        assert_eq!(value(), 2.0);
        let _ = weight.detach().fill_(2.0);
        assert_eq!(value(), 32.0);
    }

    #[test]
    fn gradients_reach_weights_in_f32() {
        let weight =
            Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]).set_requires_grad(true);
        let y = autocast(Device::Cpu, Autocast::Bf16, || weight.matmul(&weight)).unwrap();
        y.sum(Kind::Float).backward();
        assert_eq!(weight.grad().kind(), Kind::Float);
    }

    #[test]
    fn names_round_trip_and_nonsense_is_refused() {
        for cast in Autocast::ALL {
            assert_eq!(cast.to_string().parse::<Autocast>().unwrap(), cast);
        }
        let message = "f16".parse::<Autocast>().unwrap_err().to_string();
        assert!(message.contains("off, bf16 or fp16"), "{message}");
    }
}
