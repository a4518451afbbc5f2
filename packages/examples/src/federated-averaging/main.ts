import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { makeCertificate } from "../faults/certificate.js";

interface Arguments {
  readonly rounds: string;
  readonly clients: string;
  readonly codec: string;
  readonly feedback: boolean;
  readonly seed: string;
  readonly folder: string;
}

const program = new Command("federated")
  .description(
    "A server and its clients, each a process, train a model together: over WebSocket, with TLS and tokens.",
  )
  .option("--rounds <n>", "how many", "5")
  .option("--clients <n>", "how many", "3")
  .option("--codec <name>", "both ways", "normfloat4")
  .option("--no-feedback", "clients forget what the codec leaves out of their updates")
  .option("--seed <n>", "of the first model, the shares and the order of the digits", "1")
  .option(
    "--folder <path>",
    "of all that they keep; of the last federation there nothing stays",
    "out/federated",
  );

const given: Arguments = program.parse().opts();
const folder = resolve(given.folder);
const at = (name: string): string => join(folder, name);

const running = new Set<ChildProcess>();

/** Runs a program of this folder, and hands its lines on. */
function start(name: string, role: "server" | "client", args: readonly string[]): ChildProcess {
  const path = fileURLToPath(new URL(`./${role}.js`, import.meta.url));
  const child = spawn(process.execPath, [path, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  createInterface(child.stdout!).on("line", (line) => console.log(`${name.padEnd(6)}  ${line}`));
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

/** Where the server listens: it is the first thing that it says. */
function listening(server: ChildProcess): Promise<string> {
  return new Promise((found, failed) => {
    createInterface(server.stdout!).once("line", (line) => found(line.replace("listening on ", "")));
    server.once("exit", () => failed(new Error("the server ended before it listened")));
  });
}

async function ended(child: ChildProcess): Promise<void> {
  const code = await new Promise((exit) => child.once("exit", (code, signal) => exit(code ?? signal)));
  if (code !== 0) throw new Error(`${child.spawnargs[1]} ended with ${code}`);
}

async function federated(): Promise<void> {
  const names = Array.from({ length: Number(given.clients) }, (_, i) => `site-${i + 1}`);
  // Of a federation before this one.
  for (const name of ["server", ...names]) await rm(at(name), { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  if (!makeCertificate(folder)) return console.log("SKIPPED: needs openssl");

  const tokens: Record<string, object> = {};
  for (const name of names) {
    const token = randomBytes(24).toString("base64url");
    tokens[name] = { token, fetch: ["model"], publish: [`round-*/${name}`] };
    await writeFile(at(`${name}.token`), token, { mode: 0o600 });
  }
  await writeFile(at("tokens.json"), JSON.stringify(tokens), { mode: 0o600 });

  const shared = ["--codec", given.codec, "--seed", given.seed];
  const server = start("server", "server", [
    ...shared,
    ...["--tls-cert", at("cert.pem"), "--tls-key", at("key.pem"), "--tokens", at("tokens.json")],
    ...["--folder", at("server"), "--clients", names.join(","), "--rounds", given.rounds],
  ]);
  const url = await listening(server);
  const clients = names.map((name, i) =>
    start(name, "client", [
      ...shared,
      ...(given.feedback ? [] : ["--no-feedback"]),
      ...["--server", url, "--tls-ca", at("cert.pem"), "--token-file", at(`${name}.token`)],
      ...["--name", name, "--share", `${i + 1}/${names.length}`, "--folder", at(name)],
    ]),
  );
  await Promise.all([server, ...clients].map(ended));
}

try {
  await federated();
} catch (error) {
  console.error(`The federation failed: ${(error as Error).message}`);
  process.exitCode = 1;
  // The others would wait for whoever has failed.
  for (const child of running) child.kill();
}
