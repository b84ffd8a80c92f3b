#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""First figures: what a checkpoint, a restart and the shim cost, against the plainest thing that does as much.

    tests/bench/run.py [--dir DIR] [--rounds N] [--pairs N] [--megabytes N] [--only NAME[,NAME]] [BUILD]

Both sides of a figure are measured in turn, so that whatever else the machine does meets both. The table has medians, the
median absolute deviation behind each, and their ratio. Exit status 1 when a figure is over its limit. DIR (default
/var/tmp) must be on a disk and have room for three times the memory. Needs only python3.
"""
import argparse
import os
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TMPFS_MAGIC = '1021994'
TICK_SECONDS = 60       # a restart that takes longer has failed
TAKEN_OFFSET = 72       # of taken_seconds and taken_nanoseconds
GAP = re.compile(r'gap_ms ([\d.]+) at ([\d.]+) ')
STOOD = re.compile(r'stood still for ([\d.]+) ms; the forks took ([\d.]+) ms')
TREES = (100, 500)      # processes
EACH_PROCESS_MS = 0.15  # what a tree may stand still for besides its forks
FIGURES = ('memory', 'start', 'loops', 'trees')


class Failed(Exception):
    pass


def deviation(values):
    """Median absolute deviation."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values)


class Figure:
    """One line of the table: ours against theirs. limit None: no difference beyond the noise of the pairs."""

    def __init__(self, name, unit, limit):
        self.name, self.unit, self.limit = name, unit, limit
        self.ours, self.theirs = [], []

    def add(self, ours, theirs):
        self.ours.append(ours)
        self.theirs.append(theirs)

    def ratio(self):
        return statistics.median(self.ours) / statistics.median(self.theirs)

    def differences(self):
        return [ours - theirs for ours, theirs in zip(self.ours, self.theirs)]

    def is_over(self):
        if self.limit is not None:
            return self.ratio() > self.limit
        return statistics.median(self.differences()) > deviation(self.differences())

    def row(self):
        differences = self.differences()
        limit = (f'<= {self.limit:g}' if self.limit is not None else
                 f'{statistics.median(differences):+.1f} in noise {deviation(differences):.1f}')
        return [self.name, self.unit, *(f'{statistics.median(values):.1f} ±{deviation(values):.1f}'
                                        for values in (self.ours, self.theirs)),
                f'{self.ratio():.3f}', limit, str(len(self.ours)), 'OVER' if self.is_over() else 'ok']


def print_table(figures):
    rows = [['figure', 'unit', 'stasis', 'against', 'ratio', 'limit', 'n', '']]
    rows += [figure.row() for figure in figures if figure.ours]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


class Bench:
    def __init__(self, build, directory):
        self.directory = directory
        self.stasis = os.path.join(build, 'tools/stasis')
        self.shim = os.path.join(build, 'preload/shim/libstasis.so')
        self.libexec = os.path.join(build, 'libexec')
        self.hog = os.path.join(build, 'tests/bench/hog')
        self.figures = os.path.join(build, 'tests/bench/figures')
        self.errors = self.path('errors')
        self.started, self.runs = [], set()

    def path(self, name):
        return os.path.join(self.directory, name)

    # ---- starting: nothing of ours but the three standard streams, and those are files ----

    def start(self, arguments, output='/dev/null', **more):
        environment = {'PATH': '/usr/bin:/bin', 'STASIS_LIBEXEC': self.libexec, **more}
        with open('/dev/null', 'rb') as nothing, open(output, 'wb') as out, open(self.errors, 'ab') as errors:
            process = subprocess.Popen(arguments, stdin=nothing, stdout=out, stderr=errors, env=environment,
                                       cwd=self.directory, close_fds=True)
        self.started.append(process)
        return process

    def run(self, *arguments, **more):
        """Runs to the end; what it prints."""
        output = self.path('output')
        process = self.start(list(arguments), output, **more)
        status = process.wait()
        self.started.remove(process)
        if status:
            raise Failed(f'{" ".join(arguments)} ended with {status}: {self.said()}')
        with open(output) as file:
            return file.read().strip()

    def figure(self, *arguments, **more):
        return float(self.run(self.figures, *map(str, arguments), **more))

    def under_shim(self, *arguments):
        return self.figure(*arguments, LD_PRELOAD=self.shim, SLURM_CHECKPOINT_DIR=self.directory)

    def bare(self, *arguments):
        """As many strings and bytes of environment: where the stack begins moves times a little."""
        return self.figure(*arguments, NO_PRELOAD=self.shim, SLURM_CHECKPOINT_DIR=self.directory)

    def said(self):
        with open(self.errors, errors='replace') as file:
            return file.read()[-500:].strip() or 'it said nothing'

    # ---- ending ----

    def end(self, process):
        """SIGKILL, as a fallen node would do; the page of such a program is swept by us, if it was ever asked for one."""
        if process.poll() is None:
            self.remember_run(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.started.remove(process)

    def remember_run(self, pid):
        with open(f'/proc/{pid}/maps') as maps:
            self.runs.update(os.path.dirname(line.split()[5]) for line in maps if ' /dev/shm/stasis-' in line)

    def close(self):
        for process in list(self.started):
            self.end(process)
        for run in self.runs:
            shutil.rmtree(run, ignore_errors=True)
            try:
                os.rmdir(os.path.dirname(run))
            except OSError:
                pass  # others are in it
        shutil.rmtree(self.directory, ignore_errors=True)


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f'waited in vain for {what}')
        time.sleep(0.0005)


