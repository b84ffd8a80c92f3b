# SPDX-License-Identifier: MIT
# The first COUNT primes, each after a rest of SECONDS; knows nothing of checkpoints.
import sys, time

found, number = [], 1
while len(found) < int(sys.argv[1]):
    number += 1
    if all(number % prime for prime in found if prime * prime <= number):
        found.append(number)
        print(number, flush=True)
        time.sleep(float(sys.argv[2]))
