import { checkFrame, PortableBackend, unpackOnly, xxh64 } from "@tensorwire/core";
import { backendSuite, firstDifference, ordinary, pseudoRandom } from "@tensorwire/core/testing";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Addon, loadAddon } from "../src/addon.js";
import { loadNativeBackend, nodePacker } from "../src/index.js";
import { addonPath, built } from "./instruction-sets.js";

const addon = loadAddon(addonPath);
const NEEDS = {
  addon: "a C++ compiler when building",
  "zstd-napi": "zstd-napi",
  zlib: "Node 22.15",
} as const;

afterEach(() => {
  vi.unstubAllEnvs();
});

function named(name: string) {
  vi.stubEnv("TENSORWIRE_PACKER", name);
  try {
    return nodePacker(addon);
  } finally {
    vi.unstubAllEnvs();
  }
}

for (const name of ["addon", "zstd-napi", "zlib"] as const) {
  let here = true;
  try {
    named(name);
  } catch {
    here = false;
  }
  if (!here) {
    console.log(`SKIPPED: needs ${NEEDS[name]}: the portable backend with the packer ${name}`);
    it.skip(`the portable backend with the packer ${name}: needs ${NEEDS[name]}`, () => {});
    continue;
  }
  describe(`the packer ${name}`, () => {
    backendSuite(`portable, packed by ${name}`, () => new PortableBackend(undefined, named(name)), {
      names: ["none", "lossless"],
      packs: true,
    });

    it("makes frames that fit, or none", () => {
      const packer = named(name);
      const bytes = new Uint8Array(5000);
      const frame = new Uint8Array(5000);
      const length = packer.pack(bytes, frame);
      expect(length).toBeGreaterThan(0);
      expect(packer.pack(bytes, new Uint8Array(length - 1))).toBe(0);
      expect(packer.pack(bytes, new Uint8Array(0))).toBe(0);
      const back = new Uint8Array(5000).fill(1);
      packer.unpack(frame.subarray(0, length), back);
      expect(back).toEqual(bytes);
      for (const wrong of [4999, 5001, 0]) {
        expect(() => packer.unpack(frame.subarray(0, length), new Uint8Array(wrong))).toThrow();
      }
    });
  });
}

await unpackOnly.load!();

