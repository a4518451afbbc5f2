import {
  byteLength,
  type ChunkPosition,
  type CodecRegistry,
  type CodecSpec,
  type DType,
} from "@tensorwire/core";
import type { Kernel } from "./kernel.js";
import { drawParameters, type Layout, layoutOf, type Part, workgroups } from "./layout.js";
import { inWords } from "./device-buffer.js";
import type { GpuLimits } from "./web-gpu.js";
import { isDeviceDType } from "./wgsl/elements.js";
import { COUNT_WORDS, type Parameters } from "./wgsl/parameters.js";

/** A chunk as kernels have it: which of them run, with what, and where the payload's parts lie. */
export interface DeviceChunk {
  readonly kernels: readonly { readonly kernel: Kernel; readonly workgroups: number }[];
  readonly parameters: Parameters;
  readonly parts: readonly Part[];
  /** Of its elements: of the source, or of the output. */
  readonly elementBytes: number;
  readonly payloadBytes: number;
  readonly scaleBytes: number;
  /** Of all words of the payload, counts included where it is made. */
  readonly words: number;
  readonly scratch: number;
}

/** Which chunks a device can have, and how. */
export class DeviceCodecs {
  readonly #specs = new WeakMap<CodecSpec, CodecSpec>();

  constructor(
    readonly registry: CodecRegistry,
    private readonly limits: GpuLimits,
  ) {}

  /** Undefined where the device does not have the codec, not of this dtype, or no room for so much. */
  encoder(codec: CodecSpec, dtype: DType, elements: number, at: ChunkPosition): DeviceChunk | undefined {
    const spec = this.#resolved(codec);
    const layout = this.#layout(spec, dtype, elements);
    if (layout === undefined || !isDeviceDType(dtype)) return undefined;
    const drawn = spec.rounding === "stochastic";
    // The reference says what is missing.
    if (drawn && (spec.seed === undefined || !Number.isSafeInteger(at.first) || at.first < 0))
      return undefined;
    const first: Kernel = { does: "encode", shape: layout.shape, dtype };
    const kernels: DeviceChunk["kernels"][number][] = [{ kernel: first, workgroups: workgroups(elements) }];
    if (layout.nested) {
      const { blocks = 0 } = layout.parameters;
      kernels.push(
        { kernel: { does: "nested-mean" }, workgroups: 1 },
        { kernel: { does: "nested-scales" }, workgroups: workgroups(blocks) },
      );
    }
    return this.#chunk(spec, dtype, layout, kernels, {
      elementBytes: byteLength(dtype, elements),
      words: COUNT_WORDS + layout.words,
      parameters: { ...layout.parameters, ...(drawn && drawParameters(spec, at)) },
    });
  }

  /** As `encoder`, of a payload that is to be decoded to `output`. */
  decoder(codec: CodecSpec, dtype: DType, elements: number, output: DType): DeviceChunk | undefined {
    const spec = this.#resolved(codec);
    const layout = this.#layout(spec, dtype, elements);
    if (layout === undefined || !isDeviceDType(output)) return undefined;
    const kernel: Kernel = { does: "decode", shape: layout.shape, dtype: output };
    return this.#chunk(spec, dtype, layout, [{ kernel, workgroups: workgroups(elements) }], {
      elementBytes: byteLength(output, elements),
      words: layout.words,
      parameters: layout.parameters,
    });
  }

  #resolved(spec: CodecSpec): CodecSpec {
    let resolved = this.#specs.get(spec);
    if (resolved === undefined) {
      resolved = this.registry.resolve(spec);
      this.#specs.set(spec, resolved);
    }
    return resolved;
  }

  #layout(spec: CodecSpec, dtype: DType, elements: number): Layout | undefined {
    const codec = this.registry.get(spec.name);
    if (!Number.isSafeInteger(elements) || elements < 1 || !codec.supports(dtype)) return undefined;
    return layoutOf(codec, spec, elements);
  }

  #chunk(
    spec: CodecSpec,
    dtype: DType,
    layout: Layout,
    kernels: DeviceChunk["kernels"],
    own: Pick<DeviceChunk, "elementBytes" | "words" | "parameters">,
  ): DeviceChunk | undefined {
    const { limits } = this;
    const elements = layout.parameters.elements!;
    const most = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
    const alignment = limits.minStorageBufferOffsetAlignment;
    const largest = Math.max(inWords(own.elementBytes) + alignment, 4 * (own.words + layout.scratch));
    const groups = Math.max(...kernels.map(({ workgroups }) => workgroups));
    if (largest > most || groups > limits.maxComputeWorkgroupsPerDimension) return undefined;
    const codec = this.registry.get(spec.name);
    return {
      ...own,
      kernels,
      parts: layout.parts,
      scratch: layout.scratch,
      payloadBytes: codec.payloadBytes(spec, dtype, elements),
      scaleBytes: codec.scaleBytes(spec, dtype, elements),
    };
  }
}
