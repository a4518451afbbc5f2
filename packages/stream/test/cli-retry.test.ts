import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CliProcess, json, makeSparseModel, run } from "./cli-process.js";

let folder: string;
const at = (name: string): string => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-cli-retry-"));
  await makeSparseModel(at("model.safetensors"), 32 * 1024 ** 2);
});
afterAll(() => rm(folder, { recursive: true }));

/** Some seconds for all of it: time to be interrupted in. */
const SLOW = ["--window", "1MiB", "--max-bytes-per-second", "8MiB"];
/** A tenth of it, or more. */
const UNDER_WAY = /^ +[1-9]\d % /m;

const receive = (where: string, out: string, ...flags: string[]): CliProcess =>
  new CliProcess(["receive", "--listen", where, "--out", at(out), "--json", "--window", "1MiB", ...flags]);

async function expectSame(out: string): Promise<void> {
  const [sent, received] = await Promise.all(["model.safetensors", out].map((name) => readFile(at(name))));
  expect(sent!.equals(received!)).toBe(true);
  expect((await readdir(folder)).filter((name) => name.startsWith(out))).toEqual([out]);
}

test("a receiver that listens waits for the next peer, and goes on", async () => {
  const receiver = receive("127.0.0.1:0", "one.safetensors");
  const sender = new CliProcess(["send", at("model.safetensors"), await receiver.url(), ...SLOW]);
  await receiver.saw(UNDER_WAY);
  sender.child.kill("SIGKILL");
  await receiver.saw(/CHANNEL_CLOSED: .*\n {2}waiting for the next peer \(1 of 10\)/);
  const sent = await run("send", at("model.safetensors"), await receiver.url(), "--json");
  const received = await receiver.ended;
  expect([received.code, sent.code]).toEqual([0, 0]);
  expect(json(received)).toMatchObject({ retries: 1, resumedBytes: 0, digest: json(sent).digest });
  expect(json(sent).resumedBytes).toBeGreaterThan(2 ** 20);
  await expectSame("one.safetensors");
});

test("a sender whose receiver is killed goes on with the one that takes its place", async () => {
  const receiver = receive("127.0.0.1:0", "two.safetensors");
  const sender = new CliProcess(["send", at("model.safetensors"), await receiver.url(), "--json", ...SLOW]);
  await receiver.saw(UNDER_WAY);
  receiver.child.kill("SIGKILL");
  await sender.saw(/\n {2}trying again in .* \(1 of 10\)/);
  const again = receive(new URL(await receiver.url()).host, "two.safetensors");
  const [received, sent] = await Promise.all([again.ended, sender.ended]);
  expect([received.code, sent.code]).toEqual([0, 0]);
  expect(json(sent).retries).toBeGreaterThan(0);
  expect(json(received)).toMatchObject({ retries: 0, digest: json(sent).digest });
  expect(json(received).resumedBytes).toBeGreaterThan(2 ** 20);
  await expectSame("two.safetensors");
});

test("without it the first interruption is the end, and the same commands go on later", async () => {
  const receiver = receive("127.0.0.1:0", "three.safetensors", "--retry", "0");
  const sender = new CliProcess(["send", at("model.safetensors"), await receiver.url(), ...SLOW]);
  await receiver.saw(UNDER_WAY);
  sender.child.kill("SIGKILL");
  expect((await receiver.ended).code).toBe(5);
  const again = receive("127.0.0.1:0", "three.safetensors", "--retry", "0");
  const sent = await run(
    "send",
    at("model.safetensors"),
    await again.url(),
    "--json",
    "--if-changed",
    "fail",
  );
  expect([(await again.ended).code, sent.code]).toEqual([0, 0]);
  expect(json(sent)).toMatchObject({ retries: 0, resumedBytes: json(await again.ended).resumedBytes });
  expect(json(sent).resumedBytes).toBeGreaterThan(2 ** 20);
  await expectSame("three.safetensors");
});
