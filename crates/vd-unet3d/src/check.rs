//! What every input of a network must be, whatever its shape.

use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

const FLOATS: [Kind; 4] = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];

/// Floating-point values on the device of the network.
pub(crate) fn floats(what: &'static str, x: &Tensor, device: Device) -> Result<()> {
    if !FLOATS.contains(&x.kind()) {
        let got = format!("{:?}", x.kind());
        return Err(Error::Input { what, expected: "floating-point values".to_owned(), got });
    }
    here(what, x, device)
}

/// Floating-point values, or whole step numbers, on the device of the network.
pub(crate) fn steps(what: &'static str, x: &Tensor, device: Device) -> Result<()> {
    match x.kind() {
        Kind::Int64 | Kind::Int => here(what, x, device),
        _ => floats(what, x, device),
    }
}

/// On the device of the network.
pub(crate) fn here(what: &'static str, x: &Tensor, device: Device) -> Result<()> {
    if x.device() == device {
        return Ok(());
    }
    let expected = format!("a tensor on {device:?}, where the network is");
    Err(Error::Input { what, expected, got: format!("one on {:?}", x.device()) })
}
