# SPDX-License-Identifier: MIT
"""Products of matrices by the threads of the BLAS library: python3 matrix.py ROUNDS. A line for each round."""
import sys
import zlib

import numpy

SIZE = 300
matrix = (numpy.arange(SIZE * SIZE).reshape(SIZE, SIZE) * 7919 % 1009).astype(float)
state = numpy.eye(SIZE)
for number in range(1, int(sys.argv[1]) + 1):
    for _ in range(8):
        state = (state @ matrix) % 1009.0 # whole numbers below 2^53: exact in whatever order they are summed
    index = numpy.argsort(state[number % SIZE], kind="stable")
    state = state[:, index]
    print(f"{number}: {zlib.crc32(state.tobytes()):08x} {int(state.sum())}", flush=True)
