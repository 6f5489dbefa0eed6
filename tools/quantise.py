"""Makes a quantised checkpoint of a folder of safetensors: FP8 in blocks, AWQ or GPTQ int4.

  python3 tools/quantise.py SOURCE TARGET --form fp8|awq|gptq [--group 128] [--block 128] [--skip REGEX ...]

Every weight is rounded to the nearest code of its block or group, without calibration: no text is read, nothing
makes up for what rounding loses, so a checkpoint of AutoAWQ or GPTQ proper is better than one made here. The files
are laid out as theirs are.

  fp8   weight F8_E4M3, weight_scale_inv F32: largest magnitude of a block / 448
  awq   qweight, qzeros, scales F16: zero points, from the least to the greatest weight of a group
  gptq  qweight, qzeros, scales F16, g_idx: symmetric, 7.5 steps to the largest magnitude of a group; zero points as
        checkpoint_format "gptq" stores them, 8 less one

Quantised is what ends in .weight, has two dimensions that suit the form, and does not match --skip; the default
leaves embeddings, heads, routers, shared experts' gates and the two small projections of Gated DeltaNet as they
are. Standard library only: some seconds for ten million weights, and hours for billions.
"""

import argparse
import array
import bisect
import json
import math
import re
import shutil
import struct
import sys
from pathlib import Path

DEFAULT_SKIP = [r"embed_tokens", r"lm_head", r"\.gate\.weight$", r"shared_expert_gate", r"in_proj_(a|b|ba)\.weight$"]
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # nibble i of a word is output 8c + AWQ_ORDER[i]
CODES = {"F32": "f", "F16": "e", "BF16": None}


def read_header(path: Path) -> tuple[dict, int]:
    """(entries by name, offset of the data) of a safetensors file."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)), 8 + length


def write_safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    """Writes {name: (dtype, shape, bytes)}; tensors lie in the order of their names."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in sorted(tensors.items()):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, (_, _, data) in sorted(tensors.items()):
            file.write(data)


def floats(dtype: str, data: bytes) -> array.array:
    """The elements as f32."""
    if dtype == "BF16":
        wide = bytearray(2 * len(data))
        wide[2::4], wide[3::4] = data[0::2], data[1::2]
        return array.array("f", bytes(wide))
    return array.array("f", struct.unpack(f"<{len(data) // struct.calcsize(CODES[dtype])}{CODES[dtype]}", data))


def fp8_values() -> list[float]:
    """The values of the codes 0..0x7E, which ascend to 448."""
    return [math.ldexp(code & 7, -9) if code < 8 else math.ldexp(8 + (code & 7), (code >> 3) - 10) for code in range(127)]


def fp8_bounds() -> list[float]:
    """bounds[i] < x: x is nearer to code i + 1 than to i; a tie goes to the even code."""
    values = fp8_values()
    middles = [(a + b) / 2 for a, b in zip(values, values[1:])]
    return [math.nextafter(m, 0) if i % 2 else m for i, m in enumerate(middles)]


def to_fp8(values: array.array, rows: int, k: int, block: int) -> tuple[bytes, array.array]:
    """(codes [rows, k], scales [blocks of rows, blocks of columns]): code * scale is near the value."""
    bounds, codes = fp8_bounds(), bytearray(rows * k)
    scales = array.array("f")
    for top in range(0, rows, block):
        for left in range(0, k, block):
            spans = [(r * k + left, r * k + min(left + block, k)) for r in range(top, min(top + block, rows))]
            largest = max(max(max(values[a:b]), -min(values[a:b])) for a, b in spans)
            scales.append(largest / 448 or 1.0)
            scale, known = scales[-1], {}
            for a, b in spans:
                part = values[a:b]
                for x in set(part).difference(known):
                    code = bisect.bisect_left(bounds, min(abs(x) / scale, 448.0))
                    known[x] = code + 128 if x < 0 else code
                codes[a:b] = bytes([known[x] for x in part])
    return bytes(codes), scales


def half(x: float) -> float:
    """The nearest F16, away from zero, as scales must not be."""
    return struct.unpack("<e", struct.pack("<e", max(x, 6e-5)))[0]


def to_int4(values: array.array, rows: int, k: int, group: int, symmetric: bool) -> tuple[list[bytes], list, list]:
    """(codes of every row, a byte each; scales and zero points of every row, one for each group)."""
    codes, scales, zeros = [], [], []
    for r in range(rows):
        row, row_scales, row_zeros = bytearray(), [], []
        for begin in range(r * k, (r + 1) * k, group):
            part = values[begin:min(begin + group, (r + 1) * k)]
            least, most = min(min(part), 0.0), max(max(part), 0.0)
            scale = half(max(most, -least) / 7.5 if symmetric else (most - least) / 15)
            zero = 8 if symmetric else min(max(round(-least / scale), 0), 15)
            inverse, shift = 1 / scale, zero + 0.5
            line = [int(x * inverse + shift) for x in part]
            if max(line) > 15 or min(line) < 0:
                line = [min(max(q, 0), 15) for q in line]
            row += bytes(line)
            row_scales.append(scale)
            row_zeros.append(zero)
        codes.append(bytes(row))
        scales.append(row_scales)
        zeros.append(row_zeros)
    return codes, scales, zeros


def packed(nibbles: bytes) -> bytes:
    """Bytes below 16, two to a byte, the first in the low bits: eight of them are a word."""
    number = int.from_bytes(nibbles, "little")
    return (number | number >> 4).to_bytes(len(nibbles), "little")[::2]


