import { describe, expect, it } from "vitest";
import { BUILT_IN_CODECS, type Codec, CodecRegistry, defaultCodecs, none } from "../src/index.js";

function named(name: string, id: number): Codec {
  return Object.assign(Object.create(none) as Codec, { name, id });
}

describe("CodecRegistry", () => {
  it("numbers the built-in codecs as the wire format does", () => {
    const numbered = BUILT_IN_CODECS.map(({ name, id }) => [id, name]);
    expect(numbered).toEqual([
      [0, "none"],
      [1, "float16"],
      [2, "bfloat16"],
      [3, "blockwise8"],
      [4, "float4"],
      [5, "normfloat4"],
      [6, "adaquant"],
      [7, "lossless"],
      ...[2, 3, 4, 5, 6, 7, 8].map((bits) => [16 + bits, `linear${bits}`]),
    ]);
    for (const codec of BUILT_IN_CODECS) {
      expect(defaultCodecs.get(codec.name)).toBe(codec);
      expect(defaultCodecs.byId(codec.id)).toBe(codec);
    }
  });

  it("says what it knows when asked for what it does not", () => {
    const registry = new CodecRegistry([none]);
    const unsupported = (message: string) =>
      expect.objectContaining({ code: "CODEC_UNSUPPORTED", message: expect.stringContaining(message) });
    expect(() => registry.get("gguf")).toThrow(unsupported('"gguf" here; known are none'));
    expect(() => registry.byId(9)).toThrow(unsupported("9 here; known are 0 (none)"));
    expect(() => registry.resolve("toString")).toThrow(unsupported("toString"));
  });

  it("takes a new codec, and no second of a name or number", () => {
    const registry = new CodecRegistry();
    const mine = named("mine", 1000);
    registry.register(mine);
    expect(registry.get("mine")).toBe(mine);
    expect(registry.names().at(-1)).toBe("mine");
    expect(defaultCodecs.names()).not.toContain("mine");
    for (const wrong of [
      named("mine", 1001),
      named("other", 1000),
      named("", 7),
      named("x", -1),
      named("x", 65536),
    ]) {
      expect(() => registry.register(wrong)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    }
    // A refused codec leaves nothing behind.
    expect(() => registry.get("other")).toThrow(expect.objectContaining({ code: "CODEC_UNSUPPORTED" }));
    registry.register(named("other", 1001));
  });

  it("resolves names and specs", () => {
    expect(defaultCodecs.resolve("blockwise8")).toEqual({ name: "blockwise8", block: 4096 });
    expect(defaultCodecs.resolve({ name: "float4", block: 128 })).toEqual({ name: "float4", block: 128 });
    for (const wrong of [{ name: "none", block: 64 }, {}, null, 5, { name: 5 }]) {
      expect(() => defaultCodecs.resolve(wrong as never)).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT" }),
      );
    }
  });
});
