import { describe, expect, it } from "vitest";
import { ChunkPlan, DEFAULT_CHUNK_BYTES, defaultCodecs, type TensorInfo } from "../src/index.js";

const MiB = 1024 * 1024;
const HIDDEN = 2048;
const KEYS = 512;
const FEED = 8192;
const VOCABULARY = 128256;

/** Llama-3.2-1B in f32, with its output head stored beside the embedding. */
function llama(): TensorInfo[] {
  const tensors: TensorInfo[] = [];
  const add = (name: string, ...shape: number[]) => tensors.push({ name, dtype: "F32", shape });
  add("model.embed_tokens.weight", VOCABULARY, HIDDEN);
  for (let layer = 0; layer < 16; layer++) {
    const at = `model.layers.${layer}`;
    add(`${at}.self_attn.q_proj.weight`, HIDDEN, HIDDEN);
    add(`${at}.self_attn.k_proj.weight`, KEYS, HIDDEN);
    add(`${at}.self_attn.v_proj.weight`, KEYS, HIDDEN);
    add(`${at}.self_attn.o_proj.weight`, HIDDEN, HIDDEN);
    add(`${at}.mlp.gate_proj.weight`, FEED, HIDDEN);
    add(`${at}.mlp.up_proj.weight`, FEED, HIDDEN);
    add(`${at}.mlp.down_proj.weight`, HIDDEN, FEED);
    add(`${at}.input_layernorm.weight`, HIDDEN);
    add(`${at}.post_attention_layernorm.weight`, HIDDEN);
  }
  add("model.norm.weight", HIDDEN);
  add("lm_head.weight", VOCABULARY, HIDDEN);
  return tensors;
}

describe("Llama-3.2-1B", () => {
  const tensors = llama();

  it("has the tensors and parameters that NVFlare's table is of", () => {
    expect(tensors).toHaveLength(147);
    expect(new ChunkPlan(tensors, DEFAULT_CHUNK_BYTES).bytes / 4).toBe(1_498_482_688);
  });

  // NVFlare publishes 1429.06 + 1.54 MiB of blockwise8, whose codebook travels there, and 714.53 + 89.33 of the others.
  it.each([
    ["none", "5716.26", 0, "0.00"],
    ["float16", "2858.13", 0, "0.00"],
    ["bfloat16", "2858.13", 0, "0.00"],
    ["blockwise8", "1429.06", 1.4, "1.40"],
    ["float4", "714.53", 89.32, "89.32"],
    ["normfloat4", "714.53", 89.32, "89.32"],
  ])("takes as %s %s MiB of codes and at most %f MiB of scales", (name, codes, most, scales) => {
    const codec = defaultCodecs.get(name);
    const spec = defaultCodecs.resolve(name);
    for (const chunkBytes of [DEFAULT_CHUNK_BYTES, 1_000_003]) {
      const plan = new ChunkPlan(tensors, chunkBytes);
      let payload = 0;
      let scale = 0;
      for (const { elements } of plan.walk()) {
        payload += codec.payloadBytes(spec, "F32", elements);
        scale += codec.scaleBytes(spec, "F32", elements);
      }
      expect(((payload - scale) / MiB).toFixed(2)).toBe(codes);
      expect((scale / MiB).toFixed(2)).toBe(scales);
      expect(scale / MiB).toBeLessThanOrEqual(most);
    }
  });
});
