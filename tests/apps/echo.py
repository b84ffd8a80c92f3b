# SPDX-License-Identifier: MIT
"""A server of asyncio in one thread and its clients in others, over TCP: python3 echo.py ROUNDS."""
import asyncio
import concurrent.futures
import hashlib
import random
import socket
import sys
import threading
import time

CLIENTS = 4
port = concurrent.futures.Future()


async def answer(reader, writer):
    while True:
        try:
            length = int.from_bytes(await reader.readexactly(4), "big")
        except asyncio.IncompleteReadError:
            break
        body = await reader.readexactly(length)
        writer.write(hashlib.sha256(body).digest() + body[::-1])
        await writer.drain()
    writer.close()


async def serve():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port.set_result(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def receive(client, length):
    parts = []
    while length:
        part = client.recv(min(length, 1 << 16))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def exchange(number, client, round_number):
    body = random.Random(round_number * CLIENTS + number).randbytes(1000 * 10 ** (number % 3))
    client.sendall(len(body).to_bytes(4, "big") + body)
    digest = receive(client, 32)
    if digest != hashlib.sha256(body).digest() or receive(client, len(body)) != body[::-1]:
        raise ValueError(number)
    return digest


threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
clients = [socket.create_connection(("127.0.0.1", port.result())) for _ in range(CLIENTS)]
total = hashlib.sha256()
with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
    for round_number in range(int(sys.argv[1])):
        for digest in pool.map(exchange, range(CLIENTS), clients, [round_number] * CLIENTS):
            total.update(digest)
        print(round_number, total.hexdigest()[:16], flush=True)
        time.sleep(0.01)
