import { afterEach, expect, test } from "vitest";
import { fromTensors, type Listener, listen, receiveModel, streamModel, type Tensor } from "../src/index.js";

let listener: Listener | undefined;

afterEach(async () => {
  await listener?.close();
  listener = undefined;
});

const CHUNK_BYTES = 256 * 1024;

/** Tensors of one size, the elements of each all its own index, made in one buffer that the next one overwrites. */
function* inOneBuffer(count: number, elements: number): Generator<Tensor> {
  const data = new Float32Array(elements);
  for (let i = 0; i < count; i++) {
    data.fill(i);
    yield { name: `t${i}`, dtype: "F32", shape: [elements], data };
  }
}

const infos = (count: number, elements: number) =>
  Array.from({ length: count }, (_, i) => ({ name: `t${i}`, dtype: "F32" as const, shape: [elements] }));

// Both codecs keep small integers as they are; one sends the caller's memory itself, the other reads it on a worker thread.
test.each([
  { codec: "none", count: 12, elements: 1_000_003 },
  { codec: "float16", count: 12, elements: 1_000_003 },
  { codec: "none", count: 2000, elements: 251 },
  { codec: "none", count: 200, elements: 16_385 },
])("a caller may make each of $count tensors in the memory of the one before, with $codec", async (given) => {
  const { codec, count, elements } = given;
  listener = await listen();
  const model = receiveModel(listener, { borrow: true });
  const source = fromTensors(infos(count, elements), inOneBuffer(count, elements));
  const sending = streamModel(source, listener.url, { codec, minElements: 0, chunkBytes: CHUNK_BYTES });
  const seen: number[] = [];
  for await (const { data } of model) {
    const values = new Float32Array(data.buffer, data.byteOffset, elements);
    const first = values[0]!;
    seen.push(values.every((value) => value === first) ? first : Number.NaN);
  }
  await Promise.all([sending, model.done]);
  expect(seen).toEqual(Array.from({ length: count }, (_, i) => i));
});
