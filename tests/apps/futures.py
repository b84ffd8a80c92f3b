# SPDX-License-Identifier: MIT
# futures.py ROUNDS: workers of concurrent.futures, each of which runs programs by subprocess. With a file $GUEST_READY.hold the last result is
# not printed.
import concurrent.futures
import os
import subprocess
import sys
import time


def work(number):
    text = "".join(f"{number} {i}\n" for i in range(20000))
    sums = subprocess.run(["sha256sum"], input=text, capture_output=True, text=True, check=True).stdout
    with subprocess.Popen("sort -rn | head -n 1", shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pipeline:
        largest = pipeline.communicate(text)[0]
    return f"{number}: {sums.split()[0]} {largest.strip()}"


if __name__ == "__main__":
    rounds = int(sys.argv[1])
    with concurrent.futures.ProcessPoolExecutor(3) as workers:
        for number, line in enumerate(workers.map(work, range(rounds))):
            while number == rounds - 1 and os.path.exists(os.environ["GUEST_READY"] + ".hold"):
                time.sleep(0.02)
            print(line, flush=True)
