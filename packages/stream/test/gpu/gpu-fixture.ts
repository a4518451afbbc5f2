import { type OpenGpuDevice, openGpuDevice } from "@tensorwire/quant-native/gpu";
import { describe, it } from "vitest";

export type Device = OpenGpuDevice["device"];

/** A device for the tests of this file, or why there is none: on machines without a GPU, SwiftShader (scripts/software-gpu.mjs). */
let opened: OpenGpuDevice | Error;
try {
  opened = await openGpuDevice();
} catch (error) {
  opened = error as Error;
}

/** Registers `tests`, on a device that is open, where there is one. */
export function describeGpu(name: string, tests: (device: Device) => void): void {
  if (opened instanceof Error) {
    console.log(`SKIPPED: needs a GPU, or npm webgpu and SwiftShader: ${name}: ${opened.message}`);
    it.skip(`${name}: needs a GPU`, () => {});
    return;
  }
  const { device } = opened;
  describe(name, () => tests(device));
}

/** A `GPUBuffer` with these bytes from `offset` on. */
export function uploaded(device: Device, bytes: Uint8Array, offset = 0) {
  const size = offset + Math.ceil(bytes.length / 4) * 4;
  const buffer = device.createBuffer({ size: Math.max(size, 4), usage: 0x80 | 0x4 | 0x8 });
  const whole = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  whole.set(bytes);
  if (whole.length > 0) device.queue.writeBuffer(buffer, offset, whole);
  return { buffer, byteOffset: offset, byteLength: bytes.length };
}

/** What lies in a `GPUBuffer`. */
export async function downloaded(
  device: Device,
  { buffer, byteOffset, byteLength }: ReturnType<typeof uploaded>,
): Promise<Uint8Array> {
  const size = Math.max(4, Math.ceil(byteLength / 4) * 4);
  const readback = device.createBuffer({ size, usage: 0x1 | 0x8 });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, byteOffset, readback, 0, size);
  device.queue.submit([encoder.finish()]);
  await readback.mapAsync(1);
  const bytes = new Uint8Array(readback.getMappedRange()).slice(0, byteLength);
  readback.destroy();
  return bytes;
}
