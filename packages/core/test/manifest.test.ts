import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeManifest,
  type Manifest,
  type ManifestTensor,
  planManifest,
} from "../src/index.js";
import { bare, bytesOf, parse, written } from "./manifest-fixture.js";
import { headerOf, manifests, sample } from "./manifest-samples.js";

describe("manifest", () => {
  it("comes back as it was written, whatever it is", () => {
    fc.assert(
      fc.property(manifests, (manifest) => {
        const { manifest: parsed, plan } = parse(encodeManifest(manifest));
        expect(parsed).toEqual(manifest);
        expect([...parsed.metadata]).toEqual([...manifest.metadata]);
        const own = planManifest(manifest, DEFAULT_LIMITS, defaultCodecs);
        expect([plan.chunks, plan.bytes, plan.maxChunkBytes]).toEqual([
          own.chunks,
          own.bytes,
          own.maxChunkBytes,
        ]);
      }),
      { numRuns: 200 },
    );
  });

  it("writes each distinct codec once, and no header where there is none", () => {
    const json = written();
    expect(json.codecs).toEqual([
      { name: "normfloat4", block: 64 },
      { name: "none" },
      { name: "blockwise8", block: 4096 },
    ]);
    expect(json.tensors).toEqual([
      ["embed.weight", "F32", [512, 16], 0],
      ["scale", "BF16", [], 1],
      ["codes", "F4", [0, 8], 1],
      ["norm.weight", "F16", [33], 2],
    ]);
    // Equal specs that are different objects are one codec still.
    const twice: Manifest = {
      ...sample(),
      header: undefined,
      tensors: sample().tensors.map((tensor) => ({ ...tensor, codec: { name: "none" } })),
    };
    const text = new TextDecoder().decode(encodeManifest(twice));
    expect(JSON.parse(text).codecs).toEqual([{ name: "none" }]);
    expect(text).not.toContain("header");
  });

  it("may have its members in any order, with white space between them", () => {
    const reversed = Object.fromEntries(Object.entries(written()).reverse());
    const spaced = Buffer.from(`\n ${JSON.stringify(reversed, null, 2)}\r\n\t`);
    expect(parse(spaced).manifest).toEqual(sample());
  });

  it("of a raw file is one U8 tensor", () => {
    const codec = defaultCodecs.resolve("none");
    const manifest: Manifest = {
      kind: "raw",
      tensors: [{ name: "model.gguf", dtype: "U8", shape: [12345], codec }],
      metadata: new Map(),
      chunkBytes: 1 << 20,
      header: undefined,
    };
    expect(parse(encodeManifest(manifest)).manifest).toEqual(manifest);
  });

  it("has the codecs' defaults filled in", () => {
    const json = bare();
    json.codecs[0] = { name: "normfloat4" };
    expect(parse(bytesOf(json)).manifest.tensors[0]?.codec).toEqual({ name: "normfloat4", block: 64 });
  });
});

describe("a manifest of many tensors", () => {
  const many = (tensors: number): Manifest => {
    const codec = defaultCodecs.resolve("normfloat4");
    const infos = Array.from({ length: tensors }, (_, i): ManifestTensor => {
      return { name: `model.layers.${i}.self_attn.q_proj.weight`, dtype: "F32", shape: [16, 16], codec };
    });
    const metadata = new Map([["format", "pt"]]);
    const text = headerOf(infos, metadata);
    return {
      kind: "model",
      tensors: infos,
      metadata,
      chunkBytes: 1 << 22,
      header: { format: "safetensors", text },
    };
  };

  it.each([10_000, 100_000])("is written, read and planned: %i", (tensors) => {
    const manifest = many(tensors);
    for (const variant of [{ ...manifest, header: undefined }, manifest]) {
      const { plan, manifest: parsed } = parse(encodeManifest(variant));
      expect(plan.chunks).toBe(tensors);
      expect(parsed.tensors.at(-1)).toEqual(variant.tensors.at(-1));
    }
  });
});
