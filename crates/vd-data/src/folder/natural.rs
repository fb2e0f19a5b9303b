//! The order in which people expect numbered files: frame2 before frame10.

use std::cmp::Ordering;
use std::path::Path;

/// Compares paths component by component, runs of digits by their value; equal only if the paths
/// are.
pub(crate) fn natural_order(a: &Path, b: &Path) -> Ordering {
    let mut right = b.components();
    for part in a.components() {
        let Some(other) = right.next() else {
            return Ordering::Greater;
        };
        let order =
            names(part.as_os_str().as_encoded_bytes(), other.as_os_str().as_encoded_bytes());
        if order != Ordering::Equal {
            return order;
        }
    }
    if right.next().is_some() {
        return Ordering::Less;
    }
    // "a01" and "a1" have the same value: the bytes decide, so that the order is total
    a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes())
}

fn names(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while let (Some(x), Some(y)) = (a.first(), b.first()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (left, rest_a) = digits(a);
            let (right, rest_b) = digits(b);
            (a, b) = (rest_a, rest_b);
            // without leading zeros the longer run is the larger number
            left.len().cmp(&right.len()).then_with(|| left.cmp(right))
        } else {
            (a, b) = (&a[1..], &b[1..]);
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// The run of digits at the front, without leading zeros, and what follows it.
fn digits(name: &[u8]) -> (&[u8], &[u8]) {
    let end = name.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(name.len());
    let (run, rest) = name.split_at(end);
    let zeros = run.iter().position(|&byte| byte != b'0').unwrap_or(run.len());
    (&run[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    #[test]
    fn numbers_in_names_count_by_value() {
        let mut names: Vec<PathBuf> =
            ["b/1.png", "f10.png", "f2.png", "f1.png", "f02.png", "f.png", "a/x9", "a/x10", "a"]
                .map(PathBuf::from)
                .to_vec();
        names.sort_by(|a, b| natural_order(a, b));
        let sorted: Vec<_> = names.iter().map(|p| p.to_string_lossy()).collect();
        assert_eq!(
            sorted,
            ["a", "a/x9", "a/x10", "b/1.png", "f.png", "f1.png", "f02.png", "f2.png", "f10.png"]
        );
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[a0-2/.]{0,6}", b in "[a0-2/.]{0,6}", c in "[a0-2/.]{0,6}") {
            let [a, b, c] = [a, b, c].map(PathBuf::from);
            prop_assert_eq!(natural_order(&a, &b), natural_order(&b, &a).reverse());
            if natural_order(&a, &b).is_le() && natural_order(&b, &c).is_le() {
                prop_assert!(natural_order(&a, &c).is_le());
            }
        }
    }
}
