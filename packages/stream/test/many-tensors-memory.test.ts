import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CliProcess, json } from "./cli-process.js";

const MIB = 2 ** 20;
const TENSORS = 65_536;
const TENSOR_BYTES = 4096;
/** Of a process that sends any model; a receiver of this one takes more. */
const BOUND = 165 * MIB;

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "tensorwire-many-"));
});
afterAll(() => rm(dir, { recursive: true }));

/** A safetensors file of zeros that takes no room on the disk. */
async function makeModel(path: string): Promise<void> {
  const entries = Array.from({ length: TENSORS }, (_, i) => {
    const offsets = [i * TENSOR_BYTES, (i + 1) * TENSOR_BYTES];
    return [`layers.${i}.weight`, { dtype: "F32", shape: [TENSOR_BYTES / 4], data_offsets: offsets }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = await open(path, "w");
  await file.writev([length, header]);
  await file.truncate(8 + header.length + TENSORS * TENSOR_BYTES);
  await file.close();
}

test("the sender of a model of 65,536 tensors takes little more than that of any other", async () => {
  await makeModel(join(dir, "m.safetensors"));
  const receiver = new CliProcess([
    ...["receive", "--listen", "127.0.0.1:0", "--out", join(dir, "out.safetensors"), "--json"],
  ]);
  const sender = new CliProcess(["send", join(dir, "m.safetensors"), await receiver.url(), "--json"]);
  const ends = await Promise.all([sender.ended, receiver.ended]);
  expect(ends.map(({ code }) => code)).toEqual([0, 0]);
  expect(json(ends[0]!).peakRssBytes / MIB).toBeLessThan(BOUND / MIB);
});
