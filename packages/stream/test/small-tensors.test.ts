import { expect, test } from "vitest";
import { fromTensors, memoryChannelPair, receiveModel, streamModel, type Tensor } from "../src/index.js";

const TENSORS: readonly Tensor[] = Array.from({ length: 2000 }, (_, i) => ({
  name: `t${i}`,
  dtype: "F32",
  shape: [256],
  data: new Float32Array(256).fill(i),
}));

test.each([
  { from: "an iterable", source: () => fromTensors(TENSORS, TENSORS) },
  { from: "a map", source: () => Object.fromEntries(TENSORS.map((tensor) => [tensor.name, tensor])) },
])("small tensors of $from share frames, a quarter of a MiB in each", async ({ source }) => {
  const [a, b] = memoryChannelPair();
  const send = a.send.bind(a);
  let sends = 0;
  a.send = (parts) => {
    sends++;
    return send(parts);
  };
  const model = receiveModel(b);
  const sending = streamModel(source(), a);
  let tensors = 0;
  for await (const { data } of model) {
    expect(new Float32Array(data.buffer, data.byteOffset, 256)[255]).toBe(tensors);
    tensors++;
  }
  const { sourceBytes } = await sending;
  expect(tensors).toBe(2000);
  // HELLO, MANIFEST, END, and a first frame that did not wait for more.
  expect(sends).toBeLessThanOrEqual(Math.ceil(sourceBytes / (256 * 1024)) + 4);
});
