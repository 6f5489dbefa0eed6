#!/usr/bin/env python3
"""Field report 2 with every check off, put on record, and explained. Usage: field_report_2.py UNCHECKED_TEST LOCKSTEP"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

unchecked, lockstep = sys.argv[1:]


def explained(test, records):
    """What `lockstep explain` says of the folder of records that a test leaves, and the same as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([unchecked, '--gtest_filter=' + test], check=True, stdout=subprocess.DEVNULL,
                       env=os.environ | {'LOCKSTEP_RECORD_DIR': folder})
        assert len(list(pathlib.Path(folder).glob('*.record'))) == records
        if keep := os.environ.get('LOCKSTEP_EXPLAIN_PAGE'):
            subprocess.run([lockstep, 'explain', folder, '--html', keep], check=True)
        said = [subprocess.run([lockstep, 'explain', folder, *flags], check=True, capture_output=True, text=True).stdout
                for flags in ([], ['--json'])]
    return ' '.join(said[0].split()), json.loads(said[1])


def expect(parts, words):
    for part in parts:
        assert part in words, f'{part!r} is not in\n{words}'


words, _ = explained('FieldReport2.ShowsWhich*', 1)
expect(('step 1, layer 3 (softmax), attention, vendor_attention was the first to give numbers that are not finite',
        '4 rows that nobody owns (26..29)', 'its inputs were clean: it made the numbers itself', 'prefill, step 1 of rank 0',
        'P1 query_start_loc[4] is 26, so rows 26..29 belong to no sequence; expected num_rows = 30'), words)
# The report's four ranks: which one was it, and who only received?
words, document = explained('FieldReport2Ranks.TheOtherReplica*', 4)
expect(('ranks 0, 1 made numbers that are not finite; ranks 2, 3 only received some',
        'ranks 0, 1, step 1, layer 3 (softmax), attention, vendor_attention were the first to give numbers that are not finite',
        '4 rows that nobody owns (26..29)', 'its inputs were clean: it made the numbers itself',
        'yes: rank 2 received rows 26..29 of rank 0 at step 1, layer 3 (moe), gather_rows, gather_rows_of_ranks, and its own rows stayed finite; '
        'rank 3 received rows 26..29 of rank 1',
        'no: on ranks 0, 1, plan 1: P1 query_start_loc[4] is 26, so rows 26..29 belong to no sequence',
        'the ranks ran buckets of one size, and no two collectives differ; rows that nobody owns: 4 on ranks 0, 1'), words)
assert len(document['collectives']) > 10 and all(not c['missing'] for c in document['collectives'])
print('2 passed, 0 failed, 0 skipped')
