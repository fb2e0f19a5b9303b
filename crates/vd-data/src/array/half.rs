//! Half-precision numbers.
//!
//! libtorch is not used here: it would start its own thread pool in every thread that loads or
//! prepares.

/// The largest finite half-precision number.
pub(crate) const MAX_HALF: f32 = 65504.0;

/// The value of a half-precision number.
///
/// # Reference
/// IEEE 754-2019, binary16: one bit of sign, five of exponent (biased by 15), ten of fraction.
pub(crate) fn of_half(bits: u16) -> f32 {
    let (exponent, fraction) = (u32::from(bits >> 10) & 31, u32::from(bits) & 0x3ff);
    let magnitude = match exponent {
        // fraction / 2^24, exact in f32
        0 => fraction as f32 / (1u32 << 24) as f32,
        31 => f32::from_bits(0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(((exponent + 127 - 15) << 23) | (fraction << 13)),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// The nearest half-precision number, ties to even; from 65520 on an infinity.
///
/// # Reference
/// IEEE 754-2019, binary16 and section 4.3.1.
pub(crate) fn to_half(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = x.to_bits() & 0x7fff_ffff;
    let rounded = match magnitude {
        0x7f80_0001.. => 0x7e00,
        // 65536 and more
        0x4780_0000.. => 0x7c00,
        // the last bit is worth 2^-24, as in f32 from 0.5 on, so the addition rounds correctly
        0..0x3880_0000 => (f32::from_bits(magnitude) + 0.5).to_bits() - 0x3f00_0000,
        // drops 13 bits of fraction; a carry runs into the exponent
        _ => ((magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13) - ((127 - 15) << 10),
    };
    sign | rounded as u16
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::{Kind, Tensor};

    #[test]
    fn every_half_is_what_libtorch_makes_of_it_and_comes_back() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let there = Tensor::from_data_size(&bytes, &[1 << 16], Kind::Half);
        let there: Vec<f32> = Vec::try_from(&there.to_kind(Kind::Float)).unwrap();
        for (bits, there) in bits.into_iter().zip(there) {
            let here = of_half(bits);
            assert!(here == there || (here.is_nan() && there.is_nan()), "{bits:#x}");
            assert_eq!(here.is_sign_negative(), there.is_sign_negative(), "{bits:#x}");
            let back = to_half(here);
            assert!(back == bits || (here.is_nan() && of_half(back).is_nan()), "{bits:#x}");
        }
    }

    /// libtorch's rounding.
    fn libtorch(values: &[f32]) -> Vec<u16> {
        let short = Tensor::from_slice(values).to_kind(Kind::Half);
        let mut bytes = vec![0; 2 * values.len()];
        short.copy_data_u8(&mut bytes, values.len());
        bytes.chunks(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect()
    }

    #[test]
    fn what_lies_between_two_halves_goes_where_libtorch_takes_it() {
        // each half, the midpoint to the next one, and the numbers next to that midpoint
        let values: Vec<f32> = (0..0x7c00u16)
            .flat_map(|bits| {
                let (low, high) = (of_half(bits), of_half(bits + 1).min(65536.0));
                let middle = (low + high) / 2.0;
                [low, middle, f32::from_bits(middle.to_bits() - 1), middle.next_up()]
            })
            .flat_map(|x| [x, -x])
            .collect();
        for (x, there) in values.iter().zip(libtorch(&values)) {
            assert_eq!(to_half(*x), there, "{x}");
        }
    }

    proptest! {
        #[test]
        fn any_number_goes_where_libtorch_takes_it(bits in prop::collection::vec(any::<u32>(), 256)) {
            let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            for (x, there) in values.iter().zip(libtorch(&values)) {
                let here = to_half(*x);
                prop_assert!(here == there || (x.is_nan() && of_half(here).is_nan()), "{x}");
            }
        }
    }
}
