import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Certificate, makeCertificate } from "../src/faults/certificate.js";
import { run } from "./program.js";

const CLIENTS = ["site-1", "site-2", "site-3"];

let scratch: string;
let certificate: Certificate | undefined;
const running = new Set<Member>();

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "federated-test-"));
  certificate = makeCertificate(scratch);
  const rights = CLIENTS.map((name) => [
    name,
    { token: `${name}-token`, fetch: ["model"], publish: [`*/${name}`] },
  ]);
  await writeFile(at("tokens.json"), JSON.stringify(Object.fromEntries(rights)));
  for (const name of CLIENTS) await writeFile(at(`${name}.token`), `${name}-token`);
});

afterAll(async () => {
  await Promise.all([...running].map((member) => member.kill()));
  await rm(scratch, { recursive: true, force: true });
});

const at = (name: string): string => join(scratch, name);

/** A process of the federation, and what it says. */
class Member {
  readonly lines: string[] = [];
  readonly exit: Promise<number | string>;
  readonly #child: ChildProcess;
  /** Who waits for the next line, or the end. */
  #waiting: (() => void)[] = [];

  constructor(program: "server" | "client", args: readonly string[]) {
    const path = fileURLToPath(new URL(`../dist/federated-averaging/${program}.js`, import.meta.url));
    this.#child = spawn(process.execPath, [path, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    createInterface(this.#child.stdout!).on("line", (line) => {
      this.lines.push(line);
      this.#heard();
    });
    running.add(this);
    this.exit = new Promise((resolve) => {
      this.#child.once("close", (code, signal) => {
        running.delete(this);
        this.#heard();
        resolve(signal ?? code ?? -1);
      });
    });
  }

  #heard(): void {
    for (const hear of this.#waiting.splice(0)) hear();
  }

  /** The first line that matches. */
  async says(pattern: RegExp): Promise<string> {
    for (;;) {
      const line = this.lines.find((each) => pattern.test(each));
      if (line !== undefined) return line;
      if (!running.has(this)) throw new Error(`it ended without ${pattern}:\n${this.lines.join("\n")}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  kill(): Promise<number | string> {
    this.#child.kill("SIGKILL");
    return this.exit;
  }
}

const server = (url: string): Member =>
  new Member("server", [
    ...[
      "--listen",
      url,
      "--tls-cert",
      at("cert.pem"),
      "--tls-key",
      at("key.pem"),
      "--tokens",
      at("tokens.json"),
    ],
    ...["--folder", at("server"), "--clients", CLIENTS.join(","), "--rounds", "3", "--deadline", "5"],
  ]);

const client = (name: string, url: string): Member =>
  new Member("client", [
    ...["--server", url, "--tls-ca", at("cert.pem"), "--token-file", at(`${name}.token`)],
    ...["--name", name, "--share", `${CLIENTS.indexOf(name) + 1}/3`, "--folder", at(name)],
  ]);

/** The updates of a round that are there: which files, by their inodes. */
async function updates(round: number): Promise<Map<string, number>> {
  const folder = at(`server/updates/round-${round}`);
  const files = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith(".twire"));
  return new Map(
    await Promise.all(files.map(async (name) => [name, (await stat(join(folder, name))).ino] as const)),
  );
}

test("a server and three clients, a process each, train a model together", async () => {
  const { code, stdout, stderr } = await run("federated-averaging/main", [
    "--rounds",
    "2",
    "--folder",
    at("main"),
  ]);
  if (!certificate) return console.log(stdout);
  expect(code, stderr).toBe(0);
  const sent = [
    ...stdout.matchAll(/^site-\d {2}round (\d): trained with (\d+) digits, sent (\S+) kB for 220\.2 kB$/gm),
  ];
  expect(sent.map(([, round]) => round).sort()).toEqual(["1", "1", "1", "2", "2", "2"]);
  const digits = sent.slice(0, 3).map(([, , count]) => Number(count));
  expect(digits.reduce((sum, count) => sum + count, 0)).toBe(8000);
  expect(new Set(digits).size).toBe(3);
  // Four bits and a half a weight, and what stands around it.
  for (const [, , , size] of sent) expect(Number(size)).toBeLessThan(34);
  const accuracy = [
    ...stdout.matchAll(/round \d of 2: loss \S+, accuracy (\S+) %, by site-1, site-2, site-3/g),
  ];
  expect(accuracy.length, stdout).toBe(2);
  expect(Number(accuracy[1]![1])).toBeGreaterThan(80);
}, 180_000);

test("a client that is killed is done without, and a server that is killed goes on with what had arrived", async () => {
  if (!certificate) return;
  const draws = [Math.random(), Math.random()] as const;
  const moments = `killed at ${draws}`;
  const first = server("wss://127.0.0.1:0");
  const url = (await first.says(/^listening on /)).slice("listening on ".length);
  const [one, two, victim] = CLIENTS.map((name) => client(name, url));
  // In its first round at the latest, so that the next one waits for it.
  await Promise.race([sleep(4000 * draws[0]), first.says(/^round 1 of 3: /)]);
  await victim!.kill();
  expect(await first.says(/^round 1 of 3: /), moments).toMatch(/by site-1, site-2(?:, site-3)?$/);
  await sleep(3000 * draws[1]);
  await first.kill();
  const there = await updates(2);

  const second = server(`wss://${new URL(url).host}`);
  const again = client("site-3", url);
  expect(await Promise.all([second, one!, two!, again].map(({ exit }) => exit)), moments).toEqual([
    0, 0, 0, 0,
  ]);
  const ended = second.lines.at(-1)!;
  expect(ended, moments).toMatch(/^round 3 of 3: .* by site-1, site-2(?:, site-3)?$/);
  expect(Number(/accuracy (\S+) %/.exec(ended)![1]), moments).toBeGreaterThan(85);
  // What had arrived is what was summed: it was neither thrown away nor sent again.
  const used = await updates(2);
  for (const [name, inode] of there) expect(used.get(name), `${name}, ${moments}`).toBe(inode);
}, 180_000);
