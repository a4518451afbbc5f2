import {
  type Chunk,
  ChunkPlan,
  encodeManifest,
  type Manifest,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import type { ModelSink, SinkModel } from "../sink/sink.js";
import { type SampleTensor, sampleModel, sampleTensors } from "./sample-model.js";

/** A fresh sink, not open, with a way to see what became of it. */
export interface SinkUnderTest {
  /** A new one, not open. */
  readonly sink: ModelSink;
  /** What stands in its place now: the tensors of a complete model, or `undefined` where there is nothing at all. */
  result(): Promise<readonly SampleTensor[] | undefined>;
  /** What a transfer that is over must not leave: parts, locks, temporary files. */
  leftovers(): Promise<readonly string[]>;
}

const TOTALS: Totals = { digest: 0n, chunks: 0, sourceBytes: 0, clamped: 0 };
const FAULT = new TensorwireError("CHANNEL_CLOSED", "the suite ends the transfer");

/**
 * What any sink of decoded chunks must do. `make` gives a new one, in a place of its own, for each test.
 * @example
 * // not run: a suite is of a test file, which vitest runs
 * sinkSuite("safetensors file", async () => ({
 *   sink: safetensorsSink("copy.safetensors"),
 *   result: async () => undefined,
 *   leftovers: async () => [],
 * }));
 */
export function sinkSuite(name: string, make: () => Promise<SinkUnderTest>): void {
  describe(`sink suite: ${name}`, () => {
    test.each([32_768, 65_536, 1 << 20])("has every byte, written in chunks of %i", async (chunkBytes) => {
      const { sink, result, leftovers } = await make();
      const model = modelOf(chunkBytes);
      await sink.open(model);
      await write(sink, model, model.plan.chunks);
      expect(await result(), "before it is finished").toBeUndefined();
      await sink.finish(TOTALS);
      expect(await leftovers()).toEqual([]);
      const found = new Map((await result())!.map((tensor) => [tensor.name, tensor]));
      expect([...found.keys()].toSorted()).toEqual(model.manifest.tensors.map(({ name }) => name).toSorted());
      for (const { name: tensor, data, dtype, shape } of sampleTensors()) {
        expect(found.get(tensor)).toMatchObject({ dtype, shape });
        expect(Buffer.compare(found.get(tensor)!.data, data), tensor).toBe(0);
      }
    });

    test("leaves nothing when it is aborted, whenever that is, and may be told twice", async () => {
      const model = modelOf(32_768);
      for (const chunks of [undefined, 0, 1, Math.floor(model.plan.chunks / 2), model.plan.chunks]) {
        const { sink, result, leftovers } = await make();
        if (chunks !== undefined) {
          await sink.open(model);
          await write(sink, model, chunks);
        }
        await sink.abort(FAULT);
        await sink.abort(FAULT);
        expect(await result(), `aborted after ${chunks} chunks`).toBeUndefined();
        expect(await leftovers(), `aborted after ${chunks} chunks`).toEqual([]);
      }
    });

    test("does not change what it is given", async () => {
      const { sink } = await make();
      const model = modelOf(65_536);
      await sink.open(model);
      for (const { chunk, bytes } of chunksOf(model)) {
        const before = bytes.slice();
        await sink.write(chunk, bytes);
        expect(Buffer.compare(bytes, before)).toBe(0);
      }
      await sink.abort(FAULT);
    });
  });
}

function modelOf(chunkBytes: number): SinkModel {
  const model = sampleModel();
  const tensors = model.tensors.map((info) => ({ ...info, codec: { name: "none" } }));
  const manifest: Manifest = { ...model, tensors, chunkBytes };
  const plan = new ChunkPlan(tensors, chunkBytes);
  return { manifest, plan, dtypes: tensors.map(({ dtype }) => dtype), bytes: encodeManifest(manifest) };
}

function* chunksOf({ plan }: SinkModel): Generator<{ chunk: Chunk; bytes: Uint8Array }> {
  const tensors = sampleTensors();
  for (const chunk of plan.walk()) {
    const { offset, bytes, tensor } = chunk;
    yield { chunk, bytes: tensors[tensor]!.data.slice(offset, offset + bytes) };
  }
}

/** Writes the first chunks as a transfer does: several at once where the sink says so, each buffer used again after. */
async function write(sink: ModelSink, model: SinkModel, chunks: number): Promise<void> {
  const writing: Promise<void>[] = [];
  for (const { chunk, bytes } of chunksOf(model)) {
    if (chunk.ordinal >= chunks) break;
    const place = (await sink.place?.(chunk, bytes.length)) as Uint8Array | undefined;
    place?.set(bytes);
    const written = sink.write(chunk, place ?? bytes);
    const reuse = (): void => void bytes.fill(0xee);
    if (!written) reuse();
    else writing.push(written.then(reuse));
    if (!sink.parallel) await written;
  }
  await Promise.all(writing);
}
