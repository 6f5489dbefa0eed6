#!/usr/bin/env python3
"""SIGUSR1 makes a running engine write a record that explain reads. Usage: record_signal.py LOCKSTEP"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile

lockstep = sys.argv[1]
with tempfile.TemporaryDirectory() as folder:
    run = subprocess.Popen([lockstep, 'generate', '--prompt', 'Once upon a time', '--max-tokens', '3000', '--ignore-eos',
                            '--record-dir', folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run.stdout.read(40)  # it serves by now
    run.send_signal(signal.SIGUSR1)
    said = next(line for line in run.stderr if 'record' in line)  # progress may come before
    run.terminate()
    run.communicate()
    records = list(pathlib.Path(folder).glob('*.record'))
    assert len(records) == 1, (said, records)
    assert str(records[0]) in said, said
    told = subprocess.run([lockstep, 'explain', str(records[0]), '--json'], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    json.loads(told.stdout)
print('1 passed, 0 failed, 0 skipped')
