// Runs a list of calls of the official client and prints their results as JSON: node mount_client.js URL KEY '[["set","k","v"],...]'
// A call that fails gives {"error": code}. A last ["watch", n] waits for n notifications after it has printed "watching".
const { HPKVClientFactory, WebsocketTokenManager } = require("@hpkv/websocket-client");

async function watch(url, key, count) {
  const token = await new WebsocketTokenManager(key, url).generateToken({
    subscribePatterns: ["*"],
    accessPattern: ".*",
  });
  const client = HPKVClientFactory.createSubscriptionClient(token, url);
  await client.connect();
  const seen = [];
  const done = new Promise((resolve) => {
    client.subscribe((event) => {
      seen.push([event.key, event.value]);
      if (seen.length === count) resolve();
    });
  });
  console.log("watching");
  await done;
  return seen;
}

async function main() {
  const [url, key, text] = process.argv.slice(2);
  const client = HPKVClientFactory.createApiClient(key, url, { throttling: { enabled: false } });
  await client.connect();
  const results = [];
  for (const [name, ...rest] of JSON.parse(text)) {
    try {
      if (name === "watch") results.push(await watch(url, key, ...rest));
      else if (name === "patch") results.push(await client.set(rest[0], rest[1], true));
      else results.push(await client[name](...rest));
    } catch (error) {
      results.push({ error: error.code ?? String(error) });
    }
  }
  console.log(JSON.stringify(results));
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
