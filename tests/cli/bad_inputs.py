"""Bad inputs through the command line: each gets one sentence and exit code 1 or 2.

  python3 tests/cli/bad_inputs.py BINARY SOURCE_DIR [--table]

Makes broken copies of the storyteller and of a golden checkpoint in a temporary folder, runs `lockstep generate` on
each, and holds the outcome to: exit code 1 or 2, nothing on stdout, one line on stderr that contains the given words,
under 20 seconds. --table prints a line per case. Standard library only.
"""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

SECONDS = 20
LONGEST = 700  # characters of one sentence; a list of known names may stand in it


class Folder:
    """A copy of a model that can be broken piece by piece."""

    def __init__(self, root, source, name):
        self.path = root / name
        shutil.copytree(source, self.path)
        self.weights = self.path / "model.safetensors"

    def __str__(self):
        return str(self.path)

    def config(self, **changes):
        """Sets keys of config.json; None removes one."""
        return self.edit_json("config.json", changes)

    def edit_json(self, name, changes):
        file = self.path / name
        content = json.loads(file.read_text())
        for key, value in changes.items():
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
        file.write_text(json.dumps(content))
        return self

    def tokenizer(self, edit):
        file = self.path / "tokenizer.json"
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))
        return self

    def header(self, edit):
        """Changes the safetensors header (a dict, or raw text when `edit` returns a string); data stays."""
        data = self.weights.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + length])
        text = edit(header)
        if text is None:
            text = json.dumps(header)
        raw = text.encode()
        raw += b" " * (-len(raw) % 8)
        self.weights.write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length:])
        return self

    def write(self, name, content):
        (self.path / name).write_bytes(content)
        return self

    def remove(self, name):
        (self.path / name).unlink()
        return self


def first_matrix(header):
    return next(name for name in sorted(header) if name.endswith("q_proj.weight") or name.endswith("out_proj.weight"))


def model_cases(new):
    """(what, folder, words): broken configs."""
    yield "no config.json", new().remove("config.json"), ["config.json"]
    yield "config is no JSON", new().write("config.json", b"{\"model_type\": "), ["config.json"]
    yield "unknown architecture", new().config(model_type="gpt2"), ["gpt2", "qwen3_next"]
    yield "missing config key", new().config(hidden_size=None), ["hidden_size"]
    yield "mistyped config key", new().config(num_hidden_layers="eight"), ["num_hidden_layers", "eight"]
    yield "negative config number", new().config(vocab_size=-1), ["vocab_size", "-1"]
    yield "2^40 layers", new().config(num_hidden_layers=2 ** 40, layer_types=None), ["num_hidden_layers", str(2 ** 40)]
    yield "zero heads", new().config(num_attention_heads=0), ["num_attention_heads"]
    yield "heads no multiple of kv heads", new().config(num_key_value_heads=5), ["num_key_value_heads", "5"]
    yield "more choices than experts", new().config(num_experts_per_tok=9), ["num_experts_per_tok", "9"]
    yield "unknown activation", new().config(hidden_act="gelu"), ["hidden_act", "gelu"]
    yield "unknown quantisation", new().config(quantization_config={"quant_method": "exl2"}), ["exl2", "awq"]
    yield "codes of 8 bits", new().config(quantization_config={"quant_method": "gptq", "bits": 8}), ["bits", "8"]
    yield "number beyond 64 bits", new().write("config.json", b'{"model_type": 1e999}'), ["config.json"]
    yield "nested too deep", new().write("config.json", b"[" * 100000), ["config.json"]


