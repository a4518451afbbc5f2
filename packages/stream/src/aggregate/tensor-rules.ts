import type { CodecBackend, TensorInfo } from "@tensorwire/core";
import type { AggregateMemory } from "./aggregate-memory.js";
import type { AggregateRule } from "./aggregate-options.js";
import type { ChunkRule, Part } from "./chunk-rule.js";
import { isFloatTensor } from "./client-model.js";
import { FiniteMean } from "./finite-mean.js";
import { IntegerRule } from "./integer-rule.js";
import { ModularSum } from "./modular-sum.js";
import { RankedMean } from "./ranked-mean.js";
import { WeightedMean } from "./weighted-mean.js";

interface RuleSettings {
  readonly tensors: readonly TensorInfo[];
  readonly parts: readonly Part[];
  readonly rule: AggregateRule;
  readonly memory: AggregateMemory;
  readonly backend: CodecBackend;
  readonly notice: (message: string) => void;
}

/** What is done with each tensor's chunks. @throws TensorwireError `INVALID_ARGUMENT` where a method has no use for one. */
export function tensorRules(settings: RuleSettings): ChunkRule[] {
  const { tensors, parts, rule, memory, backend, notice } = settings;
  const means =
    rule.method === "trimmed-mean" || rule.method === "median" ? memory.ranked(parts.length) : undefined;
  return tensors.map((tensor) => {
    if (rule.method === "sum-mod-2^32") return new ModularSum(parts, tensor);
    if (!isFloatTensor(tensor)) return new IntegerRule(parts, tensor, rule.integers, memory.sums, notice);
    const mean = means
      ? new RankedMean(parts, tensor.dtype, means)
      : new WeightedMean(parts, tensor.dtype, rule.accumulator, memory.sums, backend);
    return new FiniteMean(mean, tensor, backend);
  });
}
