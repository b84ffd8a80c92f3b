# SPDX-License-Identifier: MIT
# pool.py ROUNDS: a pool of four workers, with results in order. With a file $GUEST_READY.hold the last result is not taken.
import hashlib
import multiprocessing
import os
import sys
import time


def work(number):
    digest = hashlib.sha256(str(number).encode())
    for _ in range(20000):
        digest.update(digest.digest())
    return digest.hexdigest()


if __name__ == "__main__":
    with multiprocessing.Pool(4) as pool:
        results = pool.imap(work, range(int(sys.argv[1])))
        for number in range(int(sys.argv[1])):
            while number == int(sys.argv[1]) - 1 and os.path.exists(os.environ["GUEST_READY"] + ".hold"):
                time.sleep(0.02)
            print(results.next(), flush=True)
