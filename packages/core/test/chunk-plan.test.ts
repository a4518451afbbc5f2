import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  byteLength,
  CHUNK_ALIGNMENT,
  type Chunk,
  ChunkPlan,
  chunkElements,
  DTYPE_BITS,
  type DType,
  elementCount,
  MAX_CHUNK_BYTES,
  MIN_CHUNK_BYTES,
  type TensorInfo,
} from "../src/index.js";

const DTYPES = Object.keys(DTYPE_BITS) as DType[];
const MiB = 1024 * 1024;

const one = (dtype: DType, ...shape: number[]): TensorInfo => ({ name: "t", dtype, shape });

/** Tensors of any dtype, many of them empty or scalars, some of several chunks. */
const tensors: fc.Arbitrary<TensorInfo[]> = fc.array(
  fc
    .record({
      dtype: fc.constantFrom(...DTYPES),
      elements: fc.oneof(
        fc.constant(0),
        fc.constantFrom(1, CHUNK_ALIGNMENT - 1, CHUNK_ALIGNMENT, CHUNK_ALIGNMENT + 1),
        fc.nat(300_000),
      ),
    })
    .map(({ dtype, elements }) => one(dtype, DTYPE_BITS[dtype] < 8 ? Math.ceil(elements / 8) * 8 : elements)),
  { maxLength: 12 },
);
const chunkBytes = fc.integer({ min: MIN_CHUNK_BYTES, max: 3 * MIN_CHUNK_BYTES });

/** What must hold for `chunks` to be the whole of `infos`, each element once. */
function expectCover(infos: readonly TensorInfo[], plan: ChunkPlan, chunks: readonly Chunk[]): void {
  let ordinal = 0;
  let bytes = 0;
  let largest = 0;
  infos.forEach((info, tensor) => {
    const elements = elementCount(info.shape);
    expect(plan.range(tensor).first).toBe(ordinal);
    let first = 0;
    for (let index = 0; index < plan.range(tensor).count; index++) {
      const chunk = chunks[ordinal]!;
      expect(chunk).toEqual({
        ordinal,
        tensor,
        index,
        first,
        offset: byteLength(info.dtype, first),
        elements: chunk.elements,
        bytes: byteLength(info.dtype, chunk.elements),
      });
      expect(chunk.elements).toBeGreaterThan(0);
      expect(chunk.bytes).toBeLessThanOrEqual(plan.chunkBytes);
      expect(chunk.first % CHUNK_ALIGNMENT).toBe(0);
      first += chunk.elements;
      bytes += chunk.bytes;
      largest = Math.max(largest, chunk.bytes);
      ordinal++;
    }
    expect(first).toBe(elements);
  });
  expect([plan.chunks, plan.bytes, plan.maxChunkBytes]).toEqual([ordinal, bytes, largest]);
  expect(chunks).toHaveLength(ordinal);
}

