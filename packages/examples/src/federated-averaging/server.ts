import { readFile } from "node:fs/promises";
import { bearerTokens } from "@tensorwire/stream";
import { Command, Option } from "commander";
import type { Base, Updates } from "./agreement.js";
import { Coordinator } from "./coordinator.js";
import { readDigits } from "./digits.js";

interface Arguments {
  readonly listen: string;
  readonly tlsCert: string;
  readonly tlsKey: string;
  readonly tokens: string;
  readonly folder: string;
  readonly clients: string;
  readonly quorum: string;
  readonly deadline: string;
  readonly rounds: string;
  readonly codec: string;
  readonly updates: Updates;
  readonly base: Base;
  readonly seed: string;
}

const program = new Command("server")
  .description(
    "The server of a federation. Started again with the same folder, it goes on from where it was.",
  )
  .option("--listen <url>", "where clients find it", "wss://127.0.0.1:0")
  .requiredOption("--tls-cert <file>", "its certificate")
  .requiredOption("--tls-key <file>", "the key of that")
  .requiredOption("--tokens <file>", "who may do what")
  .requiredOption("--folder <path>", "of all models and updates")
  .requiredOption("--clients <names>", "with commas")
  .option("--quorum <n>", "updates that a round needs at its deadline", "2")
  .option("--deadline <seconds>", "of a round", "60")
  .option("--rounds <n>", "how many", "5")
  .option("--codec <name>", "of the model that goes out", "normfloat4")
  .addOption(new Option("--updates <kind>", "what clients send").choices(["delta", "model"]).default("delta"))
  .addOption(
    new Option("--base <kind>", "what deltas are added to").choices(["own", "published"]).default("own"),
  )
  .option("--seed <n>", "of the first model", "1");

const given: Arguments = program.parse().opts();
const coordinator = await Coordinator.open({
  folder: given.folder,
  place: {
    url: given.listen,
    tls: { cert: await readFile(given.tlsCert, "utf8"), key: await readFile(given.tlsKey, "utf8") },
    authorize: await bearerTokens(given.tokens),
  },
  clients: given.clients.split(","),
  quorum: Number(given.quorum),
  deadlineMs: 1000 * Number(given.deadline),
  rounds: Number(given.rounds),
  codec: given.codec,
  updates: given.updates,
  base: given.base,
  seed: Number(given.seed),
});
console.log(`listening on ${coordinator.url}`);
const { test } = await readDigits();
for await (const { round, clients, loss, accuracy } of coordinator.rounds(test)) {
  const score = `loss ${loss.toFixed(4)}, accuracy ${(100 * accuracy).toFixed(2)} %`;
  console.log(`round ${round} of ${given.rounds}: ${score}, by ${clients.join(", ")}`);
}
await coordinator.close();
