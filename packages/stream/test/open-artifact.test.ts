import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Tensor } from "@tensorwire/core";
import { expect, test } from "vitest";
import { openArtifact, type ReceivedTensor, receiveModel } from "../src/index.js";
import { FileReader } from "../src/source/file-reader.js";
import { artifactFrames } from "./artifact-file.js";
import { folder } from "./sink-fixture.js";
import { pattern } from "./source-reading.js";

const tensors: Tensor[] = [
  {
    name: "layer.0.weight",
    dtype: "F32",
    shape: [30_000],
    data: new Float32Array(30_000).map((_, i) => Math.sin(i)),
  },
  { name: "layer.0.bias", dtype: "I32", shape: [9], data: pattern(36) },
  {
    name: "layer.1.weight",
    dtype: "F32",
    shape: [20_000],
    data: new Float32Array(20_000).map((_, i) => Math.cos(i)),
  },
  { name: "empty", dtype: "F32", shape: [0, 2], data: new Uint8Array() },
  { name: "head", dtype: "U8", shape: [100], data: pattern(100) },
];
const codec = ({ dtype }: Tensor) => ({ name: dtype === "F32" ? "normfloat4" : "none" });

async function artifact() {
  const frames = artifactFrames({ tensors, codec, manifest: { metadata: new Map([["round", "7"]]) } });
  const path = join(folder(), "model.twire");
  await writeFile(path, frames.indexed);
  return { path, ...frames };
}

/** All of it, as a receiver has it. */
async function received(path: string): Promise<ReceivedTensor[]> {
  const all: ReceivedTensor[] = [];
  for await (const tensor of receiveModel(path)) all.push(tensor);
  return all;
}

test("any tensor is read as a receiver of the whole has it", async () => {
  const { path } = await artifact();
  const opened = await openArtifact(path);
  expect(opened.tensors.map(({ name }) => name)).toEqual(tensors.map(({ name }) => name));
  expect(opened.metadata.get("round")).toBe("7");
  // In any order, and all at once.
  const read = await Promise.all(tensors.toReversed().map(({ name }) => opened.readTensor(name)));
  expect(read.toReversed()).toEqual(await received(path));
  await opened.close();
});

test("tensors and chunks by pattern", async () => {
  const { path, plan } = await artifact();
  const all = await received(path);
  const opened = await openArtifact(path);
  const some: ReceivedTensor[] = [];
  for await (const tensor of opened.readTensors(["layer.1.*", "head"])) some.push(tensor);
  expect(some).toEqual([all[2], all[4]]);
  const everything: string[] = [];
  for await (const { name } of opened.readTensors()) everything.push(name);
  expect(everything).toEqual(tensors.map(({ name }) => name));
  const pieces: Buffer[] = [];
  for await (const chunk of opened.readChunks("*.0.*")) {
    expect(chunk.last).toBe(
      chunk.offset + chunk.data.length === (chunk.name === "layer.0.bias" ? 36 : 120_000),
    );
    pieces.push(Buffer.from(chunk.data));
  }
  expect(pieces).toHaveLength(plan.range(0).count + 1);
  expect(Buffer.concat(pieces).equals(Buffer.concat([all[0]!.data, all[1]!.data]))).toBe(true);
  // A consumer who leaves gives the chunk back.
  for await (const _ of opened.readChunks()) break;
  await opened.close();
});

test("of the file no more is read than its ends, and what is asked for", async () => {
  const { path, index, plan, indexed, frames } = await artifact();
  const reads: [number, number][] = [];
  const expected: unknown[] = [];
  const opened = await openArtifact({
    name: path,
    async open() {
      const file = await FileReader.open(path);
      return {
        name: path,
        size: file.size,
        read: (position, bytes, pool) => {
          reads.push([position, bytes]);
          return file.read(position, bytes, pool);
        },
        readInto: (position, target) => {
          reads.push([position, target.length]);
          return file.readInto(position, target);
        },
        expect: (ranges) => void expected.push(...ranges),
        forget: () => file.forget(),
        verify: () => file.verify(),
        close: () => file.close(),
      };
    },
  });
  const opening = reads.splice(0).reduce((sum, [, bytes]) => sum + bytes, 0);
  expect(opening).toBe(indexed.length - frames.slice(2, -1).reduce((sum, { length }) => sum + length, 0));
  await opened.readTensor("layer.1.weight");
  const chunks = [...plan.walk([plan.range(2)])].map(({ ordinal }) => index.entry(ordinal));
  expect(reads).toEqual(chunks.map(({ position, packedBytes }) => [position, packedBytes]));
  expect(expected).toEqual(chunks.map(({ position, packedBytes: bytes }) => ({ position, bytes })));
  await opened.close();
});

test("what is not there, not whole, or closed", async () => {
  const { path, index, indexed } = await artifact();
  const opened = await openArtifact(path);
  await expect(opened.readTensor("tail")).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining('no tensor called "tail"'),
  });
  await expect(opened.readTensors("tail.*").next()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  const reading = expect(opened.readTensor("layer.0.weight")).rejects.toThrow("was closed");
  await opened.close();
  await reading;
  await opened.close();
  // Nothing of this one would be read: but whoever fetches ahead must not begin to.
  await expect(opened.readTensor("empty")).rejects.toThrow("was closed");
  const aborted = openArtifact(path, { signal: AbortSignal.abort() });
  await expect(aborted).rejects.toMatchObject({ code: "ABORTED" });
  indexed[index.position(0) + 5]! ^= 1;
  await writeFile(path, indexed);
  const damaged = await openArtifact(path);
  await expect(damaged.readTensor("layer.0.weight")).rejects.toMatchObject({
    code: "SOURCE_INVALID",
    tensor: "layer.0.weight",
    chunk: 0,
  });
  expect((await damaged.readTensor("head")).data).toEqual(pattern(100));
  await damaged.close();
  await writeFile(path, indexed.subarray(0, -1));
  await expect(openArtifact(path)).rejects.toMatchObject({ code: "SOURCE_INVALID" });
});