describe("ChunkPlan", () => {
  it("covers every element once, in order, in aligned chunks", () => {
    fc.assert(
      fc.property(tensors, chunkBytes, (infos, size) => {
        const plan = new ChunkPlan(infos, size);
        expectCover(infos, plan, [...plan.walk()]);
      }),
      { numRuns: 200 },
    );
  });

  it("gives the same chunk by its ordinal as on the walk", () => {
    fc.assert(
      fc.property(tensors, chunkBytes, (infos, size) => {
        const plan = new ChunkPlan(infos, size);
        for (const chunk of plan.walk()) expect(plan.chunk(chunk.ordinal)).toEqual(chunk);
      }),
    );
  });

  it("walks the ranges that it is given", () => {
    fc.assert(
      fc.property(tensors, chunkBytes, fc.array(fc.tuple(fc.nat(4), fc.nat(5))), (infos, size, steps) => {
        const plan = new ChunkPlan(infos, size);
        const all = [...plan.walk()];
        const ranges = [];
        let next = 0;
        for (const [gap, count] of steps) {
          if (next + gap + count > plan.chunks) break;
          ranges.push({ first: next + gap, count });
          next += gap + count;
        }
        const expected = ranges.flatMap(({ first, count }) => all.slice(first, first + count));
        expect([...plan.walk(ranges)]).toEqual(expected);
      }),
    );
  });

  it("gives empty tensors no chunks, wherever they are", () => {
    const empty = one("F32", 0, 4);
    const scalar = one("F64");
    const infos = [empty, empty, scalar, empty, scalar, empty, empty];
    const plan = new ChunkPlan(infos, MIN_CHUNK_BYTES);
    expect([...plan.walk()].map(({ tensor }) => tensor)).toEqual([2, 4]);
    expect(infos.map((_, i) => plan.range(i))).toEqual([
      { first: 0, count: 0 },
      { first: 0, count: 0 },
      { first: 0, count: 1 },
      { first: 1, count: 0 },
      { first: 1, count: 1 },
      { first: 2, count: 0 },
      { first: 2, count: 0 },
    ]);
    expect([plan.chunk(0).tensor, plan.chunk(1).tensor]).toEqual([2, 4]);
    for (const infos of [[], [empty], [empty, empty]]) {
      const none = new ChunkPlan(infos, MIN_CHUNK_BYTES);
      expect([none.chunks, none.bytes, none.maxChunkBytes, [...none.walk()]]).toEqual([0, 0, 0, []]);
    }
  });

  it.each(DTYPES)("cuts %s into the largest aligned chunks that fit", (dtype) => {
    for (const size of [MIN_CHUNK_BYTES, 100_000, 4 * MiB, 4 * MiB - 1, 512 * MiB, MAX_CHUNK_BYTES]) {
      const elements = chunkElements(dtype, size);
      expect(elements % CHUNK_ALIGNMENT).toBe(0);
      expect(elements).toBeGreaterThan(0);
      expect(elements).toBeLessThanOrEqual(2 ** 32 - 1);
      expect(byteLength(dtype, elements)).toBeLessThanOrEqual(size);
      const more = byteLength(dtype, elements + CHUNK_ALIGNMENT);
      if (elements < 2 ** 31) expect(more).toBeGreaterThan(size);
    }
  });

  it.each<[string, TensorInfo, number]>([
    ["2^31 bytes and a bit", one("I8", 2 ** 31 + 5), 4 * MiB],
    ["2^32 bytes and a bit", one("U8", 2 ** 32 + 1), 4 * MiB],
    ["5 GiB of I8", one("I8", 5, 1024, 1024, 1024), 4 * MiB],
    ["2^31 elements of F32", one("F32", 2 ** 31), 4 * MiB],
    ["2^32 elements and a bit of F64", one("F64", 2 ** 32 + 4097), MiB],
    ["2^33 elements of F4", one("F4", 2 ** 33), 3 * MiB + 17],
    ["2^33 elements of F6", one("F6_E2M3", 2 ** 33 + 4), MiB],
    ["2^40 elements of BF16", one("BF16", 2 ** 20, 2 ** 20), 512 * MiB],
    ["nearly 2^53 bytes", one("U8", 2 ** 53 - 13), 512 * MiB],
    ["2^53 - 2 elements of 4 bits", one("F4", 2 ** 53 - 2), MAX_CHUNK_BYTES],
  ])("computes with integers of any size: %s", (_what, info, size) => {
    // A small neighbour in front, so that its own offsets and ordinals are not the same numbers.
    const plan = new ChunkPlan([one("F32", 3), info], size);
    const bits = BigInt(DTYPE_BITS[info.dtype]);
    const elements = info.shape.reduce((product, dimension) => product * BigInt(dimension), 1n);
    const perChunk = BigInt(chunkElements(info.dtype, size));
    const count = (elements + perChunk - 1n) / perChunk;
    expect(plan.range(1)).toEqual({ first: 1, count: Number(count) });
    expect(BigInt(plan.bytes)).toBe(12n + (elements * bits) / 8n);
    for (const index of [0n, 1n, count / 3n, count / 2n, count - 2n, count - 1n]) {
      if (index < 0n || index >= count) continue;
      const first = index * perChunk;
      const own = index === count - 1n ? elements - first : perChunk;
      const expected = {
        ordinal: Number(index) + 1,
        tensor: 1,
        index: Number(index),
        first: Number(first),
        offset: Number((first * bits) / 8n),
        elements: Number(own),
        bytes: Number((own * bits) / 8n),
      };
      expect(plan.chunk(Number(index) + 1)).toEqual(expected);
      expect([...plan.walk([{ first: Number(index) + 1, count: 1 }])]).toEqual([expected]);
      expect(BigInt(expected.first)).toBe(first);
    }
  });

  it("cuts 100,000 tensors", () => {
    const infos = Array.from({ length: 100_000 }, (_, i) => one("F32", i % 5));
    const plan = new ChunkPlan(infos, MIN_CHUNK_BYTES);
    expect(plan.chunks).toBe(80_000);
    expect(plan.chunk(79_999)).toMatchObject({ tensor: 99_999, elements: 4 });
    expect([...plan.walk()]).toHaveLength(80_000);
  });

  it.each([0, 1, MIN_CHUNK_BYTES - 1, MAX_CHUNK_BYTES + 1, -1, 100_000.5, Number.NaN, Infinity, 2 ** 53])(
    "refuses chunks of %s bytes",
    (size) => {
      expect(() => new ChunkPlan([], size)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    },
  );

  it("refuses models of more bytes than numbers can count", () => {
    const half = one("U8", 2 ** 52);
    expect(new ChunkPlan([half], MiB).bytes).toBe(2 ** 52);
    for (const infos of [[half, half], [one("F64", 2 ** 51)], [one("F32", 2 ** 30, 2 ** 30)]]) {
      expect(() => new ChunkPlan(infos, MiB)).toThrow(expect.objectContaining({ code: "LIMIT_EXCEEDED" }));
    }
  });

  it("has no chunks but those of its plan", () => {
    const plan = new ChunkPlan([one("F32", 20_000), one("F32", 1)], MIN_CHUNK_BYTES);
    expect(plan.chunks).toBe(4);
    const internal = expect.objectContaining({ code: "INTERNAL" });
    for (const ordinal of [-1, 4, 1.5, Number.NaN]) expect(() => plan.chunk(ordinal)).toThrow(internal);
    expect(() => [...plan.walk([{ first: 2, count: 3 }])]).toThrow(internal);
    expect(() => new ChunkPlan([one("F32", 0)], MIN_CHUNK_BYTES).chunk(0)).toThrow(internal);
  });
});
