# SPDX-License-Identifier: MIT
# An event loop with timers, tasks and a thread that wakes it: loop.py ROUNDS
import asyncio
import hashlib
import sys


async def work(number, text):
    for _ in range(3):
        await asyncio.sleep(0.001)
        text = hashlib.sha256(text + bytes([number])).digest()
    return text


async def main(rounds):
    loop = asyncio.get_running_loop()
    text = b""
    for number in range(rounds):
        done = await asyncio.gather(*(work(each, text) for each in range(10)))
        total = await asyncio.wait_for(loop.run_in_executor(None, sum, range(2000)), 60)
        text = hashlib.sha256(b"".join(done) + str(total).encode()).digest()
        print(number, text.hex(), flush=True)


asyncio.run(main(int(sys.argv[1])))
