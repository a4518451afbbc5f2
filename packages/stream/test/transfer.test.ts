import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer, connect as dialTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TransformStream } from "node:stream/web";
import {
  byteLength,
  type DType,
  defaultCodecs,
  elementCount,
  type FloatDType,
  isFloatDType,
  type Tensor,
  type TensorwireError,
} from "@tensorwire/core";
import { afterEach, describe, expect, test } from "vitest";
import {
  type Destination,
  type DialOptions,
  duplexChannel,
  fromTensors,
  type Listener,
  type ListenOptions,
  listen,
  memoryChannelPair,
  type Origin,
  type ReceivedTensor,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TensorMap,
  type TensorValue,
} from "../src/index.js";

import { arriving } from "./arriving.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const authority = hasOpenssl ? makeAuthority() : undefined;

async function listening(options: ListenOptions): Promise<Listener> {
  const listener = await listen(options);
  closers.push(() => listener.close());
  return listener;
}

/** Each way for two ends to meet: where one sends to, the other receives from, and how either dials. */
const meetings: Record<string, () => Promise<[Destination, Origin, DialOptions?]>> = {
  memory: async () => memoryChannelPair(10_007),
  "websocket, receiver listens": async () => {
    const listener = await listening({});
    return [listener.url, listener];
  },
  "websocket, sender listens": async () => {
    const listener = await listening({});
    return [listener, listener.url];
  },
  "http, receiver listens": async () => {
    const listener = await listening({ url: "http://127.0.0.1:0" });
    return [listener.url, listener];
  },
  "http, sender listens": async () => {
    const listener = await listening({ url: "http://127.0.0.1:0" });
    return [listener, listener.url];
  },
  "tcp, receiver listens": async () => {
    const listener = await listening({ url: "tcp://127.0.0.1:0" });
    return [listener.url, listener];
  },
  "unix, sender listens": async () => {
    const folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
    closers.push(() => rm(folder, { recursive: true }));
    const listener = await listening({ path: join(folder, "model.sock") });
    return [listener, listener.url];
  },
  ...(authority && {
    "tls, sender listens": async (): Promise<[Destination, Origin, DialOptions]> => {
      const { ca, server, client } = authority;
      const listener = await listening({ url: "tls://127.0.0.1:0", tls: { ca, ...server } });
      return [listener, listener.url, { tls: { ca, ...client } }];
    },
    "https, receiver listens": async (): Promise<[Destination, Origin, DialOptions]> => {
      const { ca, server, client } = authority;
      const listener = await listening({ url: "https://127.0.0.1:0", tls: { ca, ...server } });
      return [listener.url, listener, { tls: { ca, ...client } }];
    },
  }),
  "web streams": async () => {
    const [there, back] = [new TransformStream<Uint8Array>(), new TransformStream<Uint8Array>()];
    return [
      { readable: back.readable, writable: there.writable },
      { readable: there.readable, writable: back.writable },
    ];
  },
  "tcp sockets": async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
    const socket = dialTcp((server.address() as AddressInfo).port, "127.0.0.1");
    closers.push(
      () => server.close(),
      () => socket.destroy(),
    );
    return [duplexChannel(socket), await accepted];
  },
};

function floats(count: number, seed: number): Float32Array {
  return new Float32Array(count).map((_, i) => Math.sin(i * 12.9898 + seed) * 0.02 * (1 + (i % 7)));
}

function filled(
  dtype: DType,
  shape: number[],
  seed = 1,
): { dtype: DType; shape: number[]; data: Uint8Array } {
  const elements = elementCount(shape);
  if (!isFloatDType(dtype)) {
    const data = new Uint8Array(byteLength(dtype, elements)).map(
      (_, i) => (i * 31 + seed) & (dtype === "BOOL" ? 1 : 255),
    );
    return { dtype, shape, data };
  }
  const data = new Uint8Array(byteLength(dtype, elements));
  const source = new Uint8Array(floats(elements, seed).buffer);
  defaultCodecs.get("none").decode({ name: "none" }, "F32", elements, source, dtype, data);
  return { dtype, shape, data };
}

const mixed: TensorMap = {
  scalar: filled("F32", []),
  empty: filled("F32", [0, 4]),
  odd: filled("F32", [12_289]),
  half: filled("F16", [3, 4097]),
  brain: filled("BF16", [100, 101]),
  double: filled("F64", [8193]),
  whole: filled("F32", [64, 1024]),
  ids: filled("I64", [129]),
  mask: filled("BOOL", [77]),
  eighth: filled("F8_E4M3", [5000]),
  last: filled("BF16", [0]),
};

