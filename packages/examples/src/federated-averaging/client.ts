import { readFile } from "node:fs/promises";
import { Command, Option } from "commander";
import type { Updates } from "./agreement.js";
import { readDigits } from "./digits.js";
import { Participant } from "./participant.js";
import { digitsOf } from "./share.js";

interface Arguments {
  readonly server: string;
  readonly tlsCa: string;
  readonly tokenFile: string;
  readonly name: string;
  readonly share: string;
  readonly folder: string;
  readonly codec: string;
  readonly feedback: boolean;
  readonly updates: Updates;
  readonly seed: string;
}

const program = new Command("client")
  .description("A client of a federation.")
  .requiredOption("--server <url>", "what the server says that it listens on")
  .requiredOption("--tls-ca <file>", "who vouches for its certificate")
  .requiredOption("--token-file <file>", "this client's token")
  .requiredOption("--name <name>", "of this client, as its token has it")
  .requiredOption("--share <i/n>", "which of how many parts of the digits it has")
  .requiredOption("--folder <path>", "of what it keeps between rounds")
  .option("--codec <name>", "of its updates", "normfloat4")
  .option("--no-feedback", "forget what the codec leaves out")
  .addOption(new Option("--updates <kind>", "what clients send").choices(["delta", "model"]).default("delta"))
  .option("--seed <n>", "of the shares, and of the order in which digits are seen", "1");

const given: Arguments = program.parse().opts();
const seed = Number(given.seed);
const [number, of] = given.share.split("/").map(Number) as [number, number];
const { training } = await readDigits();
const participant = await Participant.open({
  url: given.server,
  dial: {
    tls: { ca: await readFile(given.tlsCa, "utf8") },
    token: (await readFile(given.tokenFile, "utf8")).trim(),
  },
  name: given.name,
  digits: digitsOf({ number, of }, training, seed),
  folder: given.folder,
  codec: given.codec,
  feedback: given.feedback,
  updates: given.updates,
  seed,
});
for await (const { round, examples, sent } of participant.rounds()) {
  const size = (bytes: number): string => `${(bytes / 1e3).toFixed(1)} kB`;
  const end = sent ? `sent ${size(sent.wireBytes)} for ${size(sent.sourceBytes)}` : "and came too late";
  console.log(`round ${round}: trained with ${examples} digits, ${end}`);
}
