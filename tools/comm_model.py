#!/usr/bin/env python3
"""What collectives cost: a line (alpha + bytes / beta) through what comm_bench measured, and what the layouts of
docs/parallelism.md would take on other links.

  comm_model.py fit FILE...        outputs of comm_bench, several runs of each; the least median of a size counts
  comm_model.py cost               the table of docs/parallelism.md, on the links below
  comm_model.py cost --into FILE   puts it into the page, between its marks
  comm_model.py cost --check FILE  whether the page has it

Least squares of relative errors: every size counts alike. Only the standard library.
"""
import argparse
import collections
import pathlib
import re
import sys

# ---- the fit ----

TITLE = re.compile(r'^(threads|processes), (\d+) ranks, (\w+): ')
ROW = re.compile(r'^ *(\d+) +([\d.]+) +([\d.]+) +([\d.]+)$')
IN_CACHES = 1 << 20  # bytes of each rank; what is longer goes at the rate of memory
Fit = collections.namedtuple('Fit', 'alpha beta mean worst')


def received(primitive, size, ranks):
    """Bytes that a rank takes in from others."""
    return {'all_gather': size * (ranks - 1), 'all_to_all': size * (ranks - 1), 'broadcast': size,
            'all_reduce': 2 * size * (ranks - 1) / ranks}[primitive]


def read(files, column):
    """{(fabric, ranks, primitive): {bytes: least us of a column}}"""
    measured = collections.defaultdict(dict)
    for file in files:
        at = None
        for line in pathlib.Path(file).read_text().splitlines():
            if title := TITLE.match(line):
                at = measured[(title[1], int(title[2]), title[3])]
            elif (row := ROW.match(line)) and at is not None:
                at[int(row[1])] = min(float(row[column]), at.get(int(row[1]), float('inf')))
    return measured


def fit(points):
    """alpha in us and beta in GB/s of [(bytes, us)], least squares of (alpha + bytes / beta - us) / us."""
    a = b = c = d = e = 0.0
    for taken, us in points:
        u, v = 1 / us, taken / us
        a, b, c, d, e = a + u * u, b + u * v, c + v * v, d + u, e + v
    slope = (a * e - b * d) / (a * c - b * b)
    alpha = (d * c - b * e) / (a * c - b * b)
    errors = [abs(alpha + slope * taken - us) / us for taken, us in points]
    return Fit(alpha, 1e-3 / slope, sum(errors) / len(errors), max(errors))


def print_fit(files, column):
    print('| ranks | collective | alpha | beta | error, mean | error, worst | rate at 16 MiB |\n|---|---|---|---|---|---|---|')
    for (fabric, ranks, primitive), sizes in read(files, column).items():
        points = {size: (received(primitive, size, ranks), us) for size, us in sorted(sizes.items())}
        line = fit([point for size, point in points.items() if size <= IN_CACHES])
        taken, us = points[max(points)]
        print(f'| {ranks} {fabric} | `{primitive}` | {line.alpha:.2f} us | {line.beta:.2f} GB/s | '
              f'{line.mean:.0%} | {line.worst:.0%} | {taken / us * 1e-3:.2f} GB/s |')


# ---- the cost of a step ----

# us until an exchange is through, and GB/s that a rank takes in while it sends as much. docs/parallelism.md says
# where they come from.
Link = collections.namedtuple('Link', 'alpha beta')
LINKS = {'host': Link(8.3, 375), 'between': Link(20, 42)}
Model = collections.namedtuple('Model', 'name width softmax delta moe choices kv_heads head_dim vocab state_bytes')
MODELS = (Model('Qwen3-30B-A3B', 2048, 48, 0, 48, 8, 4, 128, 151936, 0),
          Model('Qwen3-Next-80B', 2048, 12, 36, 48, 10, 2, 256, 151936, 4 * (8192 * 3 + 32 * 128 * 128)))
Layout = collections.namedtuple('Layout', 'name tp dp cp ep')
LAYOUTS = (Layout('tp 8', 8, 1, 1, False), Layout('tp 8, dp 8, ep', 8, 8, 1, True), Layout('cp 8', 1, 1, 8, False))
# Rows of a replica's step, sequences in it, and logits rows; a prefill is one prompt.
Step = collections.namedtuple('Step', 'name rows sequences logits')
STEPS = (Step('decode, 64 sequences', 64, 64, 64), Step('prefill, 8192 rows', 8192, 1, 1))
ONE_EXCHANGE = 950  # floats that are summed in one exchange: kOneExchange in src/comm/collectives.h
PLAN_BYTES = 16384  # the first broadcast of a plan: kFirstBytes in src/engine/replica.cc


