# SPDX-License-Identifier: MIT
# primes.py COUNT SECONDS [FILE]: the first COUNT primes, each after a rest of SECONDS; in the middle it waits as long as there is FILE.
# Knows nothing of checkpoints.
import os, sys, time

count, rest = int(sys.argv[1]), float(sys.argv[2])
found, number = [], 1
while len(found) < count:
    number += 1
    if all(number % prime for prime in found if prime * prime <= number):
        found.append(number)
        print(number, flush=True)
        time.sleep(rest)
        while len(sys.argv) > 3 and len(found) == count // 2 and os.path.exists(sys.argv[3]):
            time.sleep(0.05)
