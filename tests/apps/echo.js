// SPDX-License-Identifier: MIT
// An HTTP server and its own clients, over connections that stay: node echo.js ROUNDS.
'use strict';
const crypto = require('crypto');
const http = require('http');

const CLIENTS = 4;
const rounds = Number(process.argv[2]);
const agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS });
const total = crypto.createHash('sha256');

const hash = (bytes) => crypto.createHash('sha256').update(bytes).digest();

function collect(stream) {
  return new Promise((resolve, reject) => {
    const parts = [];
    stream.on('data', (part) => parts.push(part));
    stream.on('end', () => resolve(Buffer.concat(parts)));
    stream.on('error', reject);
  });
}

const server = http.createServer(async (request, response) => {
  const body = await collect(request);
  response.setHeader('x-digest', hash(body).toString('hex'));
  response.end(body.reverse());
});

// Bytes that belong to a round and a client alone.
function bytesOf(round, client) {
  const parts = [];
  for (let i = 0; i < 1 + 100 * client; i++) parts.push(hash(`${round} ${client} ${i}`));
  return Buffer.concat(parts);
}

function exchange(port, round, client) {
  const body = bytesOf(round, client);
  return new Promise((resolve, reject) => {
    const request = http.request({ port, host: '127.0.0.1', method: 'POST', agent }, async (response) => {
      const answer = await collect(response);
      const digest = hash(answer.reverse()).toString('hex');
      if (digest !== response.headers['x-digest'] || !answer.equals(body)) reject(new Error('another answer'));
      resolve(digest);
    });
    request.on('error', reject);
    request.end(body);
  });
}

server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', async () => {
  const { port } = server.address();
  for (let round = 0; round < rounds; round++) {
    const answers = [];
    for (let client = 0; client < CLIENTS; client++) answers.push(exchange(port, round, client));
    for (const digest of await Promise.all(answers)) total.update(digest);
    console.log(round, total.copy().digest('hex').slice(0, 16));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  agent.destroy();
  server.close();
});
