import type { DeviceBytes } from "@tensorwire/core";
import type { GpuDevice } from "@tensorwire/quant-native/gpu";
import type { TensorIn, TensorMemory } from "./tensors.js";

/** A `GPUBuffer` with a tensor in it, from its beginning on. */
export interface DeviceMemory extends DeviceBytes {
  /** The `GPUBuffer`: `STORAGE`, `COPY_SRC` and `COPY_DST`. */
  readonly buffer: ReturnType<GpuDevice["createBuffer"]>;
}

/** A tensor that has arrived whole, in a buffer of its own, which is the caller's. */
export interface ReceivedDeviceTensor extends TensorIn<DeviceMemory> {}

/** `GPUBufferUsage.STORAGE | COPY_SRC | COPY_DST`: kernels can have the tensor, and it can be read back. */
const USAGE = 0x80 | 0x4 | 0x8;

/** A buffer of a device for each tensor. */
export function deviceMemory(device: GpuDevice): TensorMemory<DeviceMemory> {
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
  const complaints = new WeakMap<object, Promise<string | undefined>>();
  return {
    name: "this device",
    mostBytes: Math.min(maxBufferSize, maxStorageBufferBindingSize),
    allocate(byteLength) {
      // Whole words, and none of no bytes: kernels have nothing to bind there.
      const size = Math.max(4, Math.ceil(byteLength / 4) * 4);
      device.pushErrorScope("validation");
      device.pushErrorScope("out-of-memory");
      const buffer = device.createBuffer({ size, usage: USAGE });
      const scopes = Promise.all([device.popErrorScope(), device.popErrorScope()]);
      // A device that is lost is noticed by whoever writes to it.
      const nothing = (): undefined => {};
      complaints.set(
        buffer,
        scopes.then((found) => found.find((each) => each !== null)?.message, nothing),
      );
      return { buffer, byteOffset: 0, byteLength };
    },
    complaint: ({ buffer }) => complaints.get(buffer)!,
    part: ({ buffer }, byteOffset, byteLength) => ({ buffer, byteOffset, byteLength }),
    discard({ buffer }) {
      buffer.destroy();
    },
  };
}
