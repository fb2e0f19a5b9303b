"""Writes resize.bin, what Pillow's antialiased bilinear resize makes of images that need not be stored.

    python resize.py      (with Pillow and numpy; written with Pillow 13.0.0)

Byte i of a source image is the top byte of i * 2654435761 mod 2^32, plus its row's and column's share of a gradient,
so that both noise and smooth areas are covered.
"""

from pathlib import Path

import numpy as np
from PIL import Image

# height, width, channels -> height, width
CASES = [
    (37, 53, 3, 16, 23),
    (64, 64, 3, 16, 16),
    (90, 160, 1, 32, 57),
    (12, 20, 3, 32, 53),
    (48, 48, 1, 47, 47),
    (33, 24, 3, 11, 8),
]


def source(h, w, c):
    i = np.arange(h * w * c, dtype=np.uint64)
    noise = ((i * 2654435761) % 2**32) >> 24
    y, x = (i // c) // w, (i // c) % w
    return ((noise // 2 + (y * 60) // h + (x * 60) // w) % 256).astype(np.uint8).reshape(h, w, c)


out = b""
for h, w, c, new_h, new_w in CASES:
    image = source(h, w, c)
    image = Image.fromarray(image[..., 0] if c == 1 else image)
    out += np.asarray(image.resize((new_w, new_h), Image.Resampling.BILINEAR)).tobytes()
Path(__file__).with_suffix(".bin").write_bytes(out)
print(len(out), "bytes")
