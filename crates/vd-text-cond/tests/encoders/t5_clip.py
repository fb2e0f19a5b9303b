"""Tiny random T5 and CLIP text models of transformers, with what they make of a few prompts.

python3 t5_clip.py [NAME ...], with transformers 5.23, writes NAME/{config.json, tokenizer.json,
tokenizer_config.json, model.safetensors, expected.safetensors} beside this script. Each
expected.safetensors holds `ids` and `mask` (b l), `hidden.LAYER` (b l d) for the LAYERs last and
penultimate, and `pooled` (b d) where the model pools; all of them once in f32, as transformers
computes them, and once in f64 (`.f64`). Its metadata holds the prompts.
"""
import json
import string
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.t5 import modeling_t5
from transformers.models.umt5 import modeling_umt5

HERE = Path(__file__).parent
PROMPTS = [
    "a red firework",
    "two bursts over the water, green then gold, seen from below at night",
    "gold",
    "",
]
WORDS = "a red green gold fire work burst over water then seen from below at night the two".split()


def redraw(model, seed):
    """Weights at which every part counts: no norm at one, no bias at zero, scores of size one."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        draw = torch.randn(weight.shape, generator=generator)
        with torch.no_grad():
            if weight.dim() == 1 and name.endswith("weight"):
                weight.copy_(1 + 0.4 * draw)
            elif weight.dim() == 1:
                weight.copy_(0.4 * draw)
            elif "embed" in name or "relative_attention_bias" in name:
                weight.copy_(0.7 * draw)
            elif weight.dim() > 1:
                weight.copy_(0.9 * draw / weight[0].numel() ** 0.5)
    return model.eval()


def t5_tokenizer():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -3.0)]
    pieces += [(letter, -6.0 - 0.01 * i) for i, letter in enumerate(string.ascii_lowercase + ",.")]
    pieces += [("\u2581" + word, -4.0 - 0.1 * i) for i, word in enumerate(WORDS)]
    pieces += [("er", -5.0), ("en", -5.1), ("work", -4.5), ("s", -4.9)]
    return T5Tokenizer(vocab=list(dict(pieces).items()), extra_ids=0, model_max_length=512)


def clip_tokenizer(extra):
    """`extra` tokens come after the end of the text, as fine-tuning adds them."""
    letters = list(string.ascii_lowercase + ",.")
    vocab = letters + [letter + "</w>" for letter in letters]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = (parts[-2], parts[-1])
            if pair not in merges:
                merges.append(pair)
                vocab.append("".join(pair))
            parts[-2:] = ["".join(pair)]
    vocab = [*dict.fromkeys(vocab), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(vocab)}, merges=merges, model_max_length=77
    )
    tokenizer.add_tokens(extra)
    return tokenizer


T5_SIZES = {"d_model": 16, "d_kv": 6, "num_heads": 3, "d_ff": 20, "num_layers": 2}


def t5(seed, model, config, **fields):
    tokenizer = t5_tokenizer()
    config = config(vocab_size=len(tokenizer), **(T5_SIZES | fields))
    return redraw(model(config), seed), tokenizer, PROMPTS


def clip_text_config(tokenizer, **fields):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    return CLIPTextConfig(vocab_size=len(tokenizer), num_hidden_layers=2, **(sizes | fields))


def t5_v10():
    """ReLU without a gate; the whole model, as most checkpoints on the hub; few, near buckets."""
    return t5(
        1, T5ForConditionalGeneration, T5Config, num_decoder_layers=1, decoder_start_token_id=0,
        relative_attention_num_buckets=8, relative_attention_max_distance=12,
    )  # fmt: skip


def t5_v11():
    return t5(2, T5EncoderModel, T5Config, feed_forward_proj="gated-gelu", layer_norm_epsilon=1e-4)


def umt5():
    """A relative bias of its own in each block."""
    return t5(3, UMT5EncoderModel, UMT5Config, feed_forward_proj="gated-gelu")


def clip_quick():
    """The text half of a whole model; the end of the text is the highest id, the config says 2."""
    tokenizer = clip_tokenizer([])
    text = clip_text_config(tokenizer, eos_token_id=2)
    vision = {
        "hidden_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1, "patch_size": 2,
        "image_size": 4, "intermediate_size": 4,
    }  # fmt: skip
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision, projection_dim=8)
    return redraw(CLIPModel(config), 4), tokenizer, PROMPTS


def clip_gelu():
    """OpenCLIP's GELU; two tokens of higher ids than the end of the text."""
    tokenizer = clip_tokenizer(["<sparkle>", "<rain>"])
    eos = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    config = clip_text_config(
        tokenizer, eos_token_id=eos, hidden_act="gelu", max_position_embeddings=30,
        layer_norm_eps=1e-4,
    )  # fmt: skip
    prompts = [*PROMPTS, "a <rain> of gold", "<sparkle>"]
    return redraw(CLIPTextModel(config), 5), tokenizer, prompts


def exact_norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def outputs(model, inputs):
    if hasattr(model, "text_model"):
        part = model.text_model
    else:
        part = model.encoder if hasattr(model, "shared") else model
    with torch.no_grad():
        out = part(**inputs, output_hidden_states=True)
    found = {"hidden.last": out.last_hidden_state, "hidden.penultimate": out.hidden_states[-2]}
    if getattr(out, "pooler_output", None) is not None:
        found["pooled"] = out.pooler_output
    return found


def write(name):
    model, tokenizer, prompts = globals()[name]()
    # the softmax of the other implementation is in f32 whatever the model is in
    if name.startswith("clip"):
        model.set_attn_implementation("sdpa")
    else:
        model.set_attn_implementation("eager")
    out = HERE / name
    model.save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save_pretrained(out)
    inputs = tokenizer(prompts, padding=True, return_tensors="pt")
    inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    tensors = {"ids": inputs["input_ids"], "mask": inputs["attention_mask"]}
    tensors |= outputs(model, inputs)
    # in f64 transformers still takes the mean square in f32
    kept = modeling_t5.T5LayerNorm.forward
    modeling_t5.T5LayerNorm.forward = modeling_umt5.UMT5LayerNorm.forward = exact_norm
    real = inputs["attention_mask"].bool()
    for key, value in outputs(model.double(), inputs).items():
        tensors[f"{key}.f64"] = value
        error = (tensors[key] - value).abs()
        error = (error if key == "pooled" else error[real]).max()
        print(f"{name} {key}: size {value.abs().max():.2f}, f32 is off by at most {error:.1e}")
    modeling_t5.T5LayerNorm.forward = modeling_umt5.UMT5LayerNorm.forward = kept
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save_file(tensors, out / "expected.safetensors", {"prompts": json.dumps(prompts)})


CASES = ["t5_v10", "t5_v11", "umt5", "clip_quick", "clip_gelu"]
if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        write(case)