describe("nodePacker", () => {
  it("takes the best there is", () => {
    vi.stubEnv("TENSORWIRE_PACKER", "");
    const best = nodePacker(addon).name;
    expect(["addon", "zstd-napi", "zlib", "wasm"]).toContain(best);
    if (built?.packs) expect(best).toBe("addon");
    // An addon without libzstd is none.
    const without = nodePacker({ ...(addon as Addon), packs: false }).name;
    expect(without).toBe(nodePacker(new Error("there is no addon")).name);
    expect(without).not.toBe("addon");
  });

  it("takes the one that is asked for, or none", () => {
    expect(named("none").name).toBe("wasm");
    for (const name of ["gzip", "toString"]) {
      vi.stubEnv("TENSORWIRE_PACKER", name);
      expect(() => nodePacker(addon)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    }
    vi.stubEnv("TENSORWIRE_PACKER", "addon");
    expect(() => nodePacker(new Error("there is no addon"))).toThrow(/not here/);
  });

  it("leaves planes as they are where nothing packs", async () => {
    const backend = new PortableBackend(undefined, named("none"));
    const source = ordinary("BF16", 4096, 1);
    const [target, packed] = [new Uint8Array(8192), new Uint8Array(8192)];
    const job = {
      codec: { name: "lossless" },
      dtype: "BF16",
      elements: 4096,
      source,
      target,
      packed,
    } as const;
    expect((await backend.encode(job)).packedBytes).toBe(0);
  });
});

describe.runIf(built?.packs)("packing in the addon", () => {
  /** Bytes of which each comes half as often, or so, as the one before it. */
  const skewed = (length: number, symbols: number, base: number, seed: number) => {
    const random = pseudoRandom(seed);
    return Uint8Array.from(
      { length },
      () => base + Math.min(symbols - 1, Math.floor(-Math.log2(1 - random()) * 1.3)),
    );
  };
  const packer = () => nodePacker(addon);

  /** Type of the first block of a frame whose head has nine bytes: 0 as it is, 2 compressed. */
  const firstBlockType = (frame: Uint8Array) => (frame[9]! >> 1) & 3;

  /** The last number without and the first one with a property, which all that follow have too. */
  function bisected(without: number, having: number, has: (number: number) => boolean): [number, number] {
    if (having - without === 1) return [without, having];
    const middle = (without + having) >> 1;
    return has(middle) ? bisected(without, middle, has) : bisected(middle, having, has);
  }

  /** Packs, and unpacks with what others have. */
  function packedLength(bytes: Uint8Array, what: string): number {
    const frame = new Uint8Array(bytes.length);
    const length = packer().pack(bytes, frame);
    for (const unpack of length === 0 ? [] : [packer(), unpackOnly]) {
      const back = new Uint8Array(bytes.length);
      checkFrame(frame.subarray(0, length), bytes.length);
      unpack.unpack(frame.subarray(0, length), back);
      expect(firstDifference(back, bytes), `${what}, ${unpack.name}`).toBe(-1);
    }
    return length;
  }

  it("makes frames of any length, in blocks and streams of any", () => {
    const block = 128 * 1024;
    for (const from of [0, 32 * 1024, block, block + 1024, 2 * block]) {
      for (const more of [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5]) {
        const length = Math.max(0, from + more);
        const bytes = skewed(length, 9, 0x39, length);
        const packed = packedLength(bytes, `${length} bytes`);
        if (length > 1000) expect(packed / length).toBeLessThan(0.35);
      }
    }
  });

  it("makes frames of bytes of any kind", () => {
    const length = 300_000;
    const noise = ordinary("U8", length, 1);
    const kinds: [string, Uint8Array, number][] = [
      ["two values", skewed(length, 2, 0, 2), 0.14],
      ["two values at the ends", skewed(length, 2, 0, 3).map((byte) => byte * 255), 0.14],
      ["all values, the last most often", skewed(length, 256, 0, 4).map((byte) => 255 - byte), 0.35],
      ["rare values", skewed(length, 5, 7, 5).map((byte, i) => (i % 1171 === 0 ? i / 1171 : byte)), 0.35],
      ["nearly noise", noise.map((byte, i) => (i % 4 === 0 ? 0 : byte)), 0.95],
      // Blocks of noise amid others are longer in codes than they are.
      ["noise in the middle", noise.map((byte, i) => (i >> 17 === 1 ? byte : (byte & 3) + 9)), 0.9],
      ["noise", noise, 0],
      ["one value", new Uint8Array(length).fill(9), 0.001],
      ["runs", noise.map((byte, i) => (((i >> 10) & 3) === 0 ? 0 : byte & 7)), 0.35],
    ];
    for (const [what, bytes, most] of kinds) {
      expect(packedLength(bytes, what) / length, what).toBeLessThanOrEqual(most);
    }
    // What does not fit is left alone.
    const bytes = skewed(length, 9, 0x39, 6);
    const packed = packedLength(bytes, "codes");
    const target = new Uint8Array(packed + 64).fill(7);
    expect(packer().pack(bytes, target.subarray(0, packed - 10))).toBe(0);
    expect(target.subarray(packed - 10).every((byte) => byte === 7)).toBe(true);
  });

  it("writes nothing beyond its target, be it as tight as can be", () => {
    const [block, noisy, tail] = [1 << 17, 40, 20];
    const random = pseudoRandom(7);
    const bytes = new Uint8Array((noisy + tail) * block);
    for (let i = noisy * block; i < bytes.length; i++) bytes[i] = -Math.log(1 - random()) * 45;
    const room = new Uint8Array(bytes.length + 4096);

    /** Blocks that are all but noise: `frequent` of their bytes have short codes. */
    const fill = (frequent: number) => {
      const one = new Uint8Array(block).map((_, i) => i);
      for (let i = 0; i < frequent; i++) one[(i * 77_773) % block] = i % 24;
      const order = pseudoRandom(8);
      for (let i = block - 1; i > 0; i--) {
        const other = Math.floor(order() * (i + 1));
        [one[i], one[other]] = [one[other]!, one[i]!];
      }
      for (let i = 0; i < noisy; i++) bytes.set(one, i * block);
    };
    // Each block travels as it is where its codes save less than the tree takes that it would bring: so many of these in
    // a row are longer than their codes and one tree.
    const [few] = bisected(0, 60_000, (frequent) => {
      fill(frequent);
      const length = packer().pack(bytes, room);
      return length > 0 && length < bytes.length - 64 && firstBlockType(room) === 2;
    });
    fill(few);
    const length = packer().pack(bytes, room);
    expect(length).toBeGreaterThan(0);
    for (const capacity of [0, 1, 100, 300, 600, 1000, 2000].map((less) => length - less)) {
      room.fill(7);
      const written = packer().pack(bytes, room.subarray(0, capacity));
      expect(written).toBe(capacity === length ? length : 0);
      expect(room.subarray(capacity).every((byte) => byte === 7)).toBe(true);
    }
  });

  it("runs side by side with everything else", async () => {
    const backend = loadNativeBackend({ addon: addonPath })!;
    const elements = 200_000;
    const jobs = Array.from({ length: 24 }, async (_, i) => {
      const dtype = i % 2 === 0 ? "BF16" : "F32";
      const width = i % 2 === 0 ? 2 : 4;
      const source = ordinary(dtype, elements, i);
      const [target, packed] = [new Uint8Array(width * elements), new Uint8Array(width * elements)];
      const job = { codec: { name: "lossless" }, dtype, elements } as const;
      const { hash, packedBytes } = await backend.encode({ ...job, source, target, packed });
      expect(hash).toBe(xxh64(target));
      const [unpacked, back] = [new Uint8Array(target.length), new Uint8Array(target.length)];
      const payload = packed.subarray(0, packedBytes);
      await backend.decode({ ...job, payload, unpacked, hash, output: dtype, target: back });
      expect(xxh64(back)).toBe(xxh64(source));
    });
    await Promise.all(jobs);
  });
});
