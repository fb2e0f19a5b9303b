"""Tiny random models of the Hugging Face layout, and what transformers makes of some prompts.

Made with transformers 5.23 and video-diffusion-pytorch 0.7.0 (whose bert_embed gives `peer`):

    python fixtures.py            writes bert/, distilbert/, roberta/ and clip_vocabulary/ beside it
    python fixtures.py DIRECTORY  writes minilm.safetensors beside it, from the model in DIRECTORY

expected.safetensors holds, of the prompts in its metadata entry `prompts`:
  ids.I          l      the tokens of prompt I
  last.I         l d    the last layer's output for prompt I alone
  penultimate.I  l d    that of the layer before (of the MiniLM for the first prompt alone)
  cls, mean, peer, eos  n d   pooled, of the prompts padded to the longest
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from video_diffusion_pytorch import text as peer

HERE = Path(__file__).parent
PROMPTS = [
    "a red firework",
    "Two bursts, green then GOLD!",
    "",
    " blanks  around ",
    "caf\u00e9 na\u00efve \u4e16\u754c \U0001f386",
    "a slow blue rocket that bursts in one colour",
]
CORPUS = PROMPTS + ["the fireworks burst", "a rocket bursts in green and gold", "two red rockets"]
SENTENCES = [
    "a red explosion in the night sky",
    "a crimson explosion in the dark sky",
    "two green rockets burst one after the other",
    "a pair of emerald fireworks goes off in turn",
    "the minutes of the meeting were sent to the board",
    "",
    "Caf\u00e9 owners na\u00efvely ordered 1,000 cr\u00e8me br\u00fbl\u00e9es; \u4e16\u754c! \U0001f386",
]


def randomise(model, seed):
    """Weights so large that every part of the network shows in its output."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" in name or "layer_norm" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3 + float(name.endswith("weight")))
            else:
                parameter.copy_(torch.randn_like(parameter) * (0.1 if name.endswith("bias") else 0.4))
    return model.eval()


@torch.no_grad()
def expected(model, tokenizer, prompts, path, tokens=None):
    tensors, every = {}, []
    for i, prompt in enumerate(prompts):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
        tensors[f"ids.{i}"] = ids[0].clone()
        every.append(len(tokenizer(prompt, add_special_tokens=False).input_ids))
        if tokens is None or i < tokens:
            tensors[f"last.{i}"] = hidden[-1][0].clone()
            tensors[f"penultimate.{i}"] = hidden[-2][0].clone()
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    hidden = model(**batch).last_hidden_state
    length = batch.attention_mask.sum(1)
    tensors["cls"] = hidden[:, 0].clone()
    # one special token before the prompt's own, one behind
    means = [h[1 : n + 1].mean(0) if n else h[:2].mean(0) for h, n in zip(hidden, every)]
    tensors["mean"] = torch.stack(means)
    tensors["eos"] = torch.stack([h[n - 1] for h, n in zip(hidden, length)])
    peer.get_bert = lambda: model
    tensors["peer"] = peer.bert_embed(batch.input_ids, pad_id=tokenizer.pad_token_id)
    save_file(tensors, path, metadata={"prompts": json.dumps(prompts)})


def word_pieces():
    letters = sorted({c for text in CORPUS for c in text.lower() if c.isascii() and c.isalpha()})
    words = ["red", "firework", "burst", "##s", "green", "a", "two", "rocket", "blue", "caf", "##ow"]
    marks = [",", "!", "\u4e16"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    every = special + words + marks + letters + [f"##{c}" for c in letters]
    return {token: i for i, token in enumerate(dict.fromkeys(every))}


def save(name, head, base, tokenizer):
    folder = HERE / name
    head.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    expected(base, tokenizer, PROMPTS, folder / "expected.safetensors")


def bert():
    vocab = word_pieces()
    tokenizer = transformers.BertTokenizer(vocab=vocab)
    config = transformers.BertConfig(
        vocab_size=len(vocab), hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=40, hidden_act="gelu",
    )
    # with its head, so that the names have the prefix `bert.`
    head = randomise(transformers.BertForMaskedLM(config), 1)
    save("bert", head, head.bert, tokenizer)


def distilbert():
    vocab = word_pieces()
    tokenizer = transformers.DistilBertTokenizer(vocab=vocab)
    config = transformers.DistilBertConfig(
        vocab_size=len(vocab), dim=16, n_layers=2, n_heads=2, hidden_dim=24,
        max_position_embeddings=40, activation="relu",
    )
    model = randomise(transformers.DistilBertModel(config), 2)
    save("distilbert", model, model, tokenizer)


def pairs(special):
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(CORPUS, vocab_size=300, min_frequency=1, special_tokens=special)
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def roberta():
    vocab, merges = pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer = transformers.RobertaTokenizer(vocab=vocab, merges=merges)
    config = transformers.RobertaConfig(
        vocab_size=len(vocab), hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=66, type_vocab_size=1, pad_token_id=1,
        hidden_act="gelu_new", layer_norm_eps=1e-5,
    )
    model = randomise(transformers.RobertaModel(config), 3)
    save("roberta", model, model, tokenizer)


def clip_vocabulary():
    """The vocabulary alone: how a CLIP takes prompts apart without a tokenizer.json."""
    ends = ["<|startoftext|>", "<|endoftext|>"]
    vocab, merges = pairs(ends)
    for token in [t for t in vocab if t not in ends]:
        vocab[token + "</w>"] = len(vocab)
    merges += [("r", "e"), ("re", "d</w>")]
    for a, b in merges[-2:]:
        vocab.setdefault(a + b, len(vocab))
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=merges)
    folder = HERE / "clip_vocabulary"
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2"] + [" ".join(pair) for pair in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_text_model"}))
    ids = {prompt: tokenizer(prompt).input_ids for prompt in PROMPTS}
    (folder / "expected.json").write_text(json.dumps(ids))


def minilm(directory):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModel.from_pretrained(directory).eval()
    expected(model, tokenizer, SENTENCES, HERE / "minilm.safetensors", tokens=1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        minilm(sys.argv[1])
    else:
        bert()
        distilbert()
        roberta()
        clip_vocabulary()
