import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CliProcess, json, makeModel, run } from "./cli-process.js";

const SERVER = fileURLToPath(new URL("round-server.mjs", import.meta.url));
const runs = existsSync(new URL("../dist/index.js", import.meta.url));
if (!runs) console.log("SKIPPED: needs npm run build");

let folder: string;
const processes: CliProcess[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-round-"));
  await makeModel(join(folder, "model.safetensors"), [{ name: "w", dtype: "F32", shape: [2048, 1024] }]);
});
afterEach(async () => {
  for (const each of processes.splice(0)) {
    each.child.kill("SIGKILL");
    await each.ended;
  }
  await rm(folder, { recursive: true });
});

function started<P extends CliProcess>(process: P): P {
  processes.push(process);
  return process;
}

/** A server that collects a round, in a process of its own. */
const collecting = (port: number, round: string, options: object): CliProcess =>
  started(new CliProcess([String(port), folder, round, JSON.stringify(options)], {}, SERVER));

const send = (url: string, ...flags: string[]): string[] => {
  const model = join(folder, "model.safetensors");
  return [
    "send",
    model,
    url,
    "--codec",
    "blockwise8",
    "--chunk",
    "64KiB",
    "--window",
    "1MiB",
    "--json",
    ...flags,
  ];
};
const SLOWLY = ["--max-bytes-per-second", "800KiB"];

describe.runIf(runs)("a round of processes", () => {
  test("goes on with a client that was killed, and does not wait for one that never comes back", async () => {
    const server = collecting(0, "r", { expect: 3, quorum: 2, deadline: 12_000 });
    const url = `${await server.url()}r/`;
    const [ada, eve] = ["ada", "eve"].map((name) => started(new CliProcess(send(url + name, ...SLOWLY))));
    await server.saw(/ada=arriving@[2-9]\d .*eve=arriving@[2-9]\d/);
    ada!.child.kill("SIGKILL");
    eve!.child.kill("SIGKILL");
    await server.saw(/ada=interrupted@[2-9]\d .*eve=interrupted/);
    const bob = await run(...send(`${url}bob`));
    const again = await run(...send(`${url}ada`));
    expect(json(again).resumedBytes).toBeGreaterThan(0);
    const { stdout } = await server.ended;
    expect(JSON.parse(stdout)).toEqual([
      { client: "ada", path: join(folder, "r", "ada.twire"), digest: json(again).digest },
      { client: "bob", path: join(folder, "r", "bob.twire"), digest: json(bob).digest },
    ]);
    // Nothing of who never came back.
    expect(await readdir(join(folder, "r"))).toEqual([".round.json", "ada.twire", "bob.twire"]);
  });

  test("goes on when its server was killed: with who had arrived, and with what of others", async () => {
    const first = collecting(0, "r/7", { expect: 2 });
    const url = `${await first.url()}r/7/`;
    const ada = await run(...send(`${url}ada`));
    const sending = started(new CliProcess(send(`${url}bob`, ...SLOWLY, "--retry", "20")));
    await first.saw(/bob=arriving@[3-9]\d/);
    first.child.kill("SIGKILL");
    await first.ended;
    const second = collecting(Number(new URL(url).port), "r/7", { expect: 2 });
    await second.saw(/ada=arrived@100/);
    const bob = await sending.ended;
    expect(bob.code).toBe(0);
    expect(json(bob)).toMatchObject({ retries: expect.any(Number) });
    expect(json(bob).retries).toBeGreaterThan(0);
    const { stdout } = await second.ended;
    expect(JSON.parse(stdout)).toMatchObject([
      { client: "ada", digest: json(ada).digest },
      { client: "bob", digest: json(bob).digest },
    ]);
  });

  test("does not take what was begun for another round", async () => {
    const first = collecting(0, "r/1", { expect: 1 });
    const url = `${await first.url()}`;
    const sending = started(new CliProcess(send(`${url}r/1/ada`, ...SLOWLY)));
    await first.saw(/ada=arriving@[2-9]\d/);
    first.child.kill("SIGKILL");
    sending.child.kill("SIGKILL");
    await Promise.all([first.ended, sending.ended]);
    const second = collecting(0, "r/2", { expect: 1 });
    const other = await second.url();
    const late = await run(...send(`${other}r/1/ada`));
    const ada = await run(...send(`${other}r/2/ada`));
    expect(json(ada).resumedBytes).toBe(0);
    const { stdout } = await second.ended;
    expect(JSON.parse(stdout)).toMatchObject([{ client: "ada", path: join(folder, "r", "2", "ada.twire") }]);
    // To the server a round that it does not collect is a name like any other.
    expect([late.code, await readdir(join(folder, "r", "1"))]).toEqual([
      0,
      expect.arrayContaining(["ada", "ada.twire.part"]),
    ]);
  });
});
