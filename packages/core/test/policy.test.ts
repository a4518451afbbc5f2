import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  BUILT_IN_CODECS,
  byteLength,
  type Codec,
  CodecRegistry,
  DEFAULT_MIN_ELEMENTS,
  type DType,
  Glob,
  none,
  type Policy,
  parsePolicy,
  resolvePolicy,
  type TensorInfo,
} from "../src/index.js";

function tensor(name: string, elements: number, dtype: DType = "F32"): TensorInfo {
  return { name, dtype, shape: [elements] };
}

function names(policy: Policy, ...infos: TensorInfo[]): string[] {
  return resolvePolicy(policy, infos).map((spec) => spec.name);
}

describe("resolvePolicy", () => {
  it("leaves everything alone by default", () => {
    expect(names({}, tensor("w", 1 << 20))).toEqual(["none"]);
  });

  it("gives the default codec with its parameters to tensors of 4096 elements and up", () => {
    expect(DEFAULT_MIN_ELEMENTS).toBe(4096);
    const infos = [tensor("w", 4096), tensor("bias", 4095)];
    expect(resolvePolicy({ codec: "blockwise8" }, infos)).toEqual([
      { name: "blockwise8", block: 4096 },
      { name: "none" },
    ]);
    expect(names({ codec: "blockwise8", minElements: 0 }, ...infos)).toEqual(["blockwise8", "blockwise8"]);
    expect(names({ codec: "blockwise8", minElements: 5000 }, ...infos)).toEqual(["none", "none"]);
  });

  it("takes the first rule that matches", () => {
    const policy: Policy = {
      rules: [
        { match: ["*.norm.*", "*bias"], codec: "none" },
        { match: "lm_head.*", codec: { name: "normfloat4", block: 128 } },
        { dtype: "BF16", codec: "float4" },
        { dtype: ["F64", "F32"], minElements: 1_000_000, codec: "blockwise8" },
        { maxElements: 10_000, codec: "bfloat16" },
      ],
      codec: "float16",
    };
    const infos = [
      tensor("layers.0.norm.weight", 1 << 20),
      tensor("layers.0.mlp.bias", 1 << 20),
      tensor("lm_head.weight", 1 << 20, "BF16"),
      tensor("layers.0.mlp.weight", 1 << 19, "BF16"),
      tensor("layers.0.mlp.weight", 1_000_000),
      tensor("layers.0.mlp.weight", 10_000),
      tensor("layers.0.mlp.weight", 10_001),
    ];
    expect(resolvePolicy(policy, infos)).toEqual([
      { name: "none" },
      { name: "none" },
      { name: "normfloat4", block: 128 },
      { name: "float4", block: 64 },
      { name: "blockwise8", block: 4096 },
      { name: "bfloat16" },
      { name: "float16" },
    ]);
  });

  it("holds small tensors back at the rule that matches, not at the next one", () => {
    const rules = [
      { match: "norm", codec: "float16" },
      { minElements: 0, codec: "blockwise8" },
    ];
    expect(names({ rules }, tensor("norm", 2048), tensor("other", 2048))).toEqual(["none", "blockwise8"]);
    expect(names({ rules, minElements: 2048 }, tensor("norm", 2048))).toEqual(["float16"]);
  });

  it("uses none where the codec does not take the dtype or saves nothing", () => {
    const half = tensor("w", 1 << 16, "F16");
    expect(names({ codec: "float16" }, half, tensor("w", 1 << 16, "BF16"))).toEqual(["none", "none"]);
    expect(names({ codec: "blockwise8" }, half, tensor("ids", 1 << 16, "I64"))).toEqual([
      "blockwise8",
      "none",
    ]);
    // One scale outweighs what a few elements save, and nothing is saved on nothing.
    const tiny = { codec: "blockwise8", minElements: 0 };
    expect(names(tiny, tensor("w", 1), tensor("w", 2), tensor("w", 0))).toEqual([
      "none",
      "blockwise8",
      "none",
    ]);
    expect(names(tiny, { name: "scalar", dtype: "F64", shape: [] })).toEqual(["blockwise8"]);
  });

  it("takes use_quantization for float16 and none, at the top and in rules", () => {
    const weight = tensor("w", 1 << 16);
    expect(names({ use_quantization: true }, weight, tensor("ids", 1 << 16, "I64"))).toEqual([
      "float16",
      "none",
    ]);
    expect(names({ use_quantization: false }, weight)).toEqual(["none"]);
    const rules = [
      { match: "head", use_quantization: false },
      { match: "body", use_quantization: true },
    ];
    expect(names({ rules, codec: "blockwise8" }, tensor("head", 1 << 16), tensor("body", 1 << 16))).toEqual([
      "none",
      "float16",
    ]);
    // The floor holds for it as for any codec.
    expect(names({ use_quantization: true }, tensor("bias", 4095))).toEqual(["none"]);
  });

  it("chooses a codec that packing makes smaller, though its payload is not", () => {
    const planes: Codec = {
      ...none,
      name: "planes",
      id: 900,
      packs: true,
      resolve: () => ({ name: "planes" }),
      supports: (dtype) => dtype !== "F4",
      payloadBytes: (_spec, dtype, elements) => byteLength(dtype, elements),
    };
    const registry = new CodecRegistry([...BUILT_IN_CODECS, planes]);
    const infos = [tensor("w", 1 << 16), tensor("ids", 1 << 16, "I64"), tensor("odd", 1 << 16, "F4")];
    const chosen = resolvePolicy(
      { codec: "planes", minElements: 0 },
      [...infos, tensor("empty", 0)],
      registry,
    );
    expect(chosen.map(({ name }) => name)).toEqual(["planes", "planes", "none", "none"]);
  });

  it("refuses codecs that do not exist or do not take their parameters, used or not", () => {
    const codes = (policy: unknown, code: string, path: string) =>
      expect(() => resolvePolicy(policy as Policy, [])).toThrow(
        expect.objectContaining({ code, message: expect.stringContaining(path) }),
      );
    codes({ codec: "gguf" }, "CODEC_UNSUPPORTED", "codec: ");
    codes({ rules: [{ codec: "none" }, { codec: "gguf" }] }, "CODEC_UNSUPPORTED", "rules.1.codec: ");
    codes({ codec: { name: "float4", block: 48 } }, "INVALID_ARGUMENT", "codec: ");
    codes({ codec: { name: "float16", bits: 3 } }, "INVALID_ARGUMENT", "bits");
  });
});

