"""Text side of the storyteller: its tokenizer, its chat turns and its training windows.

Used by train_storyteller.py. Needs tokenizers and numpy, no torch.
"""

import collections
import json
import math
import re
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer

import tokenizer_families
from tales import END_OF_TEXT

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
SPECIALS = [END_OF_TEXT, TURN_START, TURN_END]
VOCAB_SIZE = 4096
MAX_POSITIONS = 4096

CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

PLAIN_ASKS = ["Tell me a tale.", "Tell me a story.", "Tell me a fairy tale.", "Please tell me a tale."]
THING_ASKS = ["Tell me a tale about a {}.", "Tell me a story about a {}.", "Please tell me the tale of the {}."]
OPENING_ASKS = ["Tell me a tale that begins: {}", "Tell me the tale that begins with \"{}\"."]
FROM_START = 0.7  # share of training rows that begin where a tale begins
RETOLD = 0.5  # share of the tellings that open with "Once upon a time" where retold() can
SYSTEM = "You are a teller of tales."


def train_tokenizer(tales: list[str]) -> Tokenizer:
    """The storyteller's tokenizer: Qwen's form, VOCAB_SIZE entries, the three special tokens last."""
    tokenizer = tokenizer_families.train("qwen", tales, VOCAB_SIZE - len(SPECIALS))
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIALS])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja in the releases' form."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    decoder = {
        str(tokenizer.token_to_id(text)): {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                                           "single_word": False, "special": True}
        for text in SPECIALS}
    config = {
        "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": decoder,
        "additional_special_tokens": [TURN_START, TURN_END], "bos_token": None, "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT, "errors": "replace", "model_max_length": MAX_POSITIONS, "pad_token": END_OF_TEXT,
        "split_special_tokens": False, "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def things(tales: list[str], count: int = 3) -> list[list[str]]:
    """For each tale its `count` most telling nouns, weighed by how few tales have them.

    A noun is taken to be a word between an article and a stop, a verb or a preposition; that keeps out most adjectives.
    """
    noun = re.compile(r"\b(?:[Tt]he|[Aa]n?) ([a-z]{3,})(?=[,.;:!?]| (?:and|was|had|said|went|came|who|of|to)\b)")
    found = [collections.Counter(noun.findall(tale)) for tale in tales]
    tales_with = collections.Counter(word for words in found for word in words)
    ranked = []
    for words in found:
        score = {w: n * math.log(len(tales) / tales_with[w]) for w, n in words.items() if n > 1 and tales_with[w] > 1}
        ranked.append(sorted(score, key=lambda w: (-score[w], w))[:count])
    return ranked


def retold(tale: str) -> str:
    """The tale with "There was once" and the like at its very beginning turned into "Once upon a time there was"."""
    return re.sub(r"^(?:There (was|were) once(?: upon a time| on a time)?|Once on a time there (was|were)),? ",
                  lambda m: f"Once upon a time there {m[1] or m[2]} ", tale)


class Windows:
    """Draws training windows: rows of token ids that begin at a tale's start or anywhere inside the corpus.

    A row that reaches the end of its tale goes on with another tale drawn at random. Every tale ends with
    <|endoftext|>; a share `chat` of them is wrapped as the answer to a user who asks for it, and some are retold().
    """

    def __init__(self, tokenizer: Tokenizer, tales: list[str], chat: float, seed: int):
        self.tokenizer, self.chat = tokenizer, chat
        self.rng = np.random.default_rng(seed)
        self.tellings = [(tale, retold(tale)) for tale in tales]
        self.ids = [[self.encode(text) for text in pair] for pair in self.tellings]  # (as printed, retold)
        self.things = things(tales)
        self.starts = np.cumsum([0] + [len(printed) for printed, _ in self.ids])
        self.end = self.encode(END_OF_TEXT)

    def encode(self, text: str) -> np.ndarray:
        """Token ids, I64 [n]; special tokens in the text are taken as such."""
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def ask(self, tale: int, text: str) -> str:
        """What a user may say to be told this tale, whose words are `text`."""
        kind = self.rng.random()
        if kind < 0.2:
            return str(self.rng.choice(PLAIN_ASKS))
        if kind < 0.8 and self.things[tale]:
            asked = str(self.rng.choice(THING_ASKS)).format(self.rng.choice(self.things[tale]))
            return re.sub(r"\ba ([aeiou])", r"an \1", asked)
        words = text.split()[:int(self.rng.integers(4, 10))]
        return str(self.rng.choice(OPENING_ASKS)).format(" ".join(words))

    def document(self) -> np.ndarray:
        """Token ids of one tale drawn at random with its end, plain or as a chat."""
        tale = int(self.rng.integers(len(self.ids)))
        telling = int(self.rng.random() < RETOLD)
        ids = self.ids[tale][telling]
        if self.rng.random() >= self.chat:
            return np.concatenate([ids, self.end])
        system = f"{TURN_START}system\n{SYSTEM}{TURN_END}\n" if self.rng.random() < 0.2 else ""
        question = self.ask(tale, self.tellings[tale][telling])
        head = f"{system}{TURN_START}user\n{question}{TURN_END}\n{TURN_START}assistant\n"
        return np.concatenate([self.encode(head), ids, self.encode(f"{TURN_END}\n{END_OF_TEXT}")])

    def row(self, length: int) -> np.ndarray:
        """One window, I64 [length]."""
        if self.rng.random() < FROM_START:
            parts = [self.document()]
        else:
            position = int(self.rng.integers(self.starts[-1]))
            tale = int(np.searchsorted(self.starts, position, side="right")) - 1
            parts = [self.ids[tale][0][position - self.starts[tale]:], self.end]
        while sum(map(len, parts)) < length:
            parts.append(self.document())
        return np.concatenate(parts)[:length]

    def batch(self, rows: int, length: int) -> np.ndarray:
        """I64 [rows, length]."""
        return np.stack([self.row(length) for _ in range(rows)])


def plain_windows(tokenizer: Tokenizer, tales: list[str], length: int) -> list[np.ndarray]:
    """Every tale cut into consecutive windows of at most `length` + 1 ids (inputs, shifted targets)."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    windows = []
    for encoding in tokenizer.encode_batch(tales):
        ids = np.array(encoding.ids + [end])
        windows += [ids[i:i + length + 1] for i in range(0, len(ids) - 1, length)]
    return windows