const given = (name: string): TensorValue => (mixed as Record<string, TensorValue>)[name]!;

async function collect(tensors: AsyncIterable<ReceivedTensor>): Promise<Map<string, ReceivedTensor>> {
  const got = new Map<string, ReceivedTensor>();
  for await (const tensor of tensors) got.set(tensor.name, { ...tensor, data: tensor.data.slice() });
  return got;
}

const codecs = defaultCodecs.names();

describe.each(Object.keys(meetings))("over %s", (meeting) => {
  test.each(codecs)(
    "%s arrives as the codec makes each tensor whole, whatever the chunk size",
    async (name) => {
      const spec = defaultCodecs.resolve(name);
      for (const chunkBytes of [32768, 40_000, 65_536, 1 << 20]) {
        for (const borrow of [false, true]) {
          const [destination, origin, dial] = await meetings[meeting]!();
          const options = { codec: name, minElements: 0, chunkBytes, dial };
          const received = receiveModel(origin, { borrow, dial });
          const [got, sent] = await Promise.all([
            collect(received),
            streamModel(mixed, destination, options),
          ]);
          const summary = await received.done;
          expect([...got.keys()]).toEqual(Object.keys(mixed));
          for (const [tensor, { data, shape, dtype }] of got) {
            const where = `${tensor} in chunks of ${chunkBytes}`;
            expect({ shape, dtype }, where).toEqual({
              shape: given(tensor).shape,
              dtype: given(tensor).dtype,
            });
            const expected = arriving({ ...given(tensor), name: tensor } as Tensor, spec, chunkBytes);
            expect(Buffer.compare(data, expected), where).toBe(0);
          }
          expect(sent).toMatchObject({
            confirmed: true,
            digest: summary.digest,
            fallbackChunks: sent.declinedChunks,
            wireBytes: summary.wireBytes,
          });
        }
      }
    },
  );
});

const over = async (options: StreamOptions, source: TensorMap, output?: FloatDType) => {
  const [a, b] = memoryChannelPair();
  const received = receiveModel(b, { outputDtype: output });
  const [got, sent] = await Promise.all([collect(received), streamModel(source, a, options)]);
  return { got, sent, summary: await received.done };
};

test("values that a codec cannot carry travel exactly, chunk by chunk, and are counted", async () => {
  const data = floats(3 * 8192, 5);
  data[8192] = Number.NaN;
  data[2 * 8192 + 1] = Number.NEGATIVE_INFINITY;
  const { got, sent, summary } = await over(
    { codec: "blockwise8", minElements: 0, chunkBytes: 32768 },
    { weight: { dtype: "F32", shape: [data.length], data } },
  );
  const out = new Float32Array(got.get("weight")!.data.buffer);
  expect(Object.is(out[8192], Number.NaN)).toBe(true);
  expect(Buffer.compare(Buffer.from(out.buffer, 32768, 65536), Buffer.from(data.buffer, 32768, 65536))).toBe(
    0,
  );
  expect(out.subarray(0, 8192)).not.toEqual(data.subarray(0, 8192));
  for (const each of [sent, summary]) {
    expect(each).toMatchObject({
      fallbackChunks: 2,
      codecs: { lossless: { tensors: 0, sourceBytes: 65536 } },
    });
  }
});

test("float16 clamps finite overflow, and both ends know how often", async () => {
  const data = floats(8192, 3);
  data[17] = 1e6;
  data[8000] = -7e4;
  const { got, sent, summary } = await over(
    { codec: "float16", minElements: 0 },
    { weight: { dtype: "F32", shape: [8192], data } },
  );
  const out = new Float32Array(got.get("weight")!.data.buffer);
  expect([out[17], out[8000]]).toEqual([65504, -65504]);
  expect([sent.clamped, summary.clamped]).toEqual([2, 2]);
});

test("an artifact that is sent on keeps its codecs, its digest and what its encoder counted", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
  closers.push(() => rm(folder, { recursive: true }));
  const path = join(folder, "model.twire");
  const data = floats(20_000, 3);
  data[17] = 1e6;
  const packed = await streamModel({ weight: { dtype: "F32", shape: [20_000], data } }, path, {
    codec: "float16",
    chunkBytes: 32_768,
  });
  const [a, b] = memoryChannelPair();
  const received = receiveModel(b);
  const [, sent] = await Promise.all([collect(received), streamModel(path, a)]);
  for (const summary of [packed, sent, await received.done]) {
    expect(summary).toMatchObject({ clamped: 1, chunks: 3, digest: packed.digest, codeBytes: 40_000 });
  }
  // Its chunks are what they are: a window of less than two of them is refused by whoever has it.
  const [c, d] = memoryChannelPair();
  const small = receiveModel(d, { windowBytes: 65_536 });
  await expect(streamModel(path, c, { chunkBytes: 40_000 })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
  await d.close(new Error("nobody came"));
  await expect(small.done).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
});

