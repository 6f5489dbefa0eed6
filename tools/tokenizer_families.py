"""BPE tokenizers as the model families write them down: byte-level ones, and SentencePiece's over characters.

Shared by make_tokenizer_cases.py and the training of the storyteller. `PATTERNS` holds the regular expression that each
family's tokenizer.json carries in its `Split` pre-tokenizer, character for character.
"""

import json

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

PATTERNS = {
    # Qwen2, Qwen2.5, Qwen3, Qwen3-Next: digits one by one.
    "qwen": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL,
    # Llama 3: digits in threes.
    "llama3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL,
    # MiniMax-M2: letters split by case, marks count as letters, contractions stay with their word.
    "minimax": (
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL
    ),
}


def untrained(family: str) -> Tokenizer:
    """An empty byte-level BPE tokenizer of `family`: normalizer, pre-tokenizer, decoder and post-processor are set."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=family == "llama3"))
    if family == "qwen":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERNS[family]), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    return tokenizer


def train(family: str, texts: list[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of `family` with exactly `vocab_size` BPE tokens learnt from `texts`, and no added token yet."""
    tokenizer = untrained(family)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"{family}: learnt {tokenizer.get_vocab_size()} tokens; expected {vocab_size}")
    return tokenizer


def train_characters(texts: list[str], vocab_size: int) -> Tokenizer:
    """A tokenizer over characters, as SentencePiece models become one (MiniCPM, Llama 2): spaces are U+2581, one is put
    before every text, the whole text is one piece, and characters without a token fall back to the tokens of bytes.

    `vocab_size` tokens in all: <unk>, <s>, </s>, 256 bytes, characters and merges; the first three are added tokens.
    """
    controls, of_bytes = ["<unk>", "<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    # Only while learning: no token of SentencePiece's has a space inside.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="never", split=True)
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=controls + of_bytes, show_progress=False))
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", controls.index("<s>"))])
    written = json.loads(tokenizer.to_str())
    written["pre_tokenizer"] = None
    written["added_tokens"] = written["added_tokens"][:len(controls)]
    return Tokenizer.from_str(json.dumps(written))