def read_lines(path):
    """Whole lines only."""
    try:
        with open(path) as file:
            return file.read().split('\n')[:-1]
    except FileNotFoundError:
        return []


def settle():
    os.sync()
    time.sleep(0.3)


# ---- a checkpoint and a restart of much memory ----

def start_hog(bench, megabytes):
    log = bench.path('log')
    hog = bench.start([bench.stasis, 'run', f'--checkpoint-dir={bench.directory}', '--job-id=bench', '--', bench.hog,
                       '-m', str(megabytes), '-p', 'rand', '-t', '1', '-s', '100000', '-o', log])
    wait_for(lambda: hog.poll() is not None or any('ready' in line for line in read_lines(log)), 120, 'hog')
    if hog.poll() is not None:
        raise Failed(f'hog ended: {bench.said()}')
    settle()
    return hog


def read_moment(image):
    """When the program was stopped, by the image's header (core/image/layout.h), as hog's clock has it."""
    with open(image, 'rb') as file:
        seconds, nanoseconds = struct.unpack_from('<QQ', file.read(4096), TAKEN_OFFSET)
    return seconds + nanoseconds * 1e-9 - time.time() + time.monotonic()


def find_gaps(log, begin, moment, end):
    """ms of the gap that `moment` is in, and of the longest other one. hog tells none of 2 ms or less."""
    pause, longest = 2.0, 2.0
    for found in filter(None, map(GAP.match, read_lines(log))):
        gap, at = float(found[1]), float(found[2])
        if at - gap / 1e3 <= moment <= at:
            pause = gap
        elif begin <= at <= end:
            longest = max(longest, gap)
    return pause, longest


def take_image(bench, hog):
    """The image's path, ms of the pause, of the longest gap afterwards, and until the command came back."""
    begin = time.monotonic()
    image = bench.run(bench.stasis, 'checkpoint', str(hog.pid))
    end = time.monotonic()
    time.sleep(0.05)
    pause, longest = find_gaps(bench.path('log'), begin, read_moment(image), end)
    return image, pause, longest, (end - begin) * 1e3


def write_with_dd(bench, length):
    begin = time.monotonic()
    bench.run('dd', f'if={bench.path("random")}', f'of={bench.path("copy")}', 'bs=1M', 'conv=fdatasync',
              f'count={length}', 'iflag=count_bytes', 'status=none')
    elapsed = (time.monotonic() - begin) * 1e3
    os.unlink(bench.path('copy'))
    settle()
    return elapsed


def time_restart(bench, image):
    """ms to hog's first line that the log did not have: its clock goes on, and the time of the restart is a gap. The
    restart also cuts the log to what it was."""
    log = bench.path('log')
    known = set(read_lines(log))
    begin = time.monotonic()
    porter = bench.start([bench.stasis, 'restart', image])
    wait_for(lambda: porter.poll() is not None or set(read_lines(log)) - known, TICK_SECONDS, 'the restarted hog')
    elapsed = (time.monotonic() - begin) * 1e3
    if porter.poll() is not None:
        raise Failed(f'the restart ended with {porter.returncode}: {bench.said()}')
    bench.end(porter)
    return elapsed


def make_random(bench, megabytes):
    """dd's input; read once, so that it is in the page cache."""
    with open(bench.path('random'), 'wb') as file:
        for _ in range(megabytes + 64):
            file.write(os.urandom(1 << 20))
    settle()


def measure_memory(bench, options):
    pause = Figure('pause, against a bare fork', 'ms', 3)
    disk = Figure('image on disk, against dd conv=fdatasync', 'ms', 2)
    restart = Figure('restart to first tick, against read', 'ms', 2.5)

    later = []

    make_random(bench, options.megabytes)
    for i in range(options.rounds):
        if i % 2:  # many disks are faster for a while after a rest: each gets it in turn
            copied = write_with_dd(bench, length)
        hog = start_hog(bench, options.megabytes)
        image, gap, longest, written = take_image(bench, hog)
        bench.end(hog)
        settle()
        length = os.path.getsize(image)
        if i % 2 == 0:
            copied = write_with_dd(bench, length)
        disk.add(written, copied)
        pause.add(gap, bench.figure('fork', options.megabytes))
        later.append(longest)
        restart.add(time_restart(bench, image), bench.figure('read', image))
        settle()
        os.unlink(image)
        os.unlink(bench.path('log'))
        progress(f'memory: round {i + 1} of {options.rounds}')
    progress('')
    print(f'while the image was written: longest gap {statistics.median(later):.1f} ±{deviation(later):.1f} ms')
    return [pause, disk, restart]


