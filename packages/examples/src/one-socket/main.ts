import { fork } from "node:child_process";
import { once } from "node:events";
import { Command } from "commander";
import type { Account, Way } from "./protocol.js";

/** Weights over the WebSocket of a framework: in one message of it, and as a model beside its messages. */
const program = new Command("one-socket")
  .description("Exchanges weights in one msgpack message, and over shareSocket, and says what each takes.")
  .option("--mib <n>", "size of the weights, a multiple of 16", "256")
  .option("--json", "print one object a line");
const { mib, json } = program.parse().opts<{ mib: string; json?: boolean }>();

interface Row {
  readonly way: Way;
  readonly client: Account;
  readonly server: Account;
}

async function run(way: Way): Promise<Row> {
  const at = (name: string): URL => new URL(`${name}.js`, import.meta.url);
  const server = fork(at("server"), [way]);
  const [{ port }] = (await once(server, "message")) as [{ port: number }];
  const client = fork(at("client"), [way, String(port), mib]);
  const told = [once(client, "message"), once(server, "message")] as const;
  const ended = [once(client, "exit"), once(server, "exit")];
  const failed = ended.map(async (end) => {
    const [code] = await end;
    if (code !== 0) throw new Error(`a process of ${way} ended with ${code}`);
  });
  const accounts = Promise.all(told).then(([[one], [two]]) => ({ way, client: one, server: two }) as Row);
  await Promise.race([accounts, Promise.all(failed)]);
  await Promise.all(failed);
  return accounts;
}

const mebibytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;

if (!json) console.log(`${mib} MiB of weights, there and back, over one WebSocket on loopback\n`);
for (const way of ["message", "channel"] as const) {
  const { client, server } = await run(way);
  if (json) {
    console.log(JSON.stringify({ way, client, server }));
    continue;
  }
  const words = { message: "one msgpack message", channel: "shareSocket" }[way].padEnd(20);
  const peaks = `peak RSS ${mebibytes(client.peakRssBytes)} client, ${mebibytes(server.peakRssBytes)} server`;
  const ping = `a small message waited ${Math.round(client.longestPingMs)} ms at most`;
  console.log(`${words} ${client.seconds.toFixed(2)} s; ${peaks}; ${ping}`);
}
