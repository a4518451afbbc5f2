import {
  type BufferPool,
  bytesOf,
  type Chunk,
  type DeviceBytes,
  isDType,
  type Loan,
  type ModelInfo,
  type SourceTensor,
  type Tensor,
  type TensorInfo,
  TensorwireError,
  tensorBytes,
  unpooled,
} from "@tensorwire/core";
import { DeviceLoan, deviceBytes, deviceRun, isDeviceData } from "./device-tensor.js";
import type { ModelSource } from "./source.js";

/** A tensor without its name, as the value of a map. */
export type TensorValue = Omit<Tensor, "name">;

/** The same, or one whose data lie in a `GPUBuffer`. */
export type SourceValue = Omit<SourceTensor, "name">;

/** A model in memory. */
export type TensorMap = Readonly<Record<string, SourceValue>> | ReadonlyMap<string, SourceValue>;

/** What goes with tensors in memory. */
export interface TensorsOptions {
  /** The model's. */
  readonly metadata?: Readonly<Record<string, string>> | ReadonlyMap<string, string> | undefined;
  /**
   * What to do with two names for the same memory (tied tensors): `notice` sends both and warns once, `refuse` throws
   * `INVALID_ARGUMENT`. Default `notice`.
   */
  readonly tied?: "notice" | "refuse" | undefined;
}

/**
 * A model in memory, of the host or of a device, as a source. Its memory is read in place, never copied, never written.
 * @example
 * const bias = { dtype: "F32", shape: [4], data: Float32Array.of(1, 2, 3, 4) } as const;
 * await streamModel(tensorsSource({ bias }, { metadata: { num_examples: "2707" } }), destination);
 */
export function tensorsSource(tensors: TensorMap, options: TensorsOptions = {}): ModelSource {
  return new TensorsSource(tensors, options);
}

class TensorsSource implements ModelSource {
  readonly name = "tensors in memory";
  #data: (Uint8Array | DeviceBytes)[] = [];

  constructor(
    private readonly tensors: TensorMap,
    private readonly options: TensorsOptions,
  ) {}

  async open(): Promise<ModelInfo> {
    const entries = this.tensors instanceof Map ? [...this.tensors] : Object.entries(this.tensors);
    const infos = entries.map(([name, { dtype, shape }]) => tensorInfo({ name, dtype, shape }));
    this.#data = entries.map(([, { data }], i) => checkData(infos[i]!, data));
    this.#noticeTied(infos);
    return { kind: "model", tensors: infos, metadata: metadataOf(this.options.metadata) };
  }

  #noticeTied(infos: readonly TensorInfo[]): void {
    // Names by where a tensor begins in its buffer. Most have a buffer of their own, and need no map in the map.
    const seen = new Map<object, number | Map<string, number>>();
    const tied: string[] = [];
    const rangeOf = (i: number): string => `${this.#data[i]!.byteOffset}+${this.#data[i]!.byteLength}`;
    this.#data.forEach(({ buffer, byteLength }, i) => {
      if (byteLength === 0) return;
      const before = seen.get(buffer);
      if (before === undefined) {
        seen.set(buffer, i);
        return;
      }
      const ranges = typeof before === "number" ? new Map([[rangeOf(before), before]]) : before;
      seen.set(buffer, ranges);
      const other = ranges.get(rangeOf(i));
      if (other === undefined) ranges.set(rangeOf(i), i);
      else tied.push(`${infos[i]!.name} = ${infos[other]!.name}`);
    });
    if (!tied.length) return;
    const words = `tied tensors share their memory and are sent once each: ${tied.slice(0, 8).join(", ")}`;
    if (this.options.tied === "refuse") {
      throw new TensorwireError("INVALID_ARGUMENT", `${words}; leave one out, or set tied: "notice"`);
    }
    process.emitWarning(`${words}; leave one out to halve what they cost`, { code: "TENSORWIRE_TIED" });
  }

  read({ tensor, offset, bytes }: Chunk, _pool: BufferPool): Loan {
    const data = this.#data[tensor]!;
    if (data instanceof Uint8Array) return unpooled(data.subarray(offset, offset + bytes));
    return new DeviceLoan(deviceRun(data, offset, bytes));
  }

  async close(): Promise<void> {
    this.#data = [];
  }
}

/** Checks what a caller says of a tensor. @throws TensorwireError `INVALID_ARGUMENT`. */
export function tensorInfo({ name, dtype, shape }: TensorInfo): TensorInfo {
  if (typeof name !== "string") throw new TensorwireError("INVALID_ARGUMENT", "a tensor needs a name");
  if (!isDType(dtype)) {
    throw new TensorwireError("INVALID_ARGUMENT", `${String(dtype)} is no dtype; F32, BF16, I64 are some`, {
      tensor: name,
    });
  }
  if (!Array.isArray(shape))
    throw new TensorwireError("INVALID_ARGUMENT", "a shape is an array of counts", { tensor: name });
  tensorBytes({ name, dtype, shape });
  return { name, dtype, shape: [...shape] };
}

/** The bytes of a tensor's data. @throws TensorwireError `INVALID_ARGUMENT` where they are not what dtype and shape take. */
export function checkData(info: TensorInfo, data: unknown): Uint8Array | DeviceBytes {
  return isDeviceData(data) ? deviceBytes(info, data) : checkHostData(info, data);
}

/** The same of data that have to be the host's. */
export function checkHostData(info: TensorInfo, data: unknown): Uint8Array {
  if (!ArrayBuffer.isView(data)) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "data must be a view of bytes (a typed array or a Buffer), or { buffer } with a GPUBuffer",
      {
        tensor: info.name,
      },
    );
  }
  const expected = tensorBytes(info);
  if (data.byteLength !== expected) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `${data.byteLength} bytes of data where ${info.dtype} [${info.shape}] takes ${expected}`,
      { tensor: info.name },
    );
  }
  return bytesOf(data);
}

export function metadataOf(metadata: TensorsOptions["metadata"]): ReadonlyMap<string, string> {
  if (!metadata) return new Map();
  const entries: [string, unknown][] = metadata instanceof Map ? [...metadata] : Object.entries(metadata);
  for (const [key, value] of entries) {
    if (typeof value === "string") continue;
    throw new TensorwireError("INVALID_ARGUMENT", `metadata ${JSON.stringify(key)} must be a string`);
  }
  return new Map(entries as [string, string][]);
}