class Cost:
    """Sums over the collectives of a step. Bytes are those of the busiest rank: taken in, or sent if that is more."""

    def __init__(self):
        self.exchanges, self.bytes = collections.Counter(), collections.Counter()

    def exchange(self, link, ranks, size, times=1):
        """all_gather of `size` per rank, all_to_all of blocks of it, or a broadcast, whose root sends it to each."""
        if ranks > 1:
            self.exchanges[link] += times
            self.bytes[link] += (ranks - 1) * size * times

    def sum(self, link, ranks, floats, times=1):
        if ranks > 1 and floats <= ONE_EXCHANGE:
            self.exchange(link, ranks, 4 * floats, times)
        elif ranks > 1:
            self.exchange(link, ranks, 4 * -(-floats // ranks), 2 * times)

    def ms(self):
        alpha = sum(count * LINKS[link].alpha for link, count in self.exchanges.items())
        beta = sum(taken / LINKS[link].beta * 1e-3 for link, taken in self.bytes.items())
        return alpha / 1e3, beta / 1e3


def cost_of(model, layout, step):
    """Every collective of the code, in the order of a step. Hosts hold 8 ranks: tp or cp inside, dp between."""
    cost = Cost()
    layers, cut = model.softmax + model.delta, layout.cp > 1 and step.rows > step.sequences
    rows = -(-step.rows // layout.cp) if cut else step.rows
    meets = layout.ep and layout.dp > 1
    if meets:
        cost.exchange('between', layout.dp, 12)  # Replica::agree_on_shape
    cost.exchange('host', layout.tp * layout.cp, PLAN_BYTES)  # Replica::send
    for link, ranks in (('host', layout.tp), ('host', layout.cp), ('between', layout.dp if meets else 1)):
        cost.exchange(link, ranks, 8)  # Replica::agree
    cost.sum('host', layout.tp, rows * model.width, 1 + 2 * layers)  # embedding, each mixer, each mlp
    if meets:  # routed_experts
        for size in (4 * rows * model.width, 4 * rows * model.choices, 4 * rows * model.choices):
            cost.exchange('between', layout.dp, size, model.moe)
        cost.exchange('between', layout.dp, 4 * rows * model.width, model.moe)  # the way back
    if cut:
        cost.exchange('host', layout.cp, 4 * rows * 2 * model.kv_heads * model.head_dim, model.softmax)  # gather_kv
        if model.delta:  # hand_on_states: two kinds of state, 2 cp chunks
            chunks = 2 * layout.cp * model.delta * step.sequences
            cost.exchange('host', layout.cp, model.state_bytes / 2, 2 * chunks)
        cost.exchange('host', layout.cp, 4 * step.logits * model.width)  # shared_rows
        for count in (rows, rows, 2 * step.sequences + 1):  # Sampler::count_of_all_ranks
            cost.exchange('host', layout.cp, 4 * count)
    cost.exchange('host', layout.tp, 4 * step.logits * -(-model.vocab // layout.tp))  # gather_columns
    return cost


def megabytes(count):
    return f'{count / 1e6:.1f}' if count else '-'


def cost_table():
    lines = ['| model | step of a replica | ranks | exchanges | of them between hosts | MB through the busiest rank '
             '| of them between hosts | alpha | bytes / beta | together |', '|---' * 10 + '|']
    for model in MODELS:
        for step in STEPS:
            for layout in LAYOUTS:
                cost = cost_of(model, layout, step)
                alpha, beta = cost.ms()
                lines.append(f'| {model.name} | {step.name} | {layout.name} | {sum(cost.exchanges.values())} | '
                             f'{cost.exchanges["between"] or "-"} | {megabytes(sum(cost.bytes.values()))} | '
                             f'{megabytes(cost.bytes["between"])} | {alpha:.2f} ms | {beta:.2f} ms | '
                             f'{alpha + beta:.2f} ms |')
    return '\n'.join(lines) + '\n'


def page_with(table, text):
    begin, end = '<!-- comm_model.py cost -->\n', '<!-- end of comm_model.py cost -->\n'
    before, _, rest = text.partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        sys.exit(f'comm_model.py: the page has no lines "{begin.strip()}" and "{end.strip()}"')
    return before + begin + table + end + after


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['fit', 'cost'])
    parser.add_argument('files', nargs='*')
    parser.add_argument('--best', action='store_true', help='the best batch of a size counts, not the median')
    parser.add_argument('--into', type=pathlib.Path)
    parser.add_argument('--check', type=pathlib.Path)
    args = parser.parse_intermixed_args()
    if args.what == 'fit':
        print_fit(args.files, 3 if args.best else 2)
        return 0
    table = cost_table()
    if args.into:
        args.into.write_text(page_with(table, args.into.read_text()))
    elif args.check:
        same = args.check.read_text() == page_with(table, args.check.read_text())
        print('1 passed, 0 failed, 0 skipped' if same else f'{args.check} is old; see --into')
        return 0 if same else 1
    else:
        print(table, end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())
