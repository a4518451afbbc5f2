import { join } from "node:path";
import { BufferPool } from "@tensorwire/core";
import { afterEach, describe, expect, test, vi } from "vitest";
import { memoryChannelPair, receiveModel, type StreamOptions, streamModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { collect } from "./transfer-fixture.js";
import { backend, registry, scratch } from "./packing-fixture.js";

checksLoans();
afterEach(() => vi.restoreAllMocks());

const W = 1 << 20;
const C = 128 << 10;
const KiB = 1024;
/** Chunks that a sender holds: docs/limits.md. */
const L = Math.min(W / 2, 4 * C);
/** Full chunks, of which many windows go through. */
const ELEMENTS = (64 * C) / 4;

/** Bytes that the pools of both ends come to hold. */
function watchPools(): () => number {
  const pools = new Set<BufferPool>();
  const { lend } = BufferPool.prototype;
  vi.spyOn(BufferPool.prototype, "lend").mockImplementation(function (this: BufferPool, bytes) {
    pools.add(this);
    return lend.call(this, bytes);
  });
  return () => [...pools].reduce((sum, { heldBytes }) => sum + heldBytes, 0);
}

interface Case {
  readonly options: StreamOptions;
  /** Payload / source. */
  readonly r: number;
  readonly broken?: boolean;
  /** What the sender's table adds for it. */
  readonly sending: number;
  readonly receiving: number;
}

const slabs = 2 * C + C;
const nf4 = 0.1406;
const cases: Record<string, Case> = {
  "none, packed": {
    options: { codec: "none", compress: "auto" },
    r: 1,
    sending: C + 256 * KiB + (L + C + 256 * KiB),
    receiving: W / 4,
  },
  lossless: {
    options: { codec: "lossless" },
    r: 1,
    sending: 2 * (L + C + 256 * KiB),
    receiving: W / 4,
  },
  "normfloat4, packed": {
    options: { codec: "normfloat4", compress: "auto" },
    r: nf4,
    sending: 2 * (nf4 * (L + C) + 256 * KiB),
    receiving: nf4 * (W / 4),
  },
  "normfloat4 whose chunks all fall back": {
    options: { codec: "normfloat4" },
    broken: true,
    r: 1,
    sending: nf4 * (L + C) + 256 * KiB + 2 * (L + C),
    receiving: W / 4,
  },
};

describe("both ends hold what docs/limits.md says, and not the model", () => {
  test.each(Object.entries(cases))("%s", async (_, { options, r, broken, sending, receiving }) => {
    const data = Float32Array.from({ length: ELEMENTS }, (_, i) => (i % 9000 < 6000 ? 0 : Math.sin(i)));
    if (broken) for (let i = 0; i < ELEMENTS; i += C / 4) data[i] = Number.NaN;
    const source = join(await scratch(), "model.twire");
    // From a file, so that its chunks take buffers too.
    const model = { weight: { dtype: "F32", shape: [ELEMENTS], data } } as const;
    await streamModel(model, source, { registry, backend, chunkBytes: C });
    const held = watchPools();
    const [a, b] = memoryChannelPair();
    const received = receiveModel(b, { registry, backend, windowBytes: W });
    const [, sent] = await Promise.all([
      collect(received),
      streamModel(source, a, { registry, backend, windowBytes: W, ...options }),
    ]);
    expect(sent.packedChunks).toBe(64);
    const sender = L + C + sending + Math.max(C, 1 << 20) + slabs;
    const receiver = r * W + receiving + W / 4 + C + (W / 4 + C) + slabs;
    expect(held()).toBeLessThanOrEqual(sender + receiver);
  });
});
