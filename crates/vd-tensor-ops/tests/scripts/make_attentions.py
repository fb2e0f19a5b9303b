"""Writes the fixtures of tests/layers_torch.rs: what `torch.nn.MultiheadAttention` answers in f64.

Run from anywhere, with torch 2.11 and safetensors 0.8: python make_attentions.py
"""

import pathlib

import torch
from safetensors.torch import save_file

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "attention"
HEADS, DIM = 2, 6
INNER = HEADS * DIM


def shaken(module):
    """Every parameter away from its start, biases and the zero-filled ones too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.double()


def cross(b, f, h, w, tokens, width):
    """Positions ask tokens; the logarithm of a token's weight is added to its scores."""
    attention = shaken(
        torch.nn.MultiheadAttention(
            INNER, HEADS, bias=False, kdim=width, vdim=width, batch_first=True
        )
    )
    x = torch.randn(b, f, h, w, INNER).double()
    text = torch.randn(b, tokens, width).double()
    weight = torch.rand(b, f, tokens).double() * 3
    weight = torch.where(weight < 1, 0.0, weight)
    weight[:, :, 0] = 0.5  # no row without a token, which MultiheadAttention cannot answer
    mask = weight.log().repeat_interleave(h * w, 1).repeat_interleave(HEADS, 0)
    out, _ = attention(x.flatten(1, 3), text, text, attn_mask=mask)
    return {
        "x": x,
        "tokens": text,
        "weight": weight,
        "to_q.weight": attention.q_proj_weight,
        "to_kv.weight": torch.cat([attention.k_proj_weight, attention.v_proj_weight]),
        "to_out.weight": attention.out_proj.weight,
        "out": out.view_as(x),
    }


def memory(b, f, h, w):
    """Positions of a frame ask each other, with a bias, and one learned key beside them."""
    attention = shaken(
        torch.nn.MultiheadAttention(INNER, HEADS, bias=False, add_bias_kv=True, batch_first=True)
    )
    x = torch.randn(b, f, h, w, INNER).double()
    positions = x.flatten(2, 3).flatten(0, 1)
    bias = torch.randn(HEADS, h * w, h * w).double()
    mask = bias.repeat(b * f, 1, 1)
    out, _ = attention(positions, positions, positions, attn_mask=mask)
    shape = (1, 1, HEADS, DIM)
    return {
        "x": x,
        "bias": bias,
        "keys": attention.bias_k.view(shape).repeat(b, 1, 1, 1),
        "values": attention.bias_v.view(shape).repeat(b, 1, 1, 1),
        "to_qkv.weight": attention.in_proj_weight,
        "to_out.weight": attention.out_proj.weight,
        "out": out.view_as(x),
    }


def main():
    torch.manual_seed(20220407)
    FIXTURES.mkdir(exist_ok=True)
    cases = {"cross": cross(2, 3, 2, 2, 5, 7), "memory": memory(2, 2, 2, 3)}
    for name, tensors in cases.items():
        tensors = {key: value.detach().contiguous() for key, value in tensors.items()}
        save_file(tensors, FIXTURES / f"{name}.safetensors")


if __name__ == "__main__":
    main()
