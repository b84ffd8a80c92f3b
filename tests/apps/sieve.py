# SPDX-License-Identifier: MIT
"""Counts primes, segment by segment: python3 sieve.py SEGMENTS. A line after each segment; no checkpoint code."""
import sys
import zlib

SIZE = 50_000


def small_primes(limit):
    sieve = bytearray([1]) * (limit + 1)
    sieve[0:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number in range(limit + 1) if sieve[number]]


def segment_primes(start, primes):
    sieve = bytearray([1]) * SIZE
    for prime in primes:
        first = max(prime * prime, (start + prime - 1) // prime * prime) - start
        if first < SIZE:
            sieve[first::prime] = bytes(len(range(first, SIZE, prime)))
    return [start + index for index in range(SIZE) if sieve[index]]


def main():
    segments = int(sys.argv[1])
    primes = small_primes(int((SIZE * (segments + 1)) ** 0.5) + 1)
    count, checksum, last = 0, 0, 2
    for segment in range(segments):
        found = segment_primes(2 + segment * SIZE, primes)
        count += len(found)
        last = found[-1]
        for prime in found:
            checksum = zlib.crc32(b"%d" % prime, checksum)
        print(f"{segment + 1:6d}: {count} primes, the largest {last}, checksum {checksum:08x}", flush=True)
    print(f"{count} primes below {2 + segments * SIZE}, checksum {checksum:08x}")


main()
