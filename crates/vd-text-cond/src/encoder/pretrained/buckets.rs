//! Relative positions in the form of T5.

use tch::{Device, Kind, Tensor};

use super::settings::Settings;
use crate::Result;

/// Bucketing of relative positions: each near one has its own bucket, farther ones share buckets
/// whose size grows with the distance; half of the buckets are for each side.
///
/// # Reference
/// Raffel et al. 2019, sec. 2.1, arXiv:1910.10683.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buckets {
    pub(super) count: i64,
    /// The distance from which on all positions share one bucket.
    pub(super) reach: i64,
}

impl Buckets {
    pub(super) fn validate(self, settings: &Settings) -> Result<()> {
        let near = self.count / 4;
        if near < 1 {
            let key = "relative_attention_num_buckets";
            return Err(settings.refuse(key, "at least 4", self.count.to_string()));
        }
        if self.reach <= near {
            let expected = format!("more than {near}, a quarter of the buckets");
            let key = "relative_attention_max_distance";
            return Err(settings.refuse(key, expected, self.reach.to_string()));
        }
        Ok(())
    }

    /// The bucket of every pair of l tokens.
    ///
    /// Computed on the CPU, with the same operations as transformers: at the bounds of the buckets
    /// the last bit of a logarithm decides.
    ///
    /// # Shapes
    /// -> l l, i64: query, key
    pub(super) fn pairs(self, l: i64) -> Result<Tensor> {
        let side = self.count / 2;
        let near = side / 2;
        let place = Tensor::f_arange(l, (Kind::Int64, Device::Cpu))?;
        let logarithm = place.f_to_kind(Kind::Float)?.f_div_scalar(near as f64)?.f_log()?;
        let decades = (self.reach as f64 / near as f64).ln();
        let range = logarithm.f_div_scalar(decades)?.f_mul_scalar((side - near) as f64)?;
        // Near positions have a negative logarithm, and are not looked up there.
        let range = range.f_clamp(0.0, (side - near - 1) as f64)?.f_to_kind(Kind::Int64)?;
        let far = range.f_add_scalar(near)?;
        let bucket = place.f_where_self(&place.f_lt(near)?, &far)?;
        let offset = place.f_unsqueeze(0)?.f_sub(&place.f_unsqueeze(1)?)?;
        let ahead = offset.f_gt(0)?.f_to_kind(Kind::Int64)?.f_mul_scalar(side)?;
        Ok(bucket.f_take(&offset.f_abs()?)?.f_add(&ahead)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn buckets_begin_where_those_of_transformers_do() {
        // From T5Attention._relative_position_bucket, bidirectional: the backward distances at
        // which a bucket starts.
        let known: [(i64, i64, &[i64]); 4] = [
            (32, 128, &[1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]),
            (8, 12, &[1, 2, 5]),
            (32, 20, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 18]),
            (10, 50, &[1, 2, 6, 18]),
        ];
        for (count, reach, begins) in known {
            let pairs = Buckets { count, reach }.pairs(200).unwrap();
            for distance in 0..200 {
                let bucket = begins.iter().filter(|begin| **begin <= distance).count() as i64;
                assert_eq!(pairs.int64_value(&[distance, 0]), bucket, "{count} {distance}");
                let ahead = if distance == 0 { 0 } else { bucket + count / 2 };
                assert_eq!(pairs.int64_value(&[0, distance]), ahead, "{count} {distance}");
            }
        }
    }
}