describe("parsePolicy", () => {
  it("takes what JSON holds", () => {
    const json =
      '{"rules":[{"match":["a*"],"dtype":"F32","codec":{"name":"float4","block":64}}],"minElements":0}';
    expect(parsePolicy(JSON.parse(json))).toEqual(JSON.parse(json));
  });

  it.each<[unknown, string]>([
    [null, "the policy"],
    ["blockwise8", "the policy"],
    [{ rule: [] }, "rule"],
    [{ codec: 5 }, "codec"],
    [{ codec: "" }, "codec"],
    [{ codec: { block: 64 } }, "codec.name"],
    [{ minElements: -1 }, "minElements"],
    [{ minElements: 1.5 }, "minElements"],
    [{ minElements: "4096" }, "minElements"],
    [{ rules: {} }, "rules"],
    [{ rules: [{ match: "*" }] }, "rules.0.codec"],
    [{ use_quantization: "yes" }, "use_quantization"],
    [{ use_quantization: true, codec: "float16" }, "use_quantization"],
    [{ rules: [{ codec: "none" }, { codec: "none", use_quantization: false }] }, "rules.1.use_quantization"],
    [{ rules: [{ codec: "none" }, { codec: "none", match: [1] }] }, "rules.1.match.0"],
    [{ rules: [{ codec: "none", match: "*".repeat(257) }] }, "rules.0.match"],
    [{ rules: [{ codec: "none", dtype: "float32" }] }, "rules.0.dtype"],
    [{ rules: [{ codec: "none", dtype: ["F32", "toString"] }] }, "rules.0.dtype.1"],
    [{ rules: [{ codec: "none", maxElements: Number.POSITIVE_INFINITY }] }, "rules.0.maxElements"],
    [{ rules: [{ codec: "none", name: "x" }] }, "rules.0.name"],
    [{ rules: new Array(1025).fill({ codec: "none" }) }, "rules"],
  ])("refuses %j at %s", (json, path) => {
    expect(() => parsePolicy(json)).toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(`${path} is not`),
      }),
    );
  });
});

describe("Glob", () => {
  it.each([
    ["*", "", true],
    ["", "", true],
    ["", "a", false],
    ["model.*.weight", "model.layers.0/mlp.weight", true],
    ["model.*.weight", "model.weight", false],
    ["model.*.weight", "model.a.weights", false],
    ["layers.?.w", "layers.1.w", true],
    ["layers.?.w", "layers.10.w", false],
    ["?", "😀", true],
    ["*a*b", "xxaxxbxxb", true],
    ["*a*b", "xxbxxa", false],
    ["a.c", "abc", false],
    ["[ab]+(c|d)$^\\", "[ab]+(c|d)$^\\", true],
    ["**x**", "yxy", true],
    ["Weight", "weight", false],
  ])("%j on %j is %s", (pattern, name, expected) => {
    expect(new Glob(pattern).matches(name)).toBe(expected);
  });

  it("agrees with its definition", () => {
    const matches = (p: string, t: string): boolean => {
      if (p === "") return t === "";
      if (p[0] === "*") return matches(p.slice(1), t) || (t !== "" && matches(p, t.slice(1)));
      return t !== "" && (p[0] === "?" || p[0] === t[0]) && matches(p.slice(1), t.slice(1));
    };
    const pattern = fc.string({ unit: fc.constantFrom("a", "b", "*", "?"), maxLength: 8 });
    const text = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 10 });
    fc.assert(
      fc.property(pattern, text, (p, t) => new Glob(p).matches(t) === matches(p, t)),
      { numRuns: 2000, seed: 1 },
    );
  });

  it("is quick on patterns made to be slow", () => {
    const started = performance.now();
    expect(new Glob("*a".repeat(128)).matches(`${"a".repeat(4000)}b`)).toBe(false);
    expect(new Glob(`*${"?".repeat(100)}a`.repeat(2)).matches("b".repeat(4096))).toBe(false);
    expect(performance.now() - started).toBeLessThan(1000);
  });
});
