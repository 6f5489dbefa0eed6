#!/usr/bin/env python3
"""Ranks that are processes leave records, which are put together. Usage: records_of_ranks.py LOCKSTEP"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

LAUNCHER = {'OMPI_ALLOW_RUN_AS_ROOT': '1', 'OMPI_ALLOW_RUN_AS_ROOT_CONFIRM': '1',
            'OMPI_MCA_rmaps_base_oversubscribe': '1', 'OMPI_MCA_hwloc_base_binding_policy': 'none',
            'OMPI_MCA_orte_enable_recovery': '1'}


def names(folder):
    return sorted(path.name for path in pathlib.Path(folder).glob('*.record'))


def explained(lockstep, path):
    ended = subprocess.run([lockstep, 'explain', str(path), '--json'], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    return document, {answer['id']: answer for answer in document['answers']}


def ranks_that_disagree(lockstep):
    """Under somebody else's mpirun nobody is left to merge: explain does, from the folder."""
    with tempfile.TemporaryDirectory() as folder:
        rank = [lockstep, 'generate', '--tp', '2', '-p', 'Once', '-n', '4', '--record-dir', folder]
        ended = subprocess.run(['mpirun', '-n', '1', *rank, ':', '-n', '1', *rank, '--guard', 'plan'],
                               capture_output=True, text=True, timeout=120, env=os.environ | LAUNCHER)
        assert 'G1 config' in ended.stderr, ended.stderr
        assert len(names(folder)) == 2, (names(folder), ended.stderr)
        document, answers = explained(lockstep, folder)
    assert answers['cause']['answer'].startswith('rank 1 said something else: config is'), answers['cause']
    assert 'rank 0' in answers['cause']['listing'] and 'differs' in answers['cause']['listing'], answers['cause']
    assert all(not c['missing'] for c in document['collectives']), document['collectives']


def main(lockstep):
    ranks_that_disagree(lockstep)
    print('1 passed, 0 failed, 0 skipped')


if __name__ == '__main__':
    main(sys.argv[1])
