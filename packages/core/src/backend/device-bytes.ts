import { TensorwireError } from "../errors.js";

/**
 * Bytes that lie in a buffer of a device, where a backend that runs there takes them: a `GPUBuffer` of WebGPU. It begins
 * at a multiple of 4; what it is short of one at its end belongs to it, is read with it, and may be overwritten.
 */
export interface DeviceBytes {
  /** The `GPUBuffer`, of which core knows nothing. */
  readonly buffer: object;
  /** Where in the buffer they begin. */
  readonly byteOffset: number;
  /** How many they are. */
  readonly byteLength: number;
}

/**
 * By its shape a `Uint8Array` is one of those too: this tells them apart.
 * @example
 * console.log(isHostBytes({ buffer: {}, byteOffset: 0, byteLength: 4 })); // false
 */
export function isHostBytes(bytes: Uint8Array | DeviceBytes): bytes is Uint8Array {
  return bytes instanceof Uint8Array;
}

/**
 * A job's bytes, for backends that run on this machine's own processor.
 * @param backend its name.
 * @throws TensorwireError `INVALID_ARGUMENT` for bytes of a device.
 * @example
 * console.log(hostBytes("mine", new Uint8Array(4)).length); // 4
 */
export function hostBytes(backend: string, bytes: Uint8Array | DeviceBytes): Uint8Array {
  if (isHostBytes(bytes)) return bytes;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `backend ${backend} reads and writes memory of its own machine, and was given a buffer of a device: give ` +
      "the device too (option device, or a backend of gpuCodecs), or read the buffer back first",
  );
}
