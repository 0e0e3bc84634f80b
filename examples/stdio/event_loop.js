#!/usr/bin/env node
// A plugin in JavaScript: msgpack-RPC on stdin and stdout, without any dependency.
//   [plugins.event_loop]
//   command = ["/usr/local/lib/plugd/event_loop.js"]
//   format = "plugd"
'use strict';
const { monitorEventLoopDelay } = require('perf_hooks');
const { pack, unpack } = require('./msgpack.js');

const delay = monitorEventLoopDelay({ resolution: 20 });
let requests = 0;

const methods = {
  load: () => ({
    version: '1.0',
    description: 'How late the event loop of Node.js is.',
    interval: 5,
    metrics: [
      { name: 'nodejs.eventloop.delay', unit: 's', labels: ['statistic'], help: 'Delay since the last collection.' },
      { name: 'nodejs.requests', kind: 'counter', unit: '{request}', help: 'Requests answered.' },
    ],
    commands: [{ name: 'add', parameters: [{ name: 'a', type: 'int' }, { name: 'b', type: 'int' }] }],
  }),
  start: () => { delay.enable(); },
  call: ({ arguments: { a, b } }) => a + b,
  collect: () => {
    const samples = ['mean', 'max'].map((name) => ['nodejs.eventloop.delay', (delay[name] || 0) / 1e9, { statistic: name }]);
    delay.reset();
    return [...samples, ['nodejs.requests', requests]];
  },
  save_state: () => ({ requests }),
  load_state: ({ state }) => { requests = state.requests; },
};

let buffer = Buffer.alloc(0);
process.stdin.on('data', (data) => {
  buffer = Buffer.concat([buffer, data]);
  for (let message; (message = unpack(buffer)); buffer = buffer.subarray(message.end)) {
    const [, id, method, params] = message.value;
    requests += 1;
    let error = null, result = null;
    try {
      if (methods[method]) result = methods[method](params[0] || {}) ?? null;
      else error = { code: 'request.unknown_method', message: `no method ${method}` };
    } catch (reason) { error = String(reason); }
    process.stdout.write(pack([1, id, error, result]));
  }
});