def transposed(lines: list[bytes], width: int) -> list[bytes]:
    """[len(lines), width] bytes as `width` lines."""
    out = bytearray(len(lines) * width)
    for i, line in enumerate(lines):
        out[i::len(lines)] = line
    return [bytes(out[i * len(lines):(i + 1) * len(lines)]) for i in range(width)]


def permuted(line: bytes) -> bytes:
    """Eight outputs at a time in the order in which AWQ's words hold them."""
    out = bytearray(len(line))
    for i, lane in enumerate(AWQ_ORDER):
        out[i::8] = line[lane::8]
    return bytes(out)


def int4_tensors(base: str, form: str, values: array.array, shape: list[int], group: int) -> dict:
    """The tensors of one matrix [rows, k] in the form of AWQ or GPTQ."""
    rows, k = shape
    size = k if group < 0 else group
    codes, scales, zeros = to_int4(values, rows, k, size, symmetric=form == "gptq")
    groups = len(scales[0])
    flat = [scales[r][g] for g in range(groups) for r in range(rows)]
    zero_lines = [bytes(zeros[r][g] for r in range(rows)) for g in range(groups)]
    made = {f"{base}.scales": ("F16", [groups, rows], struct.pack(f"<{len(flat)}e", *flat))}
    if form == "awq":
        words = b"".join(packed(permuted(line)) for line in transposed(codes, k))
        made[f"{base}.qweight"] = ("I32", [k, rows // 8], words)
        zeros_bytes = b"".join(packed(permuted(line)) for line in zero_lines)
    else:
        columns = array.array("I", bytes(k // 8 * rows * 4))
        for r, line in enumerate(codes):
            columns[r::rows] = array.array("I", packed(line))
        made[f"{base}.qweight"] = ("I32", [k // 8, rows], columns.tobytes())
        zeros_bytes = b"".join(packed(bytes(z - 1 for z in line)) for line in zero_lines)
        made[f"{base}.g_idx"] = ("I32", [k], array.array("i", (i // size for i in range(k))).tobytes())
    made[f"{base}.qzeros"] = ("I32", [groups, rows // 8], zeros_bytes)
    return made


def quantised(name: str, dtype: str, shape: list[int], data: bytes, args: argparse.Namespace) -> dict:
    """The tensors that one becomes."""
    rows, k = shape
    values = floats(dtype, data)
    if args.form == "fp8":
        codes, scales = to_fp8(values, rows, k, args.block)
        blocks = [-(-rows // args.block), -(-k // args.block)]
        return {name: ("F8_E4M3", shape, codes), f"{name}_scale_inv": ("F32", blocks, scales.tobytes())}
    return int4_tensors(name.removesuffix(".weight"), args.form, values, shape, args.group)


def config_of(args: argparse.Namespace) -> dict:
    """What goes into config.json."""
    if args.form == "fp8":
        return {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                "weight_block_size": [args.block, args.block]}
    shared = {"quant_method": args.form, "bits": 4, "group_size": args.group}
    if args.form == "awq":
        return shared | {"zero_point": True, "version": "gemm"}
    return shared | {"desc_act": False, "sym": True, "checkpoint_format": "gptq"}


def suits(name: str, entry: dict, args: argparse.Namespace) -> bool:
    """Whether a tensor is quantised."""
    shape = entry["shape"]
    if not name.endswith(".weight") or len(shape) != 2 or entry["dtype"] not in CODES or 0 in shape:
        return False
    if any(re.search(skip, name) for skip in args.skip):
        return False
    return args.form == "fp8" or (shape[0] % 8 == 0 and shape[1] % 8 == 0)


def convert(path: Path, target: Path, args: argparse.Namespace) -> list[str]:
    """Writes one file anew; the names that its tensors have there."""
    header, data_at = read_header(path)
    header.pop("__metadata__", None)
    made, before, after = {}, 0, 0
    with path.open("rb") as file:
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(data_at + begin)
            data = file.read(end - begin)
            plain = {name: (entry["dtype"], entry["shape"], data)}
            new = quantised(name, entry["dtype"], entry["shape"], data, args) if suits(name, entry, args) else plain
            made |= new
            before, after = before + len(data), after + sum(len(part[2]) for part in new.values())
    write_safetensors(target, made)
    print(f"{path.name}: {before:,} bytes become {after:,}", file=sys.stderr)
    return list(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--form", choices=["fp8", "awq", "gptq"], required=True)
    parser.add_argument("--group", type=int, default=128, help="inputs that share a scale (int4); -1: all")
    parser.add_argument("--block", type=int, default=128, help="outputs, and inputs, that share a scale (fp8)")
    parser.add_argument("--skip", nargs="*", default=DEFAULT_SKIP, help="leave tensors that match as they are")
    args = parser.parse_args()
    if args.group != -1 and (args.group < 8 or args.group % 8):
        parser.error(f"--group is {args.group}; expected -1 or a multiple of 8")
    args.target.mkdir(parents=True, exist_ok=True)
    files = sorted(args.source.glob("*.safetensors"))
    if not files:
        parser.error(f"{args.source} holds no .safetensors; expected a checkpoint's folder")
    names = {name: path.name for path in files for name in convert(path, args.target / path.name, args)}
    for path in args.source.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and not path.name.endswith(".index.json"):
            shutil.copy(path, args.target)
    if len(files) > 1:
        index = {"metadata": {}, "weight_map": names}
        (args.target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    config = json.loads((args.source / "config.json").read_text())
    config["quantization_config"] = config_of(args)
    (args.target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
