import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  ChunkPlan,
  formatDigest,
  formatSha256,
  MIN_CHUNK_BYTES,
  sameSha256,
  type TensorInfo,
  TransferDigest,
  xxh64,
} from "../src/index.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

const INFOS: readonly TensorInfo[] = [
  { name: "a", dtype: "F32", shape: [20_000] },
  { name: "empty", dtype: "F32", shape: [0] },
  { name: "b", dtype: "U8", shape: [] },
  { name: "c", dtype: "F64", shape: [3, 4096] },
];
const plan = new ChunkPlan(INFOS, MIN_CHUNK_BYTES);
const manifest = bytes("the manifest");

/** Hash and codec of each chunk, in some order. */
const hashOf = (ordinal: number): bigint => xxh64(Uint8Array.of(ordinal));
const codecOf = (ordinal: number): number => (ordinal * 3) % 5;

function digestOf(order: readonly number[], change?: (digest: TransferDigest) => void): TransferDigest {
  const digest = new TransferDigest(plan);
  for (const ordinal of order) digest.add(ordinal, codecOf(ordinal), hashOf(ordinal));
  change?.(digest);
  return digest;
}

const inOrder = [...plan.walk()].map(({ ordinal }) => ordinal);

describe("xxh64", () => {
  it("gives the specification's values", () => {
    expect(xxh64()).toBe(0xef46db3751d8e999n);
    expect(xxh64(bytes("abc"))).toBe(0x44bc2cf5ad770999n);
    expect(xxh64(bytes("The quick brown fox jumps over the lazy dog"))).toBe(0x0b242d361fda71bcn);
  });

  it("is over the concatenation of its parts, however it is cut", () => {
    const whole = Uint8Array.from({ length: 200_000 }, (_, i) => (i * 31) % 251);
    fc.assert(
      fc.property(fc.array(fc.nat(whole.length), { maxLength: 5 }), (places) => {
        const cuts = [0, ...places.sort((a, b) => a - b), whole.length];
        const parts = cuts.slice(1).map((end, i) => whole.subarray(cuts[i], end));
        expect(xxh64(...parts)).toBe(xxh64(whole));
      }),
    );
  });
});

describe("TransferDigest", () => {
  it("is what the wire format says, computed in another way", () => {
    const parts: Buffer[] = INFOS.map((_, i) => {
      const { first, count } = plan.range(i);
      const chunks = inOrder.slice(first, first + count).map((ordinal) => {
        const entry = Buffer.alloc(10);
        entry.writeUInt16LE(codecOf(ordinal), 0);
        entry.writeBigUInt64LE(hashOf(ordinal), 2);
        return entry;
      });
      const digest = Buffer.alloc(8);
      digest.writeBigUInt64LE(xxh64(Buffer.concat(chunks)));
      return digest;
    });
    const expected = xxh64(Buffer.concat([manifest, ...parts]));
    expect(digestOf(inOrder).transfer(manifest, INFOS.length)).toBe(expected);
    // Of this version of the wire format, for good.
    expect(formatDigest(expected)).toBe("63d315499b2b8761");
  });

  it("does not depend on the order of arrival", () => {
    const expected = digestOf(inOrder).transfer(manifest, INFOS.length);
    fc.assert(
      fc.property(fc.shuffledSubarray(inOrder, { minLength: inOrder.length }), (order) => {
        expect(digestOf(order).transfer(manifest, INFOS.length)).toBe(expected);
      }),
    );
  });

  it("changes with any hash, any codec and any byte of the manifest", () => {
    const all = new Set([digestOf(inOrder).transfer(manifest, INFOS.length)]);
    for (const ordinal of inOrder) {
      const hash = digestOf(inOrder, (digest) => digest.add(ordinal, codecOf(ordinal), hashOf(ordinal) ^ 1n));
      const codec = digestOf(inOrder, (digest) => digest.add(ordinal, codecOf(ordinal) + 1, hashOf(ordinal)));
      all.add(hash.transfer(manifest, INFOS.length)).add(codec.transfer(manifest, INFOS.length));
    }
    all.add(digestOf(inOrder).transfer(bytes("the manifesu"), INFOS.length));
    expect(all.size).toBe(2 * inOrder.length + 2);
  });

  it("tells swapped chunks, within a tensor and between two", () => {
    const expected = digestOf(inOrder).transfer(manifest, INFOS.length);
    const last = inOrder.length - 1;
    for (const [a, b] of [
      [0, 1],
      [0, last],
    ] as const) {
      const swapped = digestOf(inOrder, (digest) => {
        digest.add(a, codecOf(b), hashOf(b));
        digest.add(b, codecOf(a), hashOf(a));
      });
      expect(swapped.transfer(manifest, INFOS.length)).not.toBe(expected);
    }
  });

  it("verifies a tensor alone", () => {
    const { first, count } = plan.range(3);
    const alone = new TransferDigest(plan);
    for (let ordinal = first; ordinal < first + count; ordinal++) {
      alone.add(ordinal, codecOf(ordinal), hashOf(ordinal));
    }
    const whole = digestOf(inOrder);
    expect(alone.tensor(3)).toBe(whole.tensor(3));
    expect(alone.tensor(0)).not.toBe(whole.tensor(0));
    expect(whole.tensor(1)).toBe(xxh64());
  });

  it("of a part is over its chunks alone, and that of all of them is the whole's", () => {
    const whole = digestOf(inOrder).transfer(manifest, INFOS.length);
    fc.assert(
      fc.property(fc.shuffledSubarray(inOrder), (part) => {
        const tensors = INFOS.map((_, i) => {
          const { first, count } = plan.range(i);
          const mine = inOrder.filter((o) => o >= first && o < first + count && part.includes(o));
          const entries = mine.map((ordinal) => {
            const entry = Buffer.alloc(10);
            entry.writeUInt16LE(codecOf(ordinal), 0);
            entry.writeBigUInt64LE(hashOf(ordinal), 2);
            return entry;
          });
          const tensor = Buffer.alloc(8);
          tensor.writeBigUInt64LE(xxh64(Buffer.concat(entries)));
          return tensor;
        });
        const expected = xxh64(Buffer.concat([manifest, ...tensors]));
        expect(digestOf(part).transfer(manifest, INFOS.length)).toBe(expected);
        expect(expected === whole).toBe(part.length === inOrder.length);
      }),
    );
  });

  it("keeps all 16 bits of a codec's number and all 64 of a hash", () => {
    const highest = (codec: number, hash: bigint): bigint => {
      const digest = new TransferDigest(plan);
      digest.add(0, codec, hash);
      return digest.tensor(0);
    };
    const all = [
      highest(0xfffe, 2n ** 64n - 1n),
      highest(0x7fff, 2n ** 64n - 1n),
      highest(0xfffe, 2n ** 63n - 1n),
    ];
    expect(new Set(all).size).toBe(3);
  });
});

