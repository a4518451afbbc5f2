import { type DeviceBytes, TensorwireError } from "@tensorwire/core";
import type { Binding } from "./dispatch.js";
import type { GpuBuffer } from "./web-gpu.js";

/** What lies in a buffer is copied, and bound, in words. */
export const inWords = (bytes: number): number => Math.ceil(bytes / 4) * 4;

/**
 * A device's bytes, looked at: as many as are needed, of a buffer that can be used so.
 * @param usage of which the buffer must have one.
 * @throws TensorwireError `INVALID_ARGUMENT`.
 */
export function deviceBuffer(given: DeviceBytes, needed: number, usage: number, purpose: string): GpuBuffer {
  const { byteOffset, byteLength } = given;
  const buffer = given.buffer as Partial<GpuBuffer>;
  const refuse = (why: string): never => {
    throw new TensorwireError("INVALID_ARGUMENT", `the buffer of the device ${why}`);
  };
  if (
    typeof buffer?.size !== "number" ||
    typeof buffer.usage !== "number" ||
    typeof buffer.mapAsync !== "function"
  ) {
    return refuse("is no GPUBuffer");
  }
  if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset % 4 !== 0) {
    return refuse(`is to be used from byte ${byteOffset} on: it has to be a multiple of 4`);
  }
  if (byteLength < needed) return refuse(`has ${byteLength} bytes for this chunk, which needs ${needed}`);
  if (byteOffset + inWords(needed) > buffer.size) {
    return refuse(
      `has ${buffer.size} bytes, and is to be used from ${byteOffset} to ${byteOffset + inWords(needed)}`,
    );
  }
  if ((buffer.usage & usage) === 0) return refuse(`has usage 0x${buffer.usage.toString(16)}: ${purpose}`);
  return buffer as GpuBuffer;
}

/** What a kernel has bound of it, and where the bytes begin in that, in bytes. */
export interface BoundRun {
  readonly binding: Binding;
  readonly before: number;
}

/** A run of a buffer as it can be bound: from a multiple of the device's alignment on. */
export function boundRun(buffer: GpuBuffer, byteOffset: number, bytes: number, alignment: number): BoundRun {
  const before = byteOffset % alignment;
  return { binding: { buffer, offset: byteOffset - before, bytes: inWords(before + bytes) }, before };
}
