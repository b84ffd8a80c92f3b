# SPDX-License-Identifier: MIT
"""Talks to a child at a terminal of the child's own, as expect does: a line is always half typed. At the end the child's session,
group and terminal must be what they were, and so must all that was said."""
import os
import pty
import sys
import time

LINES = 100


def child():
    name = os.ttyname(0)
    for line in sys.stdin:
        mine = os.ttyname(0) == name and os.tcgetpgrp(0) == os.getpgrp() and os.getsid(0) == os.getpid()
        print("got" if mine else "BAD", line, end="", flush=True)
        if line == "end\n":
            os._exit(7)


def hear(master, wanted):
    heard = b""
    while wanted not in heard:
        heard += os.read(master, 1000)
        if b"BAD" in heard:
            sys.exit(heard)


def main():
    pid, master = pty.fork()
    if pid == 0:
        child()
    held = os.environ["GUEST_READY"] + ".hold"
    os.write(master, b"line")
    hear(master, b"line")
    open(os.environ["GUEST_READY"], "w").close()
    for number in range(LINES):
        os.write(master, b" %d\n" % number)
        hear(master, b"got line %d" % number)
        os.write(master, b"line")
        time.sleep(0.01)
        while number == LINES // 2 and os.path.exists(held):
            time.sleep(0.01)
    os.write(master, b"\x15end\n")  # Ctrl-U takes the half line away
    hear(master, b"got end")
    print("OK", os.WEXITSTATUS(os.waitpid(pid, 0)[1]))


main()
