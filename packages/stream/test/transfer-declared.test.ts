import type { Tensor, TensorwireError } from "@tensorwire/core";
import { expect, test } from "vitest";
import { fromTensors, memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { collect, mixed } from "./transfer-fixture.js";

test("declared tensors are asked for one by one, when there is credit", async () => {
  const tensors = Object.entries(mixed).map(([name, tensor]) => ({ ...tensor, name }) as Tensor);
  let asked = 0;
  async function* yielded(): AsyncGenerator<Tensor> {
    for (const tensor of tensors) {
      asked++;
      yield tensor;
    }
  }
  const [a, b] = memoryChannelPair();
  const sending = streamModel(fromTensors(tensors, yielded()), a, { chunkBytes: 32768, windowBytes: 65536 });
  const received = receiveModel(b, { windowBytes: 65536 });
  const iterator = received[Symbol.asyncIterator]();
  expect((await received.manifest).tensors.length).toBe(tensors.length);
  expect(asked).toBe(0);
  await iterator.next();
  await new Promise((resolve) => setTimeout(resolve, 100));
  // The window is 64 KiB: the tensors up to "double" fill it, and nobody has asked for the second one yet.
  expect(asked).toBeGreaterThan(2);
  expect(asked).toBeLessThan(tensors.length - 3);
  const rest = await collect(iterator);
  await Promise.all([sending, received.done]);
  expect(rest.size).toBe(tensors.length - 1);
});

test("a yielded tensor that disagrees, comes too much or is missing is SOURCE_MISMATCH at the sender", async () => {
  const infos = [
    { name: "a", dtype: "F32", shape: [2] },
    { name: "b", dtype: "F32", shape: [2] },
  ] as const;
  const good = (name: string) => ({ name, dtype: "F32" as const, shape: [2], data: new Float32Array(2) });
  const cases: Tensor[][] = [
    [good("a")],
    [good("b"), good("a")],
    [good("a"), { ...good("b"), shape: [1, 2] }],
    [good("a"), { ...good("b"), data: new Float32Array(3) }],
    [good("a"), good("b"), good("c")],
  ];
  for (const tensors of cases) {
    const [a, b] = memoryChannelPair();
    const received = receiveModel(b);
    const results = await Promise.allSettled([
      streamModel(fromTensors(infos, tensors), a),
      collect(received),
      received.done,
    ]);
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    const [sent, , done] = results.map(
      (result) => (result as PromiseRejectedResult).reason as TensorwireError,
    );
    expect(sent).toMatchObject({ code: "SOURCE_MISMATCH" });
    expect(done).toMatchObject({ code: "PEER_FAILED", peerCode: "SOURCE_MISMATCH" });
    await Promise.all([a.close(), b.close()]);
  }
});

test("bare iterables are refused with the advice to declare them", async () => {
  const [a] = memoryChannelPair();
  const named = { name: "w", dtype: "F32", shape: [1], data: new Float32Array(1) };
  for (const bare of [[named], new Set(), (function* () {})()]) {
    await expect(streamModel(bare as never, a)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("fromTensors"),
    });
  }
});