test("outputDtype converts floats, quantized or not, and leaves the rest", async () => {
  const { got } = await over({ codec: "normfloat4" }, mixed, "BF16");
  expect(Object.fromEntries([...got].map(([name, { dtype }]) => [name, dtype]))).toMatchObject({
    odd: "BF16",
    double: "BF16",
    scalar: "BF16",
    ids: "I64",
    eighth: "F8_E4M3",
  });
  expect(got.get("whole")!.data.length).toBe(64 * 1024 * 2);
});

test("chunks are lent one by one, and tell where they belong", async () => {
  const [a, b] = memoryChannelPair();
  const received = receiveModel(b);
  const sending = streamModel(mixed, a, { chunkBytes: 32768 });
  const parts = new Map<string, Buffer>();
  for await (const { name, offset, data, last } of received.chunks()) {
    const before = parts.get(name) ?? Buffer.alloc(0);
    expect(offset).toBe(before.length);
    parts.set(name, Buffer.concat([before, data]));
    if (last) expect(parts.get(name)!.length).toBe(given(name).data.byteLength);
  }
  for (const [name, bytes] of parts) expect(bytes.equals(given(name).data as Uint8Array), name).toBe(true);
  expect((await sending).digest).toBe((await received.done).digest);
});

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

test("one open channel carries transfers one after another, and both ways at once", async () => {
  const [a, b] = memoryChannelPair();
  const small: TensorMap = { w: filled("F32", [5000]) };
  for (let round = 0; round < 3; round++) {
    const down = receiveModel(b);
    const up = receiveModel(a);
    const [one, other] = await Promise.all([
      collect(down),
      collect(up),
      streamModel(small, a, { codec: "blockwise8" }),
      streamModel(small, b, { codec: "float16" }),
    ]);
    expect([one.size, other.size]).toEqual([1, 1]);
    await Promise.all([up.done, down.done]);
  }
});

test("a consumer that stops early ends the transfer on both sides", async () => {
  const [a, b] = memoryChannelPair();
  const sending = streamModel(mixed, a, { chunkBytes: 32768, windowBytes: 65536 });
  const received = receiveModel(b, { windowBytes: 65536 });
  for await (const _ of received) break;
  await expect(received.done).rejects.toMatchObject({ code: "SINK_CLOSED" });
  await expect(sending).rejects.toMatchObject({ code: "PEER_FAILED", peerCode: "SINK_CLOSED" });
});

test("two ends with the same role say so", async () => {
  const listener = await listen();
  closers.push(() => listener.close());
  const waiting = streamModel(mixed, listener, { signal: AbortSignal.timeout(2000) });
  await expect(streamModel(mixed, listener.url)).rejects.toMatchObject({
    code: expect.stringMatching(/ROLE_CONFLICT|PEER_FAILED/),
  });
  await expect(waiting).rejects.toMatchObject({ code: "ABORTED" });
});

test("a signal that aborts, before or in the middle, ends both sides with ABORTED", async () => {
  for (const when of [0, 1, 3]) {
    const [a, b] = memoryChannelPair();
    const controller = new AbortController();
    if (when === 0) controller.abort(new Error("not today"));
    const sending = streamModel(mixed, a, {
      signal: controller.signal,
      chunkBytes: 32768,
      windowBytes: 65536,
    });
    const received = receiveModel(b, { windowBytes: 65536 });
    let tensors = 0;
    const iterating = (async () => {
      for await (const _ of received) if (++tensors === when) controller.abort(new Error("not today"));
    })();
    await expect(sending).rejects.toMatchObject({
      code: "ABORTED",
      message: expect.stringContaining("not today"),
    });
    if (when === 0) await b.close(new Error("nobody came"));
    await expect(iterating).rejects.toMatchObject({ code: when === 0 ? "CHANNEL_CLOSED" : "ABORTED" });
  }
});

test("bare iterables are refused with the advice to declare them", async () => {
  const [a] = memoryChannelPair();
  for (const bare of [[], new Set(), (function* () {})()]) {
    await expect(streamModel(bare as never, a)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("fromTensors"),
    });
  }
});
