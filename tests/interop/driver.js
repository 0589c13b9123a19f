// Calls the official clients as told by JSON lines on standard input, and answers by JSON lines.
//
// {"id": 1, "make": "api"|"subscription"|"tokens"|"rest", "args": [...]}    makes an object, named by the id
// {"id": 2, "on": 1, "call": "get", "args": [...]}                          calls a method of it and awaits the result
// {"id": 3, "on": 1, "listen": "disconnected"}                              subscribes to an event; "*": to notifications
//
// Answers: {"id": 2, "result": ...} or {"id": 2, "error": {...}}; events: {"on": 1, "event": "...", "data": ...}.
"use strict";

const readline = require("readline");
const { HPKVClientFactory, WebsocketTokenManager } = require("@hpkv/websocket-client");
const { HPKVRestClient } = require("@hpkv/rest-client");

const makers = {
  api: (...args) => HPKVClientFactory.createApiClient(...args),
  subscription: (...args) => HPKVClientFactory.createSubscriptionClient(...args),
  tokens: (...args) => new WebsocketTokenManager(...args),
  rest: (...args) => new HPKVRestClient(...args),
};

const objects = new Map();
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

async function run(order) {
  if (order.make) {
    objects.set(order.id, makers[order.make](...order.args));
    return null;
  }
  const object = objects.get(order.on);
  if (order.listen === "*") {
    object.subscribe((data) => say({ on: order.on, event: "*", data }));
    return null;
  }
  if (order.listen) {
    object.on(order.listen, (data) => say({ on: order.on, event: order.listen, data: data instanceof Error ? String(data) : data }));
    return null;
  }
  return object[order.call](...order.args);
}

readline
  .createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const order = JSON.parse(line);
    try {
      const result = await run(order);
      say({ id: order.id, result: result === undefined ? null : result });
    } catch (error) {
      say({ id: order.id, error: { name: error.name, message: error.message, code: error.code, status: error.status } });
    }
  })
  .on("close", () => process.exit(0));
