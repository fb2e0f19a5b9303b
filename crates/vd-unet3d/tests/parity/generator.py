"""Counter-based numbers, keyed by a name: the same bits here and in ../common/generator.rs.

Weights, inputs and noise of the comparisons are never stored. Both sides compute element ``i`` of
the stream called ``name`` as

    key  = FNV-1a 64 of the UTF-8 name
    word = splitmix64 finaliser of (key + (i + 1) * 0x9E3779B97F4A7C15), all modulo 2^64
    u    = (word >> 40) / 2^23 - 1                     a float32 in [-1, 1), exact

and scale it in float32, one rounding per operation:

    weight of two or more axes   u * f32(sqrt(3 / fan_in)), fan_in = product of the other axes
                                 than the first
    gain of a norm               1 + u * 0.25
    bias                         u * f32(0.1)
    relative-bias table          u
    null embedding               u
    input, noise, loss weight    u * f32(sqrt(3)), which has variance 1

Rotary frequencies are no free parameter: they stay as the network computed them.
"""

import math

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SIGNED_SUMS = 16

FREQUENCIES = "rotary_emb.freqs"


def _key(name):
    """FNV-1a, 64 bits, of the UTF-8 bytes of ``name``."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return np.uint64(key)


def words(name, count):
    """The first ``count`` 64-bit words of the stream ``name``."""
    counter = np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = _key(name) + counter * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(name, shape):
    """Float32 numbers in [-1, 1), multiples of 2^-23."""
    top = words(name, math.prod(shape)) >> np.uint64(40)
    centred = top.astype(np.int64) - (1 << 23)
    return (centred.astype(np.float32) * np.float32(2.0**-23)).reshape(shape)


def unit(name, shape):
    """Float32 numbers of mean 0 and variance 1, uniform: inputs, noise, loss weights."""
    return uniform(name, shape) * np.float32(math.sqrt(3.0))


def integers(name, count, below):
    """``count`` integers in [0, below), ``below`` at most 2^32."""
    return [(int(word) >> 32) * below >> 32 for word in words(name, count)]


def signs(name, count):
    """A (16, count) array of +-1.

    Bit 48 + k of word i of the stream "signs/NAME" is the sign in row k and column i.
    """
    bits = (
        words(f"signs/{name}", count)[None, :]
        >> np.arange(48, 48 + SIGNED_SUMS, dtype=np.uint64)[:, None]
    )
    return np.where(bits & np.uint64(1), 1.0, -1.0)


def parameter(name, shape, prefix=""):
    """The value of the parameter ``name``; ``prefix`` selects another set of weights."""
    stream = prefix + name
    u = uniform(stream, shape)
    if name.endswith((".gamma", ".norm.weight")):
        return np.float32(1) + u * np.float32(0.25)
    if name.endswith(".bias"):
        return u * np.float32(0.1)
    if name.endswith(("relative_attention_bias.weight", "null_cond_emb")):
        return u
    return u * np.float32(math.sqrt(3.0 / math.prod(shape[1:])))


def signed_sums(name, values):
    """The 16 signed sums of ``values``, added in float64: a projection that sees every element."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    return signs(name, flat.size) @ flat


def self_test():
    """Checks the values that ../common/generator.rs states too.

    Raises AssertionError where they differ.
    """
    for name, first in KNOWN_WORDS.items():
        got = [int(word) for word in words(name, 2)]
        assert got == first, f"stream {name!r}: expected {first}, got {got}"
    for name, (shape, bits) in KNOWN_PARAMETERS.items():
        got = [int(bit) for bit in parameter(name, shape).reshape(-1)[:2].view(np.uint32)]
        assert got == bits, f"parameter {name!r}: expected bits {bits}, got {got}"
    assert integers("time", 4, 1000) == KNOWN_INTEGERS
    assert signs("init_conv.weight", 2)[:4].tolist() == KNOWN_SIGNS


# Also stated in ../common/generator.rs.
KNOWN_WORDS = {
    "": [0xC3817C016BA4FF30, 0x100CDAACC0BC9316],
    "init_conv.weight": [0xED9D19E9124A5C3E, 0x3D613BBF543ED8A7],
    "gr\u00f6\u00dfe": [0xA9B541425F6E8284, 0xAE5EBC8F39792610],
}
KNOWN_PARAMETERS = {
    "init_conv.weight": ((16, 3, 1, 7, 7), [0x3DFA8BA8, 0xBD984655]),
    "init_conv.bias": ((16,), [0xBCF5FED3, 0x3D07D230]),
    "downs.0.0.block1.norm.gamma": ((16, 1, 1, 1), [0x3F8082D8, 0x3F91B8FC]),
    "downs.0.0.block1.norm.weight": ((16,), [0x3F8AA28E, 0x3F87EC74]),
    "time_rel_pos_bias.relative_attention_bias.weight": ((32, 8), [0xBBEDBD00, 0x3D093740]),
    "null_cond_emb": ((1, 24), [0x3E427D18, 0xBEDFBEE8]),
}
KNOWN_INTEGERS = [758, 42, 521, 146]
KNOWN_SIGNS = [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]
