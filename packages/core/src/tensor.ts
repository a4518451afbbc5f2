import { byteLength, type DType } from "./dtype.js";
import { TensorwireError } from "./errors.js";

/** What is known of a tensor before its data. `shape` is row-major; `[]` is a scalar, a 0 makes it empty. */
export interface TensorInfo {
  /** Unique in its model; any text without lone surrogates. */
  readonly name: string;
  /** What the elements are. */
  readonly dtype: DType;
  /** Dimensions, outermost first. */
  readonly shape: readonly number[];
}

/** A tensor: its info and its little-endian contiguous elements. */
export interface Tensor extends TensorInfo {
  /** The elements' bytes, in any view (`Float32Array`, `Buffer`, …); the library never writes to them. */
  readonly data: ArrayBufferView;
}

/** A tensor's data in a buffer of a device, a `GPUBuffer`; all of the buffer, where nothing else is said. */
export interface DeviceData {
  /** The `GPUBuffer`. */
  readonly buffer: object;
  /** A multiple of 4. Default 0. */
  readonly byteOffset?: number | undefined;
  /** Default: what dtype and shape take. */
  readonly byteLength?: number | undefined;
}

/** A tensor that is sent: its data are the host's, or a device's. */
export interface SourceTensor extends TensorInfo {
  /** The elements: bytes in any view, or a run of a device's buffer. The library never writes to them. */
  readonly data: ArrayBufferView | DeviceData;
}

/**
 * Product of the dimensions; 1 for a scalar.
 * @throws TensorwireError `LIMIT_EXCEEDED` past 2⁵³.
 * @example
 * console.log(elementCount([4096, 256]), elementCount([])); // 1048576 1
 */
export function elementCount(shape: readonly number[], name?: string): number {
  let count = 1;
  let empty = false;
  for (const dimension of shape) {
    if (!Number.isSafeInteger(dimension) || dimension < 0) {
      throw new TensorwireError("INVALID_ARGUMENT", `shape [${shape}] has a dimension that is not a count`, {
        tensor: name,
      });
    }
    if (dimension === 0) empty = true;
    else count *= dimension;
    // Checked at each step and with zeros left out, so that no order of dimensions hides an overflow.
    if (!Number.isSafeInteger(count)) {
      throw new TensorwireError("LIMIT_EXCEEDED", `shape [${shape}] has more than 2^53 elements`, {
        tensor: name,
      });
    }
  }
  return empty ? 0 : count;
}

/**
 * Bytes of a tensor's data.
 * @throws TensorwireError as `elementCount` and `byteLength` do.
 * @example
 * console.log(tensorBytes({ name: "weight", dtype: "F16", shape: [4096, 256] })); // 2097152
 */
export function tensorBytes(info: TensorInfo): number {
  return byteLength(info.dtype, elementCount(info.shape, info.name));
}

/**
 * The same memory as bytes.
 * @example
 * console.log(bytesOf(Float32Array.of(1, 2)).length); // 8
 */
export function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
