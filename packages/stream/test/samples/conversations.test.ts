import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasOpenssl } from "../certificates.js";
import { type Block, blocksOf, ROOT } from "./blocks.js";
import { freePorts, openPlace, type Place } from "./place.js";
import { javascriptOf, type Program, programsOf } from "./programs.js";
import { onThisMachine, tokenOf } from "./stage.mjs";

const built = existsSync(`${ROOT}packages/stream/dist/index.js`);
if (!built) console.log("SKIPPED: needs npm run build");

describe.runIf(built && hasOpenssl)("samples of several processes", () => {
  const children: ChildProcess[] = [];
  const modules = `${ROOT}packages/stream/out/conversations`;
  let place: Place;
  let ports: number[];

  beforeAll(async () => {
    place = await openPlace();
    ports = await freePorts(3);
    await mkdir(modules, { recursive: true });
  });
  afterAll(async () => {
    for (const child of children) child.kill("SIGKILL");
    await rm(modules, { recursive: true, force: true });
    await place.close();
  });

  /** The programs of a page, by their file names. */
  function named(page: string): (name: string) => Program {
    const blocks = blocksOf(page).filter(({ name }) => name.endsWith(".mjs"));
    const { programs, faults } = programsOf(blocks);
    expect(faults).toEqual([]);
    return (name) => programs.find(({ block }: { block: Block }) => block.name === name)!;
  }

  /** A process that runs a program in a folder of its own, with all files; what it prints, and how it ends. */
  async function start(
    program: Program,
    code: string,
    as: string,
  ): Promise<{ lines(): string[]; ended: Promise<number> }> {
    const path = join(modules, `${process.pid}-${as}.mjs`);
    const folder = join(place.folder, as);
    await cp(place.files, folder, { recursive: true });
    await writeFile(path, code);
    const runner = fileURLToPath(new URL("alone.mjs", import.meta.url));
    const plan = JSON.stringify({ program: path, needs: program.needs, folder, plain: place.hub.plain });
    const child = spawn(process.execPath, [runner, plan], { cwd: folder, env: place.env });
    children.push(child);
    let [printed, said] = ["", ""];
    child.stdout.on("data", (text) => void (printed += text));
    child.stderr.on("data", (text) => void (said += text));
    const ended = once(child, "close").then(([status]) => {
      expect(status, `${program.block.where}: ${said}`).toBe(0);
      return Number(status);
    });
    return { lines: () => printed.trim().split("\n"), ended };
  }

  it.each([
    ["README.md", 0],
    ["docs/guides/getting-started.md", 1],
  ])("%s: a receiver and a sender", async (page, at) => {
    const program = named(page);
    const port = ports[at]!;
    const here = (name: string): string =>
      javascriptOf(program(name))
        .replace("port: 9000", `port: ${port}`)
        .replace("127.0.0.1:9000", `127.0.0.1:${port}`);
    const receiver = await start(program("receive.mjs"), here("receive.mjs"), `receiver-${at}`);
    while (!receiver.lines()[0]) await new Promise((done) => setTimeout(done, 10));
    const sender = await start(program("send.mjs"), here("send.mjs"), `sender-${at}`);
    await Promise.all([sender.ended, receiver.ended]);
    const [, sent, digest] = /^(\d+) bytes as \d+, digest ([0-9a-f]{16})$/.exec(sender.lines()[0]!)!;
    expect(Number(sent)).toBeGreaterThan(4_000_000);
    const [listening, ...tensors] = receiver.lines();
    expect(listening).toBe(`listening on ws://127.0.0.1:${port}`);
    const bytes = tensors.flatMap((line) => /(\d+)(?: bytes)?$/.exec(line)?.[1] ?? []).map(Number);
    const last = /^digest/.test(tensors.at(-1)!) ? tensors.pop() : undefined;
    if (last) expect(last).toBe(`digest ${digest}`);
    expect(bytes.slice(0, tensors.length).reduce((sum, value) => sum + value, 0)).toBe(Number(sent));
  });

  it("docs/guides/federated.md: a server, and three clients of its rounds", async () => {
    const program = named("docs/guides/federated.md");
    const port = ports[2]!;
    const server = javascriptOf(program("server.mjs")).replace("round <= 10", "round <= 2");
    const host = await start(
      program("server.mjs"),
      onThisMachine(server, { ...place.hub, port, folder: "" }),
      "server",
    );
    const client = javascriptOf(program("client.mjs")).replaceAll(
      "wss://server:9000",
      `wss://127.0.0.1:${port}`,
    );
    const clients = ["ada", "bob", "eve"].map(async (name) => {
      for (const round of [1, 2]) {
        const dial = `const dial = { token: "${tokenOf(name)}" };\n`;
        const code = dial + client.replace("/ada", `/${name}`).replaceAll(`\${round}`, String(round));
        // A round is open when the one before is done: a client asks until it is.
        const patient = `for (let i = 0; ; i++) { try { await import("./${process.pid}-${name}-${round}-once.mjs?" + i); break; }
          catch (error) { if (i > 200) throw error; await new Promise((done) => setTimeout(done, 50)); } }`;
        await writeFile(join(modules, `${process.pid}-${name}-${round}-once.mjs`), code);
        await (await start(program("client.mjs"), patient, `${name}-${round}`)).ended;
      }
    });
    await Promise.all([host.ended, ...clients]);
    expect(existsSync(join(place.folder, "server/models/round-2.twire"))).toBe(true);
  });
});
