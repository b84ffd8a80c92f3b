# SPDX-License-Identifier: MIT
"""An event loop, unix sockets and threads: python3 loop.py ROUNDS. Clients ask a server in the same process, which computes in an
executor; a line for each round, in order."""
import asyncio
import hashlib
import os
import socket
import sys

CLIENTS = 3


def compute(text):
    digest = hashlib.sha256(text)
    for _ in range(8_000):
        digest.update(digest.digest())
    return digest.hexdigest()[:32].encode()


async def serve(reader, writer):
    loop = asyncio.get_running_loop()
    while line := await reader.readline():
        writer.write(await loop.run_in_executor(None, compute, line) + b" " * 70_000 + b"\n")
        await writer.drain()
    writer.close()


async def ask(connection, number):
    reader, writer = connection
    writer.write(b"%d\n" % number)
    await writer.drain()
    return (await reader.readline()).split()[0].decode()


async def echo(pair, total):
    """Back and forth through a pair of datagram sockets."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(pair[0], total.digest())
    return await loop.sock_recv(pair[1], 64) == total.digest()


async def main():
    rounds = int(sys.argv[1])
    path = os.path.abspath("loop.sock")
    server = await asyncio.start_unix_server(serve, path, limit=1 << 20)
    connections = [await asyncio.open_unix_connection(path, limit=1 << 20) for _ in range(CLIENTS)]
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in pair:
        end.setblocking(False)
    total = hashlib.sha256()
    for number in range(rounds):
        results = await asyncio.gather(*(ask(c, number * CLIENTS + i) for i, c in enumerate(connections)))
        total.update(" ".join(results).encode())
        assert await echo(pair, total)
        await asyncio.sleep(0.001)
        print(number, *results, flush=True)
    for _, writer in connections:
        writer.close()
    server.close()
    os.unlink(path)
    print("total", total.hexdigest())


asyncio.run(main())
