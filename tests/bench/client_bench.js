// What client_bench.c is for libhpkv, for the official client: the same lines in, the same lines out.
"use strict";

const path = require("path");
const readline = require("readline");
const { createRequire } = require("module");

const interop = createRequire(path.join(__dirname, "..", "interop", "package.json"));
const { HPKVClientFactory } = interop("@hpkv/websocket-client");

const KEYS = 1000;
const VALUE = "v".repeat(100);
const SLOWEST_US = 50000;

const client = HPKVClientFactory.createApiClient(process.env.HPKV_API_KEY, process.argv[2], { throttling: { enabled: false } });

function percentile(roundTrips, requests, share) {
  let left = share * requests;
  let us = 0;
  while (us < SLOWEST_US && left > roundTrips[us]) left -= roundTrips[us++];
  return us;
}

function cpuUs() {
  const { user, system } = process.cpuUsage();
  return user + system;
}

async function measure(set, flight, warmup, requests) {
  const roundTrips = new Uint32Array(SLOWEST_US + 1);
  let started = 0;
  let done = 0;
  let began;
  let beganCpu;

  async function slot() {
    while (started < warmup + requests) {
      const key = "bench:" + String(started++ % KEYS).padStart(4, "0");
      const sent = performance.now();
      const reply = set ? await client.set(key, VALUE) : await client.get(key);
      if (!set && reply.value.length !== VALUE.length) throw new Error("not the value that was set");
      roundTrips[Math.min(SLOWEST_US, Math.floor((performance.now() - sent) * 1000))]++;
      if (++done === warmup) {
        roundTrips.fill(0);
        began = performance.now();
        beganCpu = cpuUs();
      }
    }
  }

  await Promise.all(Array.from({ length: flight }, slot));
  return {
    seconds: (performance.now() - began) / 1000,
    median_us: percentile(roundTrips, requests, 0.5),
    p99_us: percentile(roundTrips, requests, 0.99),
    cpu_us: (cpuUs() - beganCpu) / requests,
  };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [op, flight, warmup, requests] = line.split(" ");
    await client.connect();
    const result = await measure(op === "set", Number(flight), Number(warmup), Number(requests));
    await client.disconnect(false);
    process.stdout.write(JSON.stringify(result) + "\n");
  }
  process.exit(0);
}

main().catch((error) => {
  process.stderr.write(`client_bench.js: ${error.message}\n`);
  process.exit(1);
});
