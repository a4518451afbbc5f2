import {
  type AccumulateJob,
  type Answer,
  byteLength,
  type CodecSpec,
  type FiniteJob,
  type Finiteness,
  isFloatDType,
  type PortableBackend,
  type TensorwireError,
} from "@tensorwire/core";
import type { Addon, JobCallback } from "./addon.js";
import { dtypeNumber } from "./dtype-number.js";
import { runNative } from "./native-call.js";
import type { NativeSpec } from "./native-spec.js";
import { finitenessOf } from "./verdict.js";

/** What sums take from the backend that they are a part of. */
export interface SumSettings {
  /** Undefined where the reference has to run. */
  specOf(spec: CodecSpec): NativeSpec | undefined;
  /** Whether a job of so many bytes is queued. */
  queues(bytes: number, packing: boolean): boolean;
}

/** Payloads that are decoded and added, or looked through, by the addon; what it does not take runs as the reference. */
export class NativeSums {
  readonly #addon: Addon;
  readonly #isa: number;
  readonly #portable: PortableBackend;
  readonly #settings: SumSettings;

  constructor(addon: Addon, isa: number, portable: PortableBackend, settings: SumSettings) {
    this.#addon = addon;
    this.#isa = isa;
    this.#portable = portable;
    this.#settings = settings;
  }

  accumulate(job: AccumulateJob): Answer<Finiteness> {
    const { dtype, elements, payload, hash, weight, accumulator, unpacked, signal } = job;
    const spec = this.#specOf(job);
    if (spec === undefined || !ArrayBuffer.isView(accumulator)) return this.#portable.accumulate(job);
    const { codec, block, options } = spec;
    const number = dtypeNumber(dtype);
    const views = unpacked === undefined ? [payload, accumulator] : [payload, accumulator, unpacked];
    const queue = this.#settings.queues(byteLength(dtype, elements), unpacked !== undefined);
    const sum = (callback?: JobCallback<number>) => {
      const shape = [this.#isa, codec.id, block, number, elements] as const;
      const sums = [payload, hash, weight, accumulator] as const;
      return this.#addon.accumulate(...shape, ...sums, callback, options, unpacked);
    };
    return withReasons(
      () => runNative(this.#addon, queue, views, signal, (verdict) => finitenessOf(verdict, hash), sum),
      () => this.#portable.accumulate(job),
    );
  }

  finite(job: FiniteJob): Answer<Finiteness> {
    const { dtype, elements, payload, hash, output, unpacked, signal } = job;
    const spec = this.#specOf(job);
    if (spec === undefined) return this.#portable.finite(job);
    const { codec, block, options } = spec;
    const [from, to] = [dtypeNumber(dtype), dtypeNumber(output)];
    const views = unpacked === undefined ? [payload] : [payload, unpacked];
    const queue = this.#settings.queues((unpacked ?? payload).length, unpacked !== undefined);
    const inspect = (callback?: JobCallback<number>) => {
      const shape = [this.#isa, codec.id, block, from, elements] as const;
      return this.#addon.inspect(...shape, payload, hash, to, callback, options, unpacked);
    };
    return withReasons(
      () => runNative(this.#addon, queue, views, signal, (verdict) => finitenessOf(verdict, hash), inspect),
      () => this.#portable.finite(job),
    );
  }

  #specOf({
    codec,
    dtype,
    unpacked,
  }: Pick<FiniteJob, "codec" | "dtype" | "unpacked">): NativeSpec | undefined {
    const spec = this.#settings.specOf(codec);
    if (spec === undefined || !isFloatDType(dtype) || !spec.codec.supports(dtype)) return undefined;
    return unpacked === undefined || this.#addon.packs ? spec : undefined;
  }
}

/** The reference says what is wrong with a payload of another length, after its hash. */
function withReasons(
  native: () => Answer<Finiteness>,
  reference: () => Answer<Finiteness>,
): Answer<Finiteness> {
  try {
    return native();
  } catch (error) {
    if ((error as TensorwireError).code === "PAYLOAD_INVALID") return reference();
    throw error;
  }
}
