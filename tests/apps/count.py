# SPDX-License-Identifier: MIT
# Adds up: count.py [NUMBERS [STATUS]], a line for each. At number 50 it waits while there is a file `hold` where it was started.
import os
import sys
import time

numbers = int(sys.argv[1]) if len(sys.argv) > 1 else 200
hold = os.path.abspath("hold")
total = 0
for number in range(numbers):
    total += number * number
    print(number, total, flush=True)
    time.sleep(0.005)
    while number == 50 and os.path.exists(hold):
        time.sleep(0.01)
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
