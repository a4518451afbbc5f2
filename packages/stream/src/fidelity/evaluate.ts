import {
  BufferPool,
  type Chunk,
  type CodecRegistry,
  type CodecSpec,
  elementCount,
  resolvePolicy,
} from "@tensorwire/core";
import { inChunk } from "../session/chunk-fault.js";
import { seeded } from "../session/seed.js";
import type { SourceLike } from "../source/open.js";
import { type CodecEvaluation, CodecTrial, type TrialBuffers } from "./codec-trial.js";
import { ModelReader, type ReadingOptions } from "./model-reader.js";

/** Which codecs are tried, and on how much of the model. */
export interface EvaluateOptions extends ReadingOptions {
  /** The codecs to try, by name or with parameters. Default: `EVALUATED_CODECS`, those of them that are known. */
  readonly codecs?: readonly (string | CodecSpec)[] | undefined;
  /** Tensors with fewer elements travel as `none`, as in a transfer. Default 4096; 0 turns it off. */
  readonly minElements?: number | undefined;
}

/** What each codec makes of a model. */
export interface Evaluation {
  /** Tensors that codecs were tried on. */
  readonly tensors: number;
  /** Elements of those. */
  readonly elements: number;
  /** The model's size. */
  readonly bytes: number;
  /** Source bytes of the chunks that they were tried on. */
  readonly chunkBytes: number;
  /** Where the codecs ran. */
  readonly backend: string;
  /** One for each codec, in the order that was asked for. */
  readonly codecs: readonly CodecEvaluation[];
}

/** What `evaluateModel` tries unless it is told what to. */
export const EVALUATED_CODECS: readonly CodecSpec[] = [
  { name: "none" },
  { name: "lossless" },
  { name: "float16" },
  { name: "bfloat16" },
  { name: "blockwise8" },
  { name: "adaquant" },
  ...[8, 7, 6, 5, 4, 3, 2].map((bits) => ({ name: `linear${bits}` })),
  { name: "linear4", mode: "affine" },
  { name: "normfloat4" },
  { name: "normfloat4", nested: true },
  { name: "float4" },
];

/**
 * Tries codecs on a model: what each makes it take, how far it then is from the original, and how fast that goes. Every
 * codec sees the same chunks, one at a time, on the backend that a transfer would use; nothing is sent anywhere. Speeds
 * are of one job at a time on data that was just read: to compare codecs with one another, not machines.
 * @throws TensorwireError `CODEC_UNSUPPORTED`, `INVALID_ARGUMENT` for codecs, and as reading a model does.
 * @example
 * const { codecs } = await evaluateModel("model.safetensors", { codecs: ["blockwise8", "normfloat4"] });
 * for (const { codec, bitsPerWeight, error } of codecs) console.log(codec.name, bitsPerWeight, error.snrDb);
 */
export async function evaluateModel(source: SourceLike, options: EvaluateOptions = {}): Promise<Evaluation> {
  const reader = await ModelReader.open(source, options);
  try {
    return await evaluate(reader, options);
  } finally {
    await reader.close();
  }
}

async function evaluate(reader: ModelReader, { codecs, minElements }: EvaluateOptions): Promise<Evaluation> {
  const { info, plan, settings } = reader;
  const { registry, backend, alignment } = settings;
  const { tensors } = info;
  const given = codecs ? codecs.map((codec) => registry.resolve(codec)) : known(registry);
  const specs = seeded(given, undefined, undefined);
  const choices = specs.map((codec) => resolvePolicy({ codec, minElements }, tensors, registry));
  const largest = largestPayload(reader, choices);
  const pool = new BufferPool(Math.max(largest, plan.maxChunkBytes, 1), alignment);
  // Of a pool for its alignment alone: they live as long as it does.
  const lend = (): Uint8Array => pool.lend(pool.slabBytes).bytes;
  const buffers: TrialBuffers = { payload: lend(), packed: lend(), unpacked: lend(), decoded: lend() };
  const trials = specs.map((codec, i) => new CodecTrial(codec, choices[i]!, tensors, settings, buffers));
  for (const chunk of plan.walk()) {
    const loan = await reader.read(chunk);
    try {
      for (const trial of trials) await trial.add(chunk, loan.bytes);
    } catch (error) {
      throw inChunk(error, info, chunk);
    } finally {
      loan.release();
    }
  }
  await reader.verify();
  const elements = tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  return {
    tensors: tensors.length,
    elements,
    bytes: plan.bytes,
    chunkBytes: plan.chunkBytes,
    backend: backend.name,
    codecs: trials.map((trial) => trial.evaluation(elements)),
  };
}

function known(registry: CodecRegistry): CodecSpec[] {
  const names = registry.names();
  return EVALUATED_CODECS.filter(({ name }) => names.includes(name)).map((spec) => registry.resolve(spec));
}

function largestPayload(
  { info, plan, settings }: ModelReader,
  choices: readonly (readonly CodecSpec[])[],
): number {
  let largest = 0;
  info.tensors.forEach(({ dtype }, i) => {
    const { first, count } = plan.range(i);
    if (count === 0) return;
    const { elements }: Chunk = plan.chunk(first);
    for (const codecs of choices) {
      const codec = codecs[i]!;
      largest = Math.max(largest, settings.registry.get(codec.name).payloadBytes(codec, dtype, elements));
    }
  });
  return largest;
}