def weight_cases(new):
    """(what, folder, words): broken checkpoints."""
    folder = new()
    folder.weights.write_bytes(folder.weights.read_bytes()[:-1000])
    yield "truncated safetensors", folder, ["model.safetensors"]
    folder = new()
    folder.weights.write_bytes(struct.pack("<Q", 2 ** 40) + folder.weights.read_bytes()[8:])
    yield "header length beyond the file", folder, ["model.safetensors", "header"]
    yield "empty safetensors", new().write("model.safetensors", b""), ["model.safetensors"]
    yield "header is no JSON", new().header(lambda h: "{not json"), ["model.safetensors"]

    def overlap(header):
        names = [name for name in sorted(header) if name != "__metadata__"]
        a, b = header[names[0]], header[names[1]]
        b["data_offsets"] = [a["data_offsets"][0], a["data_offsets"][0] + b["data_offsets"][1] - b["data_offsets"][0]]

    def out_of_file(header):
        begin, end = header[first_matrix(header)]["data_offsets"]
        header[first_matrix(header)]["data_offsets"] = [begin + 2 ** 50, end + 2 ** 50]

    def wrong_shape(header):
        header["model.embed_tokens.weight"]["shape"].reverse()

    def wrong_dtype(header):
        header[first_matrix(header)]["dtype"] = "I16"

    def missing(header):
        header["model.unheard_of.weight"] = header.pop(first_matrix(header))

    def codes(header):
        name = first_matrix(header)
        header[name.replace(".weight", ".qweight")] = header.pop(name)

    def duplicate(header):
        name = first_matrix(header)
        return "{" + json.dumps(name) + ": " + json.dumps(header[name]) + ", " + json.dumps(header)[1:]

    yield "overlapping offsets", new().header(overlap), ["model.safetensors"]
    yield "offsets outside the file", new().header(out_of_file), ["model.safetensors"]
    yield "wrong shape", new().header(wrong_shape), ["shape"]
    yield "wrong dtype", new().header(wrong_dtype), ["i16"]
    yield "missing tensor", new().header(missing), ["proj.weight"]
    yield "codes that the config does not explain", new().header(codes), ["qweight", "quantization_config"]
    yield "duplicate tensor", new().header(duplicate), ["proj.weight"]
    index = {"metadata": {"total_size": 1}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    yield "missing shard", new().remove("model.safetensors").write(
        "model.safetensors.index.json", json.dumps(index).encode()), ["model-00001-of-00002.safetensors"]
    index["weight_map"]["model.norm.weight"] = "../elsewhere.safetensors"
    yield "shard outside the folder", new().remove("model.safetensors").write(
        "model.safetensors.index.json", json.dumps(index).encode()), ["../elsewhere.safetensors"]
    folder = new().remove("model.safetensors")
    folder.weights.mkdir()
    yield "weights that cannot be read", folder, ["model.safetensors"]
    yield "no weights", new().remove("model.safetensors"), ["model.safetensors"]


def tokenizer_cases(new):
    """(what, folder, words): broken tokenizers."""
    yield "broken tokenizer.json", new().write("tokenizer.json", b"{\"version\": \"1.0\""), ["tokenizer.json"]
    yield "no tokenizer.json", new().remove("tokenizer.json"), ["tokenizer.json"]

    def unknown_merge(content):
        content["model"]["merges"][0] = ["never", "heard"]

    def other_model(content):
        content["model"] = {"type": "Unigram", "vocab": []}

    def absurd_id(content):
        content["model"]["vocab"]["zzz"] = 2 ** 31 - 1

    yield "merges naming unknown tokens", new().tokenizer(unknown_merge), ["never"]
    yield "tokenizer of another kind", new().tokenizer(other_model), ["Unigram"]
    yield "absurd token id", new().tokenizer(absurd_id), ["tokenizer.json"]


def flag_cases():
    """(what, arguments, words): requests and flags on the storyteller as it is."""
    prompt = ["--prompt", "Once"]
    yield "missing model", prompt + ["--model", "/nowhere/at/all"], ["/nowhere/at/all"]
    yield "model not in the cache", prompt + ["--model", "nobody/nothing"], ["nobody/nothing"]
    yield "no prompt", [], ["--prompt"]
    yield "empty prompt", ["--prompt", ""], ["empty"]
    yield "prompt longer than the context", ["--prompt", "once upon a time " * 100, "--max-model-len", "64"], ["64"]
    yield "prompt that is no UTF-8", ["--prompt", b"\xff\xfe"], ["UTF-8"]
    yield "unreadable prompt file", ["--prompt-file", "/nowhere/prompt.txt"], ["/nowhere/prompt.txt"]
    yield "pool too small for one request", prompt + ["--num-pages", "1", "--max-tokens", "100"], ["--num-pages"]
    for flag, value in [("--temperature", "nan"), ("--temperature", "-1"), ("--temperature", "1000"), ("--top-p", "0"),
                        ("--top-p", "1.5"), ("--top-k", "-1"), ("--min-p", "2"), ("--repetition-penalty", "0"),
                        ("--presence-penalty", "nan"), ("--frequency-penalty", "1000"), ("--max-tokens", "0"),
                        ("--max-tokens", "-5"), ("--max-tokens", "abc"), ("--logprobs", "99"),
                        ("--max-num-seqs", "0"), ("--page-size", "-16"), ("--threads", "-1"),
                        ("--max-num-batched-tokens", "99999999999999999999"), ("--max-model-len", "1000000"),
                        ("--kv-layout", "sideways"), ("--dtype", "int3"), ("--device", "abacus"), ("--isa", "mmx")]:
        yield f"{flag} {value}", prompt + [flag, value], [value[:6]]
    yield "unknown flag", prompt + ["--max-tokes", "5"], ["--max-tokes", "--max-tokens"]
    yield "config file that is a folder", prompt + ["--config", "/"], ["--config", "TOML"]
    yield "missing config file", prompt + ["--config", "/nowhere/lockstep.toml"], ["/nowhere/lockstep.toml"]


def run(binary, arguments):
    """Exit code, stdout and stderr of one call; a hang is exit code None."""
    environment = {**os.environ, "LOCKSTEP_MAX_TOKENS": "4"}  # what should fail but does not ends soon
    try:
        done = subprocess.run([binary, "generate", *arguments], capture_output=True, timeout=SECONDS, check=False,
                              env=environment)
    except subprocess.TimeoutExpired:
        return None, b"", f"no answer in {SECONDS} s".encode()
    return done.returncode, done.stdout, done.stderr


# "proving graphs: 1 of 1 (100%), 0/s, 0 s left": of work that takes over two seconds, as on a crowded machine.
PROGRESS = re.compile(r"[a-z ]+: [\d.,]+ (?:[kMG]?B )?(?:of|in) [\d.,]+ .*(?:/s|left)$")


def complaint(code, stdout, stderr, words):
    """What is wrong with an answer; empty when nothing is."""
    lines = stderr.decode(errors="replace").strip().split("\n")
    text = "\n".join(line for line in lines if not PROGRESS.match(line))
    if code not in (1, 2):
        return f"exit code {code}"
    if stdout:
        return f"stdout holds {stdout[:80]!r}"
    if not text or "\n" in text or len(text) > LONGEST:
        return f"stderr is no single sentence: {text[:300]!r}"
    lost = [word for word in words if word.lower() not in text.lower()]
    return f"the sentence lacks {lost}" if lost else ""


def all_cases(root, source):
    """(what, arguments, words) of everything."""
    count = iter(range(1000))

    def new():
        return Folder(root, source / "models" / "storyteller", f"m{next(count)}")

    for maker in (model_cases, weight_cases, tokenizer_cases):
        for what, folder, words in maker(new):
            yield what, ["--prompt", "Once", "--model", str(folder)], words
            shutil.rmtree(folder.path)
    yield from flag_cases()


def main(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__)
    binary, source = arguments[0], pathlib.Path(arguments[1])
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        for what, words_typed, words in all_cases(pathlib.Path(root), source):
            code, stdout, stderr = run(binary, words_typed)
            wrong = complaint(code, stdout, stderr, words)
            passed, failed = (passed, failed + 1) if wrong else (passed + 1, failed)
            sentence = stderr.decode(errors="replace").strip().replace(root, "")
            if wrong or "--table" in arguments:
                print(f"{'FAILED ' if wrong else ''}{what} | {code} | {sentence}{' | ' + wrong if wrong else ''}")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
