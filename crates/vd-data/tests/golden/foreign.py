"""Writes foreign-*.gif, animations with local palettes, partial frames, transparency and both kinds of disposal, and
foreign-*.bin, their frames as Pillow shows them over black.

    python foreign.py      (with Pillow and numpy; written with Pillow 13.0.0)
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

here = Path(__file__).parent


def scene(k):
    image = Image.new("RGBA", (20, 16), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((2 * k, 3, 2 * k + 7, 10), fill=(200, 30 * k, 255 - 40 * k, 255))
    draw.rectangle((12, 12 - k, 17, 14), fill=(20 * k, 180, 90, 255))
    return image


for name, options in {
    "foreign-keep": {"disposal": 1},
    "foreign-clear": {"disposal": 2},
}.items():
    path = here / f"{name}.gif"
    frames = [scene(k) for k in range(5)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[70, 30, 70, 30, 50], loop=0, **options)
    shown = []
    with Image.open(path) as image:
        for k in range(image.n_frames):
            image.seek(k)
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            shown.append(np.asarray(Image.alpha_composite(black, image.convert("RGBA")))[..., :3])
    path.with_suffix(".bin").write_bytes(np.stack(shown).tobytes())
