#!/usr/bin/env python3
"""Mixing typed quantities must not compile. Usage: units_do_not_mix.py ROOT COMPILER

One compilation holds every forbidden expression, each on its own line of its own function and under its own
name, so that each must be refused for its own, intended reason. A second one holds the nearest legal twin of
each and must compile.
"""
import re
import subprocess
import sys

# In the words of GCC and of clang.
NO_OPERATOR = r'no match for .operator|invalid operands to binary expression|no viable overloaded'
NO_CONVERSION = r'could not convert|cannot convert|conversion from .* to non-scalar|no match for .operator=|no viable conversion|no viable overloaded .='
NO_CALL = r'cannot convert|could not convert|no matching (function|constructor)|no viable conversion'

# name, forbidden, why it is refused, its legal twin
CASES = [
    ('tokens_plus_rows', 'auto x = TokenCount(1) + RowCount(1);', NO_OPERATOR, 'auto x = TokenCount(1) + TokenCount(1);'),
    ('pages_minus_tokens', 'auto x = PageCount(1) - TokenCount(1);', NO_OPERATOR, 'auto x = PageCount(1) - PageCount(1);'),
    ('tokens_grow_by_rows', 'TokenCount x(1); x += RowCount(1);', NO_OPERATOR, 'TokenCount x(1); x += TokenCount(1);'),
    ('tokens_plus_integer', 'auto x = TokenCount(1) + 1;', NO_OPERATOR, 'auto x = TokenCount(1) + TokenCount(1);'),
    ('integer_minus_bytes', 'auto x = 1 - ByteCount(1);', NO_OPERATOR, 'auto x = ByteCount(1) - ByteCount(1);'),
    ('live_rows_equal_padded_rows', 'bool x = LiveRows(1) == PaddedRows(1);', NO_OPERATOR,
     'bool x = LiveRows(1) == LiveRows(1);'),
    ('live_rows_below_padded_rows', 'bool x = LiveRows(1) < PaddedRows(1);', NO_OPERATOR,
     'bool x = LiveRows(1).get() < PaddedRows(1).get();'),
    ('live_seqs_become_padded_seqs', 'PaddedSeqs x = LiveSeqs(1);', NO_CONVERSION, 'PaddedSeqs x = PaddedSeqs(1);'),
    ('live_rows_add_up', 'auto x = LiveRows(1) + LiveRows(1);', NO_OPERATOR, 'auto x = RowCount(1) + RowCount(1);'),
    ('page_becomes_token_count', 'TokenCount x = PageCount(1);', NO_CONVERSION, 'TokenCount x(PageCount(1).get() * 16);'),
    ('page_equals_slot', 'bool x = PageId(1) == SlotOrSkip(1);', NO_OPERATOR, 'bool x = PageId(1) == PageId(1);'),
    ('page_becomes_table_row', 'TableRow x = PageId(1);', NO_CONVERSION, 'TableRow x = TableRow(1);'),
    ('pages_are_names', 'auto x = PageId(1) + PageId(1);', NO_OPERATOR, 'auto x = PageCount(1) + PageCount(1);'),
    ('page_plus_count', 'auto x = PageId(1) + PageCount(1);', NO_OPERATOR, 'auto x = PageId(PageId(1).get() + PageCount(1).get());'),
    ('row_equals_position', 'bool x = RowIndex(1) == Position(1);', NO_OPERATOR, 'bool x = RowIndex(1) == RowIndex(1);'),
    ('position_becomes_token_id', 'TokenId x = Position(1);', NO_CONVERSION, 'TokenId x = TokenId(1);'),
    ('offset_becomes_length', 'RowCount x = RowOffset(7);', NO_CONVERSION,
     'RowCount x(RowOffset(7).get() - RowOffset(5).get());'),
    ('offset_assigned_to_length', 'RowCount x(1); x = RowOffset(7);', NO_CONVERSION, 'RowCount x(1); x = RowCount(7);'),
    ('length_equals_offset', 'bool x = RowCount(1) == RowOffset(1);', NO_OPERATOR, 'bool x = RowCount(1) == RowCount(1);'),
    ('offsets_add_up', 'auto x = RowOffset(1) + RowOffset(1);', NO_OPERATOR, 'auto x = RowCount(1) + RowCount(1);'),
    ('state_slot_equals_page', 'bool x = StateSlot(1) == PageId(1);', NO_OPERATOR, 'bool x = StateSlot(1) == StateSlot(1);'),
    ('state_slot_passed_as_page', 'void f(PageId); f(StateSlot(1));', NO_CALL, 'void f(PageId); f(PageId(1));'),
    ('integer_becomes_page', 'PageId x = 3;', NO_CONVERSION, 'PageId x(3);'),
    ('page_becomes_integer', 'int x = PageId(3);', NO_CONVERSION, 'int x = PageId(3).get();'),
    ('page_from_a_real_number', 'PageId x(2.5);', NO_CALL, 'PageId x(2);'),
    ('page_indexes_an_array', 'int a[2] = {}; int x = a[PageId(1)];', NO_OPERATOR,
     'int a[2] = {}; int x = a[PageId(1).get()];'),
    ('page_below_an_integer', 'bool x = PageId(1) < 3;', NO_OPERATOR, 'bool x = PageId(1) < PageId(3);'),
    ('pages_count_up', 'PageId x(1); ++x;', r"no match for .operator\+\+|cannot increment", 'PageCount x(1); x += PageCount(1);'),
    ('page_as_condition', 'bool x = PageId(1) ? true : false;', r'could not convert|not contextually convertible',
     'bool x = PageId(1).get() ? true : false;'),
    ('skip_plus_one', 'auto x = SlotOrSkip::skip() + 1;', NO_OPERATOR, 'auto x = SlotOrSkip(1).slot() + 1;'),
    ('slots_below_each_other', 'bool x = SlotOrSkip(1) < SlotOrSkip(2);', NO_OPERATOR,
     'bool x = SlotOrSkip(1).slot() < SlotOrSkip(2).slot();'),
    ('skip_equals_an_integer', 'bool x = SlotOrSkip::skip() == -1;', NO_OPERATOR, 'bool x = SlotOrSkip::skip().is_skip();'),
    ('slot_becomes_integer', 'int64_t x = SlotOrSkip(1);', NO_CONVERSION, 'int64_t x = SlotOrSkip(1).slot();'),
    ('integer_becomes_slot', 'SlotOrSkip x = -1;', NO_CONVERSION, 'SlotOrSkip x = SlotOrSkip::skip();'),
    ('state_slot_or_skip_becomes_slot', 'SlotOrSkip x = StateSlotOrSkip::skip();', NO_CONVERSION,
     'StateSlotOrSkip x = StateSlotOrSkip::skip();'),
    ('state_skip_equals_state', 'bool x = StateSlotOrSkip::skip() == StateSlot(1);', NO_OPERATOR,
     'bool x = StateSlotOrSkip(StateSlot(1)) == StateSlotOrSkip(StateSlot(1));'),
    ('state_slot_or_skip_becomes_state', 'StateSlot x = StateSlotOrSkip(StateSlot(1));', NO_CONVERSION,
     'StateSlot x = StateSlotOrSkip(StateSlot(1)).slot();'),
    ('integer_becomes_token_source', 'TokenSource x = 3;', NO_CONVERSION, 'TokenSource x(3);'),
    ('token_source_becomes_token', 'TokenId x = TokenSource(3);', NO_CONVERSION, 'TokenId x(TokenSource(3).logits_row());'),
    ('literal_equals_an_integer', 'bool x = TokenSource::literal() == -1;', NO_OPERATOR,
     'bool x = TokenSource::literal().is_literal();'),
    ('penalty_slot_becomes_table_row', 'TableRow x = PenaltySlot(1);', NO_CONVERSION, 'PenaltySlot x = PenaltySlot(1);'),
    ('group_becomes_page', 'PageId x = GroupId(1);', NO_CONVERSION, 'GroupId x = GroupId(1);'),
    ('epoch_plus_one', 'auto x = Epoch(1) + 1;', NO_OPERATOR, 'auto x = Epoch(Epoch(1).get() + 1);'),
    ('epoch_becomes_integer', 'uint64_t x = Epoch(1);', NO_CONVERSION, 'uint64_t x = Epoch(1).get();'),
]


