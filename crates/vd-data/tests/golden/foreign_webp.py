"""Writes foreign-*.webp and the frames that its reader shows, over black: Pillow, another program on libwebp.

    python foreign_webp.py
"""

from pathlib import Path

from PIL import Image, ImageDraw

HERE = Path(__file__).parent


def frame(k, alpha):
    """A disc and a bar over a gradient, some of it transparent."""
    image = Image.new("RGBA", (20, 16))
    for y in range(16):
        for x in range(20):
            image.putpixel((x, y), (x * 12, y * 15, 200 - x * 4, alpha(x, y)))
    draw = ImageDraw.Draw(image)
    draw.ellipse((k * 3, 2, k * 3 + 6, 8), fill=(250, 220 - 40 * k, 10, 255))
    draw.rectangle((2, 10 + k, 17, 11 + k), fill=(10, 40 * k, 250, 255))
    return image


def over_black(image):
    """Rounded to nearest, as the reader here does it."""
    out = bytearray()
    for r, g, b, a in image.convert("RGBA").getdata():
        out += bytes((value * a + 127) // 255 for value in (r, g, b))
    return bytes(out)


def write(name, alpha, **options):
    frames = [frame(k, alpha) for k in range(5)]
    path = HERE / f"{name}.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[50, 20, 80, 60, 40], **options)
    with Image.open(path) as image, open(path.with_suffix(".bin"), "wb") as out:
        for k in range(image.n_frames):
            image.seek(k)
            out.write(over_black(image))
        print(path.name, image.n_frames, "frames,", path.stat().st_size, "bytes")


if __name__ == "__main__":
    write("foreign-lossless", lambda x, y: 255, lossless=True, minimize_size=True)
    write("foreign-lossy", lambda x, y: 255, quality=80, kmin=3, kmax=5)
    write("foreign-alpha", lambda x, y: min(255, x * 14), lossless=True)
