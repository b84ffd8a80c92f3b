# SPDX-License-Identifier: MIT
"""Reads its standard input slowly, line by line, and says a running checksum: python3 reader.py MILLISECONDS."""
import sys
import time
import zlib

checksum = 0
for number, line in enumerate(sys.stdin):
    checksum = zlib.crc32(line.encode(), checksum)
    print(number, f"{checksum:08x}", flush=True)
    time.sleep(float(sys.argv[1]) / 1000)
print("end", f"{checksum:08x}")
