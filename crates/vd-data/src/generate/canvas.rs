//! Light on a dark background, accumulated in floating point and converted to bytes at the end.

/// One frame being drawn; red, green and blue per pixel, 1 = full.
#[derive(Debug, Clone)]
pub(super) struct Canvas {
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) light: Vec<[f64; 3]>,
}

impl Canvas {
    pub(super) fn new(h: usize, w: usize, ground: impl Fn(f64) -> [f64; 3]) -> Self {
        let mut light = Vec::with_capacity(h * w);
        for y in 0..h {
            light.resize((y + 1) * w, ground((y as f64 + 0.5) / h as f64));
        }
        Self { h, w, light }
    }

    /// Appends the frame as bytes with `channels` per pixel; grey is the Rec. 709 luma.
    pub(super) fn finish(&self, channels: usize, bytes: &mut Vec<u8>) {
        let byte = |value: f64| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        for [r, g, b] in &self.light {
            if channels == 1 {
                bytes.push(byte(0.2126 * r + 0.7152 * g + 0.0722 * b));
            } else {
                bytes.extend([byte(*r), byte(*g), byte(*b)]);
            }
        }
    }
}

/// How much light falls on each pixel from round, soft spots.
#[derive(Debug, Clone)]
pub(super) struct Glow {
    pub(super) h: usize,
    w: usize,
    pub(super) amount: Vec<f64>,
}

impl Glow {
    pub(super) fn new(h: usize, w: usize) -> Self {
        Self { h, w, amount: vec![0.0; h * w] }
    }

    /// Adds a Gaussian spot at (x, y) in pixels, `peak` at its centre; a spot outside the frame
    /// lights its edge at most.
    pub(super) fn spot(&mut self, x: f64, y: f64, radius: f64, peak: f64) {
        let reach = 3.0 * radius;
        let range = |middle: f64, side: usize| {
            let first = (middle - reach).floor().max(0.0) as usize;
            let end = ((middle + reach).ceil().max(0.0) as usize).min(side);
            first..end.max(first)
        };
        for row in range(y, self.h) {
            let dy = (row as f64 + 0.5 - y) / radius;
            for column in range(x, self.w) {
                let dx = (column as f64 + 0.5 - x) / radius;
                self.amount[row * self.w + column] += peak * (-0.5 * (dx * dx + dy * dy)).exp();
            }
        }
    }
}
