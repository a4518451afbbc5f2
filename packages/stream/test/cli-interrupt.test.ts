import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { CliProcess, json, makeSparseModel, run } from "./cli-process.js";

let folder: string;
let model: string;
let outputs: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-interrupt-"));
  model = join(folder, "model.safetensors");
  // It takes a second or more, and its receiver is stopped long before that.
  await makeSparseModel(model, 1024 ** 3);
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(async () => {
  outputs = join(folder, "outputs");
  await mkdir(outputs);
});
afterEach(() => rm(outputs, { recursive: true }));

const WINDOW = ["--window", "128KiB"];
const PROGRESS = /^ +\d+ % /m;

const OUT = (): string => join(outputs, "received.safetensors");

async function both(...flags: string[]): Promise<{ sender: CliProcess; receiver: CliProcess }> {
  const listening = ["receive", "--listen", "127.0.0.1:0", "--out", OUT(), "--json"];
  const receiver = new CliProcess([...listening, ...WINDOW, ...flags]);
  const sender = new CliProcess(["send", model, await receiver.url(), "--json", ...WINDOW]);
  // In the middle of it: both have moved bytes.
  await Promise.all([sender.saw(PROGRESS), receiver.saw(PROGRESS)]);
  expect(await readdir(outputs)).toContain("received.safetensors.part");
  return { sender, receiver };
}

/** What a later call can go on from, if any chunk was durable yet, and nothing else: no file under its name, no lock. */
async function expectUnfinished(): Promise<void> {
  const left = (await readdir(outputs)).sort();
  const part = "received.safetensors.part";
  expect([[], [part, `${part}.journal`]]).toContainEqual(left);
}

describe.each([
  ["sender", "SIGINT", 130],
  ["sender", "SIGTERM", 143],
  ["receiver", "SIGINT", 130],
  ["receiver", "SIGTERM", 143],
] as const)("the %s gets %s", (side, signal, exit) => {
  test("it exits by that, its peer is told, and no file has its name", async () => {
    const { sender, receiver } = await both();
    const [cancelled, peer] = side === "sender" ? [sender, receiver] : [receiver, sender];
    cancelled.child.kill(signal);
    const [own, other] = await Promise.all([cancelled.ended, peer.ended]);
    expect(own.code).toBe(exit);
    expect(json(own).error).toMatchObject({ code: "ABORTED", retryable: false });
    expect(json(own).error.message).toContain(signal);
    expect(other.code).toBe(8);
    expect(json(other).error.code).toBe("ABORTED");
    expect(json(other).error.message).toMatch(/the peer cancelled the transfer/);
    await expectUnfinished();
  });
});

test("a process that is killed outright is a peer that went away", async () => {
  const { sender, receiver } = await both("--retry", "0");
  sender.child.kill("SIGKILL");
  const received = await receiver.ended;
  expect(received.code).toBe(5);
  expect(json(received).error).toMatchObject({ code: "CHANNEL_CLOSED", retryable: true });
  await expectUnfinished();
});

test.each([[], ["--no-resume"]])(
  "packing that is cancelled leaves no artifact, and what it has for the next call (%s)",
  async (...flags) => {
    const packing = new CliProcess(["pack", model, join(outputs, "model.twire"), ...WINDOW, ...flags]);
    await packing.saw(PROGRESS);
    packing.child.kill("SIGINT");
    const { code, stdout, stderr } = await packing.ended;
    expect(stderr).toMatch(/^tensorwire: ABORTED: the transfer was cancelled by SIGINT$/m);
    expect([code, stdout]).toEqual([130, ""]);
    const left = flags.length ? [] : ["model.twire.part", "model.twire.part.journal"];
    expect((await readdir(outputs)).sort()).toEqual(left);
  },
);

test("packing that is killed goes on when it is called again, and ends in the identical file", async () => {
  const short = join(outputs, "short.safetensors");
  await makeSparseModel(short, 96 * 1024 ** 2);
  const pack = (to: string): string[] => {
    const flags = ["--codec", "blockwise8", "--window", "512KiB", "--json"];
    return ["pack", short, join(outputs, to), ...flags];
  };
  const killed = new CliProcess(pack("killed.twire"));
  const part = join(outputs, "killed.twire.part");
  // A window of source bytes is a quarter of that: a checkpoint is behind it.
  const written = async (): Promise<number> => (await stat(part).catch(() => ({ size: 0 }))).size;
  while ((await written()) < 1024 ** 2) await sleep(5);
  killed.child.kill("SIGKILL");
  expect((await killed.ended).signal).toBe("SIGKILL");
  expect(await readdir(outputs)).not.toContain("killed.twire");
  const again = await run(...pack("killed.twire"));
  const whole = await run(...pack("whole.twire"));
  expect([again.code, whole.code]).toEqual([0, 0]);
  expect(json(again).resumedBytes).toBeGreaterThan(0);
  expect(json(again).digest).toBe(json(whole).digest);
  const [a, b] = await Promise.all(
    ["killed", "whole"].map((name) => readFile(join(outputs, `${name}.twire`))),
  );
  expect(a!.equals(b!)).toBe(true);
  expect((await readdir(outputs)).sort()).toEqual(["killed.twire", "short.safetensors", "whole.twire"]);
});

test("one Ctrl-C that arrives twice, as npx passes it on, is one", async () => {
  const twice = await both();
  twice.receiver.child.kill("SIGINT");
  setTimeout(() => twice.receiver.child.kill("SIGINT"), 10);
  expect((await twice.receiver.ended).code).toBe(130);
  await expectUnfinished();
  await twice.sender.ended;
});

describe("a pipe that nobody reads on", () => {
  let sender: CliProcess;
  beforeEach(async () => {
    sender = new CliProcess(["send", model, "-"]);
    const { stdout } = sender.child;
    // Within a chunk, the rest of which no pipe's buffer takes: the last words cannot be said either.
    for (let bytes = 0; bytes < 1024 ** 2; ) bytes += ((await once(stdout!, "data")) as [Buffer])[0].length;
    stdout!.pause();
    sender.child.kill("SIGINT");
  });
  afterEach(() => void sender.child.stdout!.destroy());

  test("the first signal ends it all the same", async () => {
    expect(await once(sender.child, "exit")).toEqual([130, null]);
  });

  test("a second one kills", async () => {
    setTimeout(() => sender.child.kill("SIGINT"), 700);
    expect(await once(sender.child, "exit")).toEqual([null, "SIGINT"]);
  });
});

test("while it waits for a peer", async () => {
  const out = join(outputs, "never.safetensors");
  const receiver = new CliProcess(["receive", "--listen", "127.0.0.1:0", "--out", out]);
  await receiver.url();
  receiver.child.kill("SIGINT");
  expect((await receiver.ended).code).toBe(130);
  expect(await readdir(outputs)).toEqual([]);
});
