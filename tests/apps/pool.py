# SPDX-License-Identifier: MIT
# pool.py ROUNDS: a pool of four workers, with results in order.
import hashlib
import multiprocessing
import sys


def work(number):
    digest = hashlib.sha256(str(number).encode())
    for _ in range(20000):
        digest.update(digest.digest())
    return digest.hexdigest()


if __name__ == "__main__":
    with multiprocessing.Pool(4) as pool:
        for result in pool.imap(work, range(int(sys.argv[1]))):
            print(result, flush=True)
