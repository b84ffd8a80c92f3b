# SPDX-License-Identifier: MIT
"""Four threads take work from one queue: python3 threads.py ROUNDS. A line for each round, in order."""
import hashlib
import queue
import sys
import threading

THREADS = 4
work = queue.Queue()
results = {}
changed = threading.Condition()
local = threading.local()


def compute(number):
    digest = hashlib.sha256(b"%d" % number)
    for _ in range(12_000):
        digest.update(digest.digest())
    local.count = getattr(local, "count", 0) + 1
    return digest.hexdigest()[:32]


def worker():
    while True:
        number = work.get()
        if number is None:
            return
        result = compute(number)
        with changed:
            results[number] = result
            changed.notify_all()


def main():
    rounds = int(sys.argv[1])
    threads = [threading.Thread(target=worker) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for number in list(range(rounds)) + [None] * THREADS:
        work.put(number)
    total = hashlib.sha256()
    for number in range(rounds):
        with changed:
            changed.wait_for(lambda: number in results)
            result = results.pop(number)
        total.update(result.encode())
        print(number, result, flush=True)
    for thread in threads:
        thread.join()
    print("total", total.hexdigest())


main()
