import type { TensorInfo } from "@tensorwire/core";
import { elementsOf } from "../model/noise-model.js";

const F32_BYTES = 4;

const f32 = (name: string, ...shape: number[]): TensorInfo => ({ name, dtype: "F32", shape });

export const f32Bytes = (tensors: readonly TensorInfo[]): number =>
  tensors.reduce((sum, tensor) => sum + elementsOf(tensor) * F32_BYTES, 0);

export const largestBytes = (tensors: readonly TensorInfo[]): number =>
  Math.max(...tensors.map((tensor) => elementsOf(tensor) * F32_BYTES));

/** A layer of a small transformer, in widths of it: attention, a gated block, norms and biases. */
const LAYER: readonly (readonly [string, ...number[]])[] = [
  ["attention.q", 1, 1],
  ["attention.q.bias", 1],
  ["attention.k", 0.25, 1],
  ["attention.v", 0.25, 1],
  ["attention.o", 1, 1],
  ["attention.norm", 1],
  ["mlp.gate", 2.75, 1],
  ["mlp.up", 2.75, 1],
  ["mlp.up.bias", 2.75],
  ["mlp.down", 1, 2.75],
  ["mlp.norm", 1],
];

/**
 * Tensors of exactly `bytes` bytes together: an embedding of a quarter of it, layers of matrices and of small vectors,
 * and what is left over as a vector.
 */
export function mixedShapes(bytes: number): TensorInfo[] {
  const width = bytes < 2 ** 28 ? 256 : 1024;
  const tensors = [f32("embedding.weight", bytes / 4 / F32_BYTES / width, width)];
  let left = bytes - f32Bytes(tensors);
  for (let layer = 0; ; layer++) {
    const next = LAYER.map(([name, ...shape]) =>
      f32(`layers.${layer}.${name}`, ...shape.map((widths) => widths * width)),
    );
    if (f32Bytes(next) > left) break;
    tensors.push(...next);
    left -= f32Bytes(next);
  }
  if (left > 0) tensors.push(f32("head.weight", left / F32_BYTES));
  return tensors;
}

/** `count` tensors of equal size, `bytes` bytes together. */
export function equalShapes(bytes: number, count: number): TensorInfo[] {
  return Array.from({ length: count }, (_, i) => f32(`tensor.${i}`, bytes / count / F32_BYTES));
}

/** Those of Llama-3.2-1B with its output head stored beside the embedding: 147 tensors, 1,498,482,688 parameters. */
export function llamaShapes(): TensorInfo[] {
  const [vocabulary, width, keys, inner, layers] = [128_256, 2048, 512, 8192, 16];
  const tensors = [f32("model.embed_tokens.weight", vocabulary, width)];
  for (let layer = 0; layer < layers; layer++) {
    const at = `model.layers.${layer}`;
    tensors.push(
      f32(`${at}.self_attn.q_proj.weight`, width, width),
      f32(`${at}.self_attn.k_proj.weight`, keys, width),
      f32(`${at}.self_attn.v_proj.weight`, keys, width),
      f32(`${at}.self_attn.o_proj.weight`, width, width),
      f32(`${at}.mlp.gate_proj.weight`, inner, width),
      f32(`${at}.mlp.up_proj.weight`, inner, width),
      f32(`${at}.mlp.down_proj.weight`, width, inner),
      f32(`${at}.input_layernorm.weight`, width),
      f32(`${at}.post_attention_layernorm.weight`, width),
    );
  }
  tensors.push(f32("model.norm.weight", width), f32("lm_head.weight", vocabulary, width));
  return tensors;
}

/** Those of GPT-2 medium by default: 292 tensors, 354,823,168 parameters, the largest of 206 MB. Narrower ones for a glance. */
export function gpt2Shapes(width = 1024, vocabulary = 50_257): TensorInfo[] {
  const [positions, layers] = [1024, 24];
  const tensors = [f32("wte.weight", vocabulary, width), f32("wpe.weight", positions, width)];
  const norm = (name: string): TensorInfo[] => [f32(`${name}.weight`, width), f32(`${name}.bias`, width)];
  const linear = (name: string, from: number, to: number): TensorInfo[] => [
    f32(`${name}.weight`, from, to),
    f32(`${name}.bias`, to),
  ];
  for (let layer = 0; layer < layers; layer++) {
    const at = `h.${layer}`;
    tensors.push(
      ...norm(`${at}.ln_1`),
      ...linear(`${at}.attn.c_attn`, width, 3 * width),
      ...linear(`${at}.attn.c_proj`, width, width),
      ...norm(`${at}.ln_2`),
      ...linear(`${at}.mlp.c_fc`, width, 4 * width),
      ...linear(`${at}.mlp.c_proj`, 4 * width, width),
    );
  }
  return [...tensors, ...norm("ln_f")];
}
