"""The bundled model's tokenizer: byte pair merges learned from the scenes' own words, every such word one token.

Other words fall apart into single letters, which the text encoder learns to ignore: training puts made-up words
into some captions.
"""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from ..captions import vocabulary

MAX_TOKENS = 32
_CHARACTERS = string.ascii_lowercase + string.digits + "!,.-'?"
# The split of the original CLIP tokenizer, without its special tokens.
_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def new_tokenizer() -> CLIPTokenizer:
    """Single characters, merges, words, then the start and end tokens last, as in CLIP's own vocabulary."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=20_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator([*vocabulary(), ","], trainer)
    with tempfile.TemporaryDirectory() as folder:
        bpe.model.save(folder)
        learned = json.loads((Path(folder) / "vocab.json").read_text())
        merges = [tuple(line.split(" ")) for line in (Path(folder) / "merges.txt").read_text().splitlines()[1:] if line]
    tokens = [*_CHARACTERS, *(c + "</w>" for c in _CHARACTERS)]
    tokens += [token for token in sorted(learned, key=learned.__getitem__) if token not in tokens]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=MAX_TOKENS)
