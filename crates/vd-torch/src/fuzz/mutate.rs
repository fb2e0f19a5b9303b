//! Valid inputs, damaged.

/// Numbers that replace lengths and counts.
const ODD: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Input `number`: one of the seeds, damaged in one to eight places.
///
/// # Panics
/// Without a seed.
pub fn mutated(seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes = seeds[random.below(seeds.len())].clone();
    // half of them have a single fault: with several, the first one often gets the input refused
    let faults = if random.below(2) == 0 { 1 } else { 2 + random.below(7) };
    for _ in 0..faults {
        damage(&mut bytes, seeds, &mut random);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1).min(bytes.len().saturating_sub(1));
    match random.below(12) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        3 => bytes.truncate(at),
        4 => {
            let more: Vec<u8> = (0..1 + random.below(16)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, more);
        }
        5 => {
            let end = (at + 1 + random.below(32)).min(bytes.len());
            bytes.drain(at.min(end)..end);
        }
        6 => {
            // repeats a part once or several times
            let end = (at + 1 + random.below(64)).min(bytes.len());
            let part = bytes[at.min(end)..end].repeat(1 + random.below(4));
            bytes.splice(at..at, part);
        }
        7 | 8 => length(bytes, at, random),
        9 | 10 => decimal(bytes, at, random),
        _ => {
            // joins the beginning of this one and the end of another
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

/// Replaces a binary number by an unlikely one.
fn length(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = [1, 2, 4, 8][random.below(4)];
    let total = bytes.len() as u64;
    let value = match random.below(4) {
        0 => total.wrapping_add(random.below(5) as u64).wrapping_sub(2),
        _ => ODD[random.below(ODD.len())],
    };
    let (little, big) = (value.to_le_bytes(), value.to_be_bytes());
    let new = if random.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
    for (byte, new) in bytes[at..].iter_mut().zip(new) {
        *byte = *new;
    }
}

/// Replaces the digits after a position by another number.
fn decimal(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|k| at + k) else {
        return;
    };
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = match random.below(6) {
        0 => "-1".to_owned(),
        1 => "1e308".to_owned(),
        2 => "9".repeat(1 + random.below(40)),
        3 => random.below(100).to_string(),
        _ => ODD[random.below(ODD.len())].to_string(),
    };
    bytes.splice(start..start + digits, text.into_bytes());
}

/// Vigna's splitmix64: 64 bits a step, from any state.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in 0 .. n; n >= 1.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}