# ---- trees of processes ----

def time_pause(bench, pid):
    bench.run(bench.stasis, 'checkpoint', '--verbose', str(pid))
    with open(bench.errors) as errors:
        pause, forks = STOOD.findall(errors.read())[-1]
    return float(pause), float(forks)


def measure_tree(bench, options, count):
    """The forks, each as long as it took in that very pause, and bare ones to compare them with."""
    output = bench.path('tree')
    tree = bench.start([bench.stasis, 'run', f'--checkpoint-dir={bench.directory}', '--job-id=tree', '--', bench.figures, 'tree',
                        str(count)], output)
    wait_for(lambda: tree.poll() is not None or read_lines(output), 120, 'the tree')
    if tree.poll() is not None:
        raise Failed(f'the tree ended: {bench.said()}')
    figure = Figure(f'pause of {count} processes, against its forks and {EACH_PROCESS_MS} ms each', 'ms', 1)
    forks, bare = [], []
    for i in range(options.rounds):
        pause, forked = time_pause(bench, tree.pid)
        figure.add(pause, forked + count * EACH_PROCESS_MS)
        forks.append(forked)
        bare.append(bench.figure('forks', count))
        progress(f'{figure.name}: round {i + 1} of {options.rounds}')
    bench.end(tree)
    progress('')
    print(f'{count} processes: forks {statistics.median(forks):.1f} ±{deviation(forks):.1f} ms, '
          f'bare ones {statistics.median(bare):.1f} ±{deviation(bare):.1f} ms')
    return figure


# ---- programs under the shim ----

def measure_pairs(figure, pairs, ours, theirs):
    """Each pair the other way round: whoever comes second finds warmer caches."""
    for i in range(pairs):
        if i % 2:
            figure.add(ours(), theirs())
        else:
            late = theirs()
            figure.add(ours(), late)
        progress(f'{figure.name}: pair {i + 1} of {pairs}')
    return figure


def measure_start(bench, options):
    return [
        measure_pairs(Figure('/bin/true', 'us', 1.15), options.pairs,
                      lambda: bench.figure('spawn', 50, bench.shim, '/bin/true'),
                      lambda: bench.figure('spawn', 50, '-' + bench.shim[1:], '/bin/true')),
        measure_pairs(Figure('fork and exec', 'us', 1.15), options.pairs,
                      lambda: bench.under_shim('fork-exec', 200) / 1e3, lambda: bench.bare('fork-exec', 200) / 1e3),
    ]


def measure_loops(bench, options):
    counts = {'malloc': 3000000, 'read-bytes': 1000000, 'threads': 5000}
    return [measure_pairs(Figure(name, 'ns', None), options.pairs,
                          lambda: bench.under_shim(name, count), lambda: bench.bare(name, count))
            for name, count in counts.items()]


# ---- the whole ----

def progress(text):
    if sys.stderr.isatty():
        print(f'\r\033[K{text}', end='', file=sys.stderr, flush=True)


def read_options():
    parser = argparse.ArgumentParser(description='First figures; see the head of this file.')
    parser.add_argument('build', nargs='?', default=os.path.join(ROOT, 'build'), help='build directory')
    parser.add_argument('--dir', default='/var/tmp', help='where images go: on a disk')
    parser.add_argument('--rounds', type=int, default=11, help='of checkpoint and restart')
    parser.add_argument('--pairs', type=int, default=31, help='of each loop')
    parser.add_argument('--megabytes', type=int, default=1024, help='of hog')
    parser.add_argument('--only', default=','.join(FIGURES), help=f'some of {",".join(FIGURES)}')
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    return options


def file_system(path):
    return subprocess.run(['stat', '-f', '-c', '%t', path], capture_output=True, text=True, check=True).stdout.strip()


def measure(bench, options):
    wanted = options.only.split(',')
    figures = []
    if 'loops' in wanted:
        figures += measure_loops(bench, options)
    if 'start' in wanted:
        figures += measure_start(bench, options)
    if 'trees' in wanted:
        figures = [measure_tree(bench, options, count) for count in TREES] + figures
    if 'memory' in wanted:
        figures = measure_memory(bench, options) + figures
    progress('')
    return figures


def main():
    options = read_options()
    if file_system(options.dir) == TMPFS_MAGIC:
        sys.exit(f'run.py: {options.dir} is in memory; give a directory on a disk with --dir')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(options.build, tempfile.mkdtemp(prefix='stasis-bench.', dir=options.dir))
    try:
        figures = measure(bench, options)
    except Failed as failure:
        sys.exit(f'run.py: {failure}')
    finally:
        bench.close()
    print(f'{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Linux {os.uname().release}, '
          f'{options.megabytes} MB')
    print_table(figures)
    return any(figure.is_over() for figure in figures)


if __name__ == '__main__':
    sys.exit(main())
