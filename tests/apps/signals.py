# SPDX-License-Identifier: MIT
"""Sends itself signals while it computes, handlers in Python change the state: python3 signals.py ROUNDS. A line for each round."""
import hashlib
import os
import signal
import sys
import threading

state = hashlib.sha256(b"signals")
handled = 0


def handler(number, frame):
    global handled
    handled += 1
    state.update(b"%d" % number)


for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGRTMIN + 3):
    signal.signal(number, handler)
for turn in range(1, int(sys.argv[1]) + 1):
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGRTMIN + 3):
        before = handled
        os.kill(os.getpid(), number)
        while handled == before:
            pass
        for _ in range(800):
            state.update(state.digest())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    got = signal.sigwait({signal.SIGUSR1})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    print(turn, int(got), handled, state.hexdigest(), flush=True)