def errors_of(bodies, root, compiler):
    """Compiles every body in a function of its own; (name, error) of each error, and the exit status."""
    text = '#include "base/units.h"\nusing namespace lockstep;\n'
    for name, body in bodies:
        text += f'#line 1 "{name}"\nvoid {name}() {{ {body} }}\n'
    command = [*compiler.split(), '-std=c++20', '-fsyntax-only', '-fmax-errors=0', '-I', f'{root}/src', '-x', 'c++', '-']
    if 'clang' in compiler:
        command[command.index('-fmax-errors=0')] = '-ferror-limit=0'
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    return re.findall(r'^(\w+):1:\d+: error: (.*)', done.stderr, re.M), done


def main(root, compiler):
    complaints = []
    errors, _ = errors_of([(name, bad) for name, bad, _, _ in CASES], root, compiler)
    for name, bad, reason, _ in CASES:
        said = [error for where, error in errors if where == name]
        if not said:
            complaints.append(f'{name}: `{bad}` compiles; it must be refused')
        elif not re.search(reason, said[0]):
            complaints.append(f'{name}: `{bad}` is refused for another reason than intended: {said[0]}')
    _, done = errors_of([(name, good) for name, _, _, good in CASES], root, compiler)
    if done.returncode:
        complaints.append('the legal twins must compile:\n' + done.stderr)
    print(*complaints, sep='\n', end='\n' if complaints else '')
    print(f'{len(CASES) + 1 - len(complaints)} passed, {len(complaints)} failed, 0 skipped')
    return 1 if complaints else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