describe("integrity sha256", () => {
  const sha256 = (...parts: readonly Uint8Array[]): Uint8Array =>
    new Uint8Array(createHash("sha256").update(Buffer.concat(parts)).digest());
  const sha256Of = (ordinal: number): Uint8Array => sha256(Uint8Array.of(ordinal));
  const strong = (order: readonly number[], change?: (digest: TransferDigest) => void): string => {
    const digest = new TransferDigest(plan, sha256);
    for (const ordinal of order) digest.add(ordinal, codecOf(ordinal), hashOf(ordinal), sha256Of(ordinal));
    change?.(digest);
    return formatSha256(digest.sha256(manifest, INFOS.length)!);
  };

  it("is what the wire format says, computed in another way", () => {
    const tensors = INFOS.map((_, i) => {
      const { first, count } = plan.range(i);
      const all = createHash("sha256");
      for (const ordinal of inOrder.slice(first, first + count)) {
        all.update(Uint8Array.of(codecOf(ordinal), 0)).update(sha256Of(ordinal));
      }
      return all.digest();
    });
    const expected = sha256(sha256(manifest), ...tensors);
    expect(strong(inOrder)).toBe(Buffer.from(expected).toString("hex"));
    // Of this version of the wire format, for good.
    expect(strong(inOrder)).toBe("6d6cc7f9193092b633a7420382bb21c865c177ff09d60ab6cac7856683e2bfab");
  });

  it("changes with any chunk, any codec and any byte of the manifest, and not with the order of arrival", () => {
    expect(strong(inOrder.toReversed())).toBe(strong(inOrder));
    const all = new Set([strong(inOrder)]);
    for (const ordinal of inOrder) {
      const hash = hashOf(ordinal);
      all.add(strong(inOrder, (d) => d.add(ordinal, codecOf(ordinal), hash, sha256Of(ordinal + 100))));
      all.add(strong(inOrder, (d) => d.add(ordinal, codecOf(ordinal) + 1, hash, sha256Of(ordinal))));
    }
    const digest = new TransferDigest(plan, sha256);
    for (const ordinal of inOrder) digest.add(ordinal, codecOf(ordinal), hashOf(ordinal), sha256Of(ordinal));
    all.add(formatSha256(digest.sha256(bytes("the manifesu"), INFOS.length)!));
    expect(all.size).toBe(2 * inOrder.length + 2);
  });

  it("leaves the other digest as it is, and there is none without it", () => {
    const digest = new TransferDigest(plan, sha256);
    for (const ordinal of inOrder) digest.add(ordinal, codecOf(ordinal), hashOf(ordinal), sha256Of(ordinal));
    const plain = digestOf(inOrder);
    expect(digest.transfer(manifest, INFOS.length)).toBe(plain.transfer(manifest, INFOS.length));
    expect(plain.sha256(manifest, INFOS.length)).toBeUndefined();
    expect([digest.integrity, plain.integrity]).toEqual(["sha256", "xxh64"]);
  });

  it("takes no chunk without its SHA-256", () => {
    expect(() => new TransferDigest(plan, sha256).add(1, 0, 0n)).toThrow(/chunk 1 .* has no SHA-256/);
  });

  it("are the same byte by byte, or both missing", () => {
    expect(sameSha256(sha256Of(1), sha256Of(1))).toBe(true);
    expect(sameSha256(undefined, undefined)).toBe(true);
    expect(sameSha256(sha256Of(1), undefined)).toBe(false);
    expect(sameSha256(sha256Of(1), sha256Of(2))).toBe(false);
    expect(sameSha256(sha256Of(1), sha256Of(1).subarray(0, 31))).toBe(false);
  });
});

describe("formatDigest", () => {
  it("is 16 digits, always", () => {
    expect(formatDigest(0n)).toBe("0000000000000000");
    expect(formatDigest(0xabcn)).toBe("0000000000000abc");
    expect(formatDigest(2n ** 64n - 1n)).toBe("ffffffffffffffff");
  });
});
