#!/usr/bin/env python3
"""Field report 2 with every check off, put on record, and explained. Usage: field_report_2.py UNCHECKED_TEST LOCKSTEP"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

unchecked, lockstep = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([unchecked, '--gtest_filter=FieldReport2.ShowsWhich*'], check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {'LOCKSTEP_RECORD_DIR': folder})
    (record,) = pathlib.Path(folder).glob('*.record')
    text = subprocess.run([lockstep, 'explain', str(record)], check=True, capture_output=True, text=True).stdout
    json.loads(subprocess.run([lockstep, 'explain', str(record), '--json'], check=True, capture_output=True).stdout)
words = ' '.join(text.split())
for part in ('step 1, layer 3 (softmax), attention, vendor_attention was the first to give numbers that are not finite',
             '4 rows that nobody owns (26..29)', 'its inputs were clean: it made the numbers itself', 'prefill, step 1 of rank 0',
             'P1 query_start_loc[4] is 26, so rows 26..29 belong to no sequence; expected num_rows = 30'):
    assert part in words, f'{part!r} is not in\n{text}'
print('1 passed, 0 failed, 0 skipped')
