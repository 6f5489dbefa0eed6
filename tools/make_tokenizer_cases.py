#!/usr/bin/env python3
"""Makes small tokenizers of four families and what the tokenizers package encodes with them: tests/golden/tokenizer/.

    python3 tools/make_tokenizer_cases.py

Writes {qwen,llama3,minimax,minicpm}/tokenizer.json, each learnt from data/grimm.txt with that family's regular
expression, normalizer, post-processor and kinds of added tokens, and cases.json: one object whose "cases" list has, a
line each,

    {"text": "...", "ids": {"qwen": [...], "llama3": [...], "minimax": [...], "minicpm": [...]},
     "decoded": {"qwen": "..."}, "with_special": {"llama3": [...]}}

"ids" is encode(text, add_special_tokens=False); "decoded" is decode(ids, skip_special_tokens=False) for the families
where it differs from text, "with_special" is encode(text, add_special_tokens=True) where that differs from "ids".
Hand-written strings come first, then pieces of tales, then strings mixed at random.

Made to be awkward: llama3 has tokens that no merge builds, so that only ignore_merges finds them; minimax writes its
merges as "a b" strings, the others as pairs; qwen's added tokens strip white space, want whole words, and match before
or after normalisation.

Versions: tokenizers 0.23. Takes 3 s. The same seed gives the same files.
"""

import argparse
import json
import random
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer, processors

import tokenizer_families
from tokenizer_strings import HAND_WRITTEN, mixed

REPOSITORY = Path(__file__).resolve().parent.parent
BASE_VOCABULARY = 1500
FUZZED = 3200
OWN_FUZZED = 300  # with the added tokens of the family that came last, so that the others' texts stay
FROM_TALES = 120
WITH_SPECIAL = 60  # how many of the first cases also say what encoding with special tokens gives
LOST_MERGE_EVERY = 25  # llama3: each such merge is taken out, its token stays


def special(*texts: str) -> list[AddedToken]:
    """Added tokens as the releases flag their control tokens."""
    return [AddedToken(text, normalized=False, special=True) for text in texts]


def plain(*texts: str) -> list[AddedToken]:
    """Added tokens that survive skip_special_tokens, as the releases flag their tags."""
    return [AddedToken(text, normalized=False, special=False) for text in texts]


ADDED = {
    "qwen": special("<|endoftext|>", "<|im_start|>", "<|im_end|>") + plain("<tool_call>", "</tool_call>", "<think>") + [
        AddedToken("[left]", lstrip=True, normalized=False),
        AddedToken("[right]", rstrip=True, normalized=False),
        AddedToken("[both]", lstrip=True, rstrip=True, normalized=False, special=True),
        AddedToken("whole", single_word=True, normalized=False),
        AddedToken("[n\u01ce]", normalized=True),  # matches a + U+030C too: NFC joins them first
        AddedToken("[e\u0323]", normalized=False),  # matches only this spelling: NFC would join it
        AddedToken("<think><deep>", normalized=False),  # longer than <think>: the longest wins
    ],
    "llama3": special("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "minimax": special("]~!b[", "]~b]", "[e~[") + plain("<think>", "</think>", "<minimax:tool_call>") + [
        AddedToken("<pad>", lstrip=True, rstrip=True, normalized=True, special=True)],
    "minicpm": special("<|im_end|>", "<|im_start|>", "<|fim_prefix|>") + plain("<|tool_call|>"),
}


def lose_merges(model: dict) -> None:
    """Takes every LOST_MERGE_EVERYth merge out of a BPE model as in tokenizer.json; the vocabulary stays whole."""
    model["merges"] = [pair for i, pair in enumerate(model["merges"], 1) if i % LOST_MERGE_EVERY]


def make_tokenizer(family: str, tales: list[str]) -> dict:
    """The contents of tokenizer.json for a family."""
    train = tokenizer_families.train
    over_characters = family == "minicpm"
    tokenizer = tokenizer_families.train_characters(tales, BASE_VOCABULARY) if over_characters else train(
        family, tales, BASE_VOCABULARY)
    tokenizer.add_tokens(ADDED[family])
    if family == "llama3":
        begin = "<|begin_of_text|>"
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
            processors.TemplateProcessing(
                single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1",
                special_tokens=[(begin, tokenizer.token_to_id(begin))])])
    written = json.loads(tokenizer.to_str())
    if family == "llama3":
        lose_merges(written["model"])
    if family == "minimax":
        written["model"]["merges"] = [" ".join(pair) for pair in written["model"]["merges"]]
    return written


def case(text: str, readers: dict[str, Tokenizer], with_special: bool) -> dict:
    """One entry of "cases"."""
    ids = {family: reader.encode(text, add_special_tokens=False).ids for family, reader in readers.items()}
    made = {"text": text, "ids": ids}
    decoded = {f: reader.decode(ids[f], skip_special_tokens=False) for f, reader in readers.items()}
    decoded = {family: back for family, back in decoded.items() if back != text}
    if decoded:
        made["decoded"] = decoded
    if with_special:
        full = {f: reader.encode(text, add_special_tokens=True).ids for f, reader in readers.items()}
        made["with_special"] = {family: found for family, found in full.items() if found != ids[family]}
    return made


def strings(tales: list[str], seed: int) -> list[str]:
    """All texts, without repetition: hand-written, from the tales, mixed; then mixed with minicpm's added tokens."""
    rng = random.Random(seed)
    own = [token.content for token in ADDED["minicpm"]] + ["<s>", "</s>", "<unk>", "\u2581"]
    added = [token.content for family, tokens in ADDED.items() for token in tokens if family != "minicpm"]
    texts = list(HAND_WRITTEN)
    for _ in range(FROM_TALES):
        tale = rng.choice(tales)
        begin = rng.randrange(len(tale))
        texts.append(tale[begin:begin + rng.randrange(20, 160)])
    texts += [mixed(rng, added) for _ in range(FUZZED * 11 // 10)]
    texts = list(dict.fromkeys(texts))[:len(HAND_WRITTEN) + FROM_TALES + FUZZED]
    return list(dict.fromkeys(texts + [mixed(rng, own) for _ in range(OWN_FUZZED)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=REPOSITORY / "data/grimm.txt")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "tests/golden/tokenizer")
    parser.add_argument("--seed", type=int, default=1812)
    args = parser.parse_args()
    tales = [tale.strip() for tale in args.corpus.read_text(encoding="utf-8").split("<|endoftext|>")]
    readers = {}
    for family in ADDED:
        path = args.out / family / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(make_tokenizer(family, tales), ensure_ascii=False, indent=None, separators=(",", ":"))
        path.write_text(text + "\n", encoding="utf-8")
        readers[family] = Tokenizer.from_file(str(path))
    cases = [case(text, readers, i < WITH_SPECIAL) for i, text in enumerate(strings(tales, args.seed))]
    lines = ",\n".join(json.dumps(made, separators=(",", ":")) for made in cases)
    head = json.dumps({"script": "tools/make_tokenizer_cases.py", "tokenizers": tokenizers.__version__})
    path = args.out / "cases.json"
    path.write_text(f"{head[:-1]}, \"cases\": [\n{lines}\n]}}\n", encoding="utf-8")
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
