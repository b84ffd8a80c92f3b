# SPDX-License-Identifier: MIT
"""Works in a block of shared memory, and in a file that it has mapped: python3 shared.py ROUNDS. A line a round."""
import mmap
import os
import sys
import zlib
from multiprocessing import resource_tracker, shared_memory

SIZE = 300_000

resource_tracker.register = lambda *arguments: None  # would start another process
resource_tracker.unregister = lambda *arguments: None
rounds = int(sys.argv[1])
block = shared_memory.SharedMemory(name=f"guest-shared-{os.getpid()}", create=True, size=SIZE)
again = shared_memory.SharedMemory(name=block.name)
with open("mapped.bin", "wb") as made:
    made.truncate(SIZE)
with open("mapped.bin", "r+b") as opened:
    mapped = mmap.mmap(opened.fileno(), SIZE)
number = 1
for step in range(rounds):
    for _ in range(2000):
        number = number * 6364136223846793005 + 1442695040888963407 & 0xFFFFFFFFFFFFFFFF
        place = (number >> 33) % SIZE
        block.buf[place] = (block.buf[place] + mapped[place] + 1) & 0xFF
        mapped[(place * 7) % SIZE] = again.buf[place]
    with open("mapped.bin", "rb") as opened:
        print(step, zlib.crc32(again.buf), zlib.crc32(opened.read()), flush=True)
again.close()
block.close()
block.unlink()
