// SPDX-License-Identifier: MIT
// Timers, files, a watch and a worker thread: loop.js ROUNDS
const crypto = require('crypto');
const fs = require('fs');
const { Worker, isMainThread, parentPort } = require('worker_threads');

const hash = (text) => crypto.createHash('sha256').update(text).digest('hex');
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function one(number, text) {
    await sleep(1);
    const source = await fs.promises.readFile(__filename);
    return hash(text + number + source.length);
}

async function main(rounds) {
    const watch = fs.watch(__dirname, () => {});
    const worker = new Worker(__filename);
    let text = '';
    for (let round = 0; round < rounds; round++) {
        const parts = await Promise.all([...Array(10).keys()].map((number) => one(number, text)));
        worker.postMessage(parts.join(''));
        text = await new Promise((done) => worker.once('message', done));
        fs.writeSync(1, `${round} ${text}\n`);
    }
    watch.close();
    await worker.terminate();
}

if (isMainThread)
    main(Number(process.argv[2]));
else
    parentPort.on('message', (text) => parentPort.postMessage(hash(text)));
