"""Operations of one forward of the paper's form, by PyTorch's own counter on a network of its own.

    python flops.py

prints what `flops/tests.rs` holds. Nothing is computed: tensors have shapes alone. Needs torch 2.11.
"""

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

torch.set_default_device("meta")


def conv(x, c, kernel=3, stride=1):  # b f c h w
    b, f = x.shape[:2]
    w = torch.empty(c, x.shape[2], kernel, kernel)
    y = F.conv2d(x.flatten(0, 1), w, stride=stride, padding=(kernel - 1) // 2)
    return y.unflatten(0, (b, f))


def up(x):
    b, f, c = x.shape[:3]
    y = F.conv_transpose2d(x.flatten(0, 1), torch.empty(c, c, 4, 4), stride=2, padding=1)
    return y.unflatten(0, (b, f))


def linear(x, n):
    return x @ torch.empty(x.shape[-1], n)


def block(x, c, emb):
    shift = linear(emb, c)[:, None, :, None, None]
    y = conv(conv(x, c) + shift, c)
    skip = x if x.shape[2] == c else linear(x.movedim(2, -1), c).movedim(-1, 2)
    return y + skip


def heads(c, d):
    return max(1, c // d), d


def space(x, d):
    b, f, c, h, w = x.shape
    n, d = heads(c, d)
    rows = x.movedim(2, -1).reshape(b * f, h * w, c)
    q, k, v = linear(rows, 3 * n * d).reshape(b * f, h * w, 3, n, d).permute(2, 0, 3, 1, 4)
    out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
    out = linear(out.transpose(1, 2).reshape(b * f, h * w, n * d), c)
    return x + out.reshape(b, f, h, w, c).movedim(-1, 2)


def time(x, d):
    b, f, c, h, w = x.shape
    n, d = heads(c, d)
    rows = x.permute(0, 3, 4, 1, 2).reshape(b * h * w, f, c)
    q, k, v = linear(rows, 3 * n * d).reshape(b * h * w, f, 3, n, d).permute(2, 0, 3, 1, 4)
    keys = values = torch.empty(f, f, d)
    scores = q @ k.transpose(-2, -1) + torch.einsum("snid,ijd->snij", q, keys)
    weights = scores.softmax(-1)
    out = weights @ v + torch.einsum("snij,ijd->snid", weights, values)
    out = linear(out.transpose(1, 2).reshape(b * h * w, f, n * d), c)
    return x + out.reshape(b, h, w, f, c).permute(0, 3, 4, 1, 2)


def network(dim, mults, blocks, levels, head, width, layers, size):
    b, f, h, w = size
    emb = torch.empty(b, dim)
    for _ in range(layers):
        emb = linear(emb, width)

    def unit(x, c, level):
        x = block(x, c, emb)
        return time(space(x, head), head) if level in levels else x

    x = conv(torch.empty(b, f, 3, h, w), dim)
    skips = [x]
    for level, mult in enumerate(mults):
        for _ in range(blocks):
            x = unit(x, dim * mult, level)
            skips.append(x)
        if level + 1 < len(mults):
            x = conv(x, x.shape[2], 4, 2)
            skips.append(x)
    x = block(time(space(block(x, x.shape[2], emb), head), head), x.shape[2], emb)
    for level, mult in reversed(list(enumerate(mults))):
        for _ in range(blocks + 1):
            x = unit(torch.cat([x, skips.pop()], 2), dim * mult, level)
        if level > 0:
            x = up(x)
    assert not skips
    return conv(x, 3)


MODELS = {
    "paper_ucf101": (256, [1, 2, 4, 8], 2, [1, 2, 3], 64, 1024, 4, (1, 16, 64, 64)),
    "paper_bair": (128, [1, 2, 3, 4], 3, [1, 2, 3], 64, 1024, 2, (1, 16, 64, 64)),
    "paper_kinetics600": (256, [1, 2, 4, 8], 2, [1, 2, 3], 64, 1024, 2, (2, 16, 64, 64)),
    "paper_ucf101 of dim 48": (48, [1, 2, 4, 8], 2, [1, 2, 3], 64, 1024, 4, (3, 5, 16, 24)),
}

for name, model in MODELS.items():
    with FlopCounterMode(display=False) as counter:
        network(*model)
    print(name, counter.get_total_flops())
