import {
  BUILT_IN_CODECS,
  type ChunkPosition,
  type Codec,
  type CodecSpec,
  halvesOf,
  NESTED_BLOCK,
  packedBytes,
} from "@tensorwire/core";
import type { CodecShape } from "./kernel.js";
import { TABLES } from "./wgsl/level-tables.js";
import { type Parameters, TILE } from "./wgsl/parameters.js";

/** A run of a payload's bytes, which begins with a word on the device. */
export interface Part {
  readonly word: number;
  readonly bytes: number;
}

/** A codec's payload as it lies on the device, where every part begins with a word, and the kernel that makes it. */
export interface Layout {
  readonly shape: CodecShape;
  /** In the payload's order. */
  readonly parts: readonly Part[];
  /** Words of all parts. */
  readonly words: number;
  /** Words behind them that the kernels need while they encode. */
  readonly scratch: number;
  readonly nested: boolean;
  readonly parameters: Parameters;
}

const BUILT_IN = new Set<Codec>(BUILT_IN_CODECS);

const ceiling = (elements: number, of: number): number => Math.ceil(elements / of);

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

function bitsOf(value: number): number {
  float[0] = value;
  return word[0]!;
}

/**
 * How `elements` elements of a codec lie on the device, or undefined where kernels do not have the codec.
 * @param spec resolved.
 */
export function layoutOf(codec: Codec, spec: CodecSpec, elements: number): Layout | undefined {
  // A caller's own codec under one of these names is not theirs.
  if (!BUILT_IN.has(codec)) return undefined;
  switch (codec.name) {
    case "float16":
    case "bfloat16":
      return {
        shape: codec.name,
        parts: [{ word: 0, bytes: 2 * elements }],
        words: ceiling(elements, 2),
        scratch: 0,
        nested: false,
        parameters: { elements },
      };
    case "blockwise8":
    case "float4":
    case "normfloat4":
      return blockLayout(codec.name, spec, elements);
    default:
      return codec.name.startsWith("linear") ? linearLayout(codec.name, spec, elements) : undefined;
  }
}

function blockLayout(
  name: keyof typeof TABLES,
  { block = 0, nested = false }: CodecSpec,
  elements: number,
): Layout {
  const bits = name === "blockwise8" ? 8 : 4;
  const blocks = ceiling(elements, block);
  const codeBytes = ceiling(elements * bits, 8);
  const codeWords = ceiling(elements, 8) * (bits / 4);
  const common = {
    elements,
    shift: Math.log2(block),
    blocks,
    single: bitsOf(blocks),
    table: TABLES[name],
  };
  const shape = bits === 8 ? "blocks8" : "blocks4";
  if (!nested) {
    return {
      shape,
      parts: [
        { word: 0, bytes: 4 * blocks },
        { word: blocks, bytes: codeBytes },
      ],
      words: blocks + codeWords,
      scratch: 0,
      nested,
      parameters: { ...common, codes: blocks },
    };
  }
  // The offset and the scales' own scales, the scales, the codes; and the scales before they were nested.
  const outer = 1 + ceiling(blocks, NESTED_BLOCK);
  const codes = outer + 2 * ceiling(blocks, 8);
  return {
    shape,
    parts: [
      { word: 0, bytes: 4 * outer },
      { word: outer, bytes: blocks },
      { word: codes, bytes: codeBytes },
    ],
    words: codes + codeWords,
    scratch: blocks,
    nested,
    parameters: { ...common, offsets: outer, codes, plain: codes + codeWords, nested: 1 },
  };
}

function linearLayout(name: string, { block, mode, rounding, scale }: CodecSpec, elements: number): Layout {
  const bits = Number(name.slice("linear".length));
  const affine = mode === "affine";
  const blocks = block === undefined ? 0 : ceiling(elements, block);
  const codes = (affine ? 2 : 1) * blocks;
  return {
    shape: "linear",
    parts: [
      { word: 0, bytes: 4 * codes },
      { word: codes, bytes: packedBytes(elements, bits) },
    ],
    words: codes + ceiling(elements, 32) * bits,
    scratch: 0,
    nested: false,
    parameters: {
      elements,
      bits,
      shift: Math.log2(block ?? TILE),
      offsets: blocks,
      codes,
      single: bitsOf(scale ?? 0),
      affine: affine ? 1 : 0,
      stochastic: rounding === "stochastic" ? 1 : 0,
      oneScale: block === undefined ? 1 : 0,
    },
  };
}

/** What draws depend on, of a codec that rounds at random. */
export function drawParameters({ seed = "0" }: CodecSpec, { tensor, first }: ChunkPosition): Parameters {
  const [key0, key1] = halvesOf(BigInt(`0x${seed}`));
  const [tensor0, tensor1] = halvesOf(tensor);
  const skipped = first % 4;
  const [counter0, counter1] = halvesOf(BigInt((first - skipped) / 4));
  return { key0, key1, tensor0, tensor1, skipped, counter0, counter1 };
}

/** Workgroups that have all elements. */
export function workgroups(elements: number): number {
  return ceiling(elements, TILE);
}
