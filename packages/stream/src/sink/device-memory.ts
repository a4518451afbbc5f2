import type { DeviceBytes } from "@tensorwire/core";
import type { GpuDevice } from "@tensorwire/quant-native/gpu";
import type { TensorIn, TensorMemory } from "./tensors.js";

/** A `GPUBuffer` with a tensor in it, from its beginning on. */
export interface DeviceMemory extends DeviceBytes {
  /** Of the device that the caller gave. */
  readonly buffer: ReturnType<GpuDevice["createBuffer"]>;
}

/** A tensor that has arrived whole, in a buffer of its own, which is the caller's. */
export interface ReceivedDeviceTensor extends TensorIn<DeviceMemory> {}

/** `GPUBufferUsage.STORAGE | COPY_SRC | COPY_DST`: kernels can have the tensor, and it can be read back. */
const USAGE = 0x80 | 0x4 | 0x8;

/** A buffer of a device for each tensor. */
export function deviceMemory(device: GpuDevice): TensorMemory<DeviceMemory> {
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
  return {
    name: "this device",
    mostBytes: Math.min(maxBufferSize, maxStorageBufferBindingSize),
    allocate(byteLength) {
      // Whole words, and none of no bytes: kernels have nothing to bind there.
      const size = Math.max(4, Math.ceil(byteLength / 4) * 4);
      return { buffer: device.createBuffer({ size, usage: USAGE }), byteOffset: 0, byteLength };
    },
    part: ({ buffer }, byteOffset, byteLength) => ({ buffer, byteOffset, byteLength }),
    discard({ buffer }) {
      buffer.destroy();
    },
  };
}
