import {
  type DeviceBytes,
  type DeviceData,
  type Loan,
  type TensorInfo,
  TensorwireError,
  tensorBytes,
} from "@tensorwire/core";

/** Data that lie in a buffer of a device: of views, the buffer is memory of the host. */
export function isDeviceData(data: unknown): data is DeviceData {
  if (typeof data !== "object" || data === null || ArrayBuffer.isView(data)) return false;
  const { buffer } = data as Partial<DeviceData>;
  return typeof (buffer as { mapAsync?: unknown } | undefined)?.mapAsync === "function";
}

/**
 * A tensor's bytes in their buffer.
 * @throws TensorwireError `INVALID_ARGUMENT` where they are not what dtype and shape take.
 */
export function deviceBytes(
  info: TensorInfo,
  { buffer, byteOffset = 0, byteLength }: DeviceData,
): DeviceBytes {
  const expected = tensorBytes(info);
  const refuse = (why: string): never => {
    throw new TensorwireError("INVALID_ARGUMENT", why, { tensor: info.name });
  };
  if (byteLength !== undefined && byteLength !== expected) {
    refuse(`${byteLength} bytes of a GPUBuffer where ${info.dtype} [${info.shape}] takes ${expected}`);
  }
  const { size } = buffer as { size: number };
  const words = Math.ceil(expected / 4) * 4;
  if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset % 4 !== 0) {
    refuse(`a byteOffset of ${byteOffset} in a GPUBuffer: it has to be a multiple of 4`);
  }
  if (byteOffset + words > size) {
    refuse(
      `the GPUBuffer has ${size} bytes, and the tensor ends at ${byteOffset + words}: buffers end with a whole word`,
    );
  }
  return { buffer, byteOffset, byteLength: expected };
}

/** A run of a device's bytes. */
export function deviceRun({ buffer, byteOffset }: DeviceBytes, offset: number, bytes: number): DeviceBytes {
  return { buffer, byteOffset: byteOffset + offset, byteLength: bytes };
}

/** Bytes of a device, lent. */
export class DeviceLoan implements Loan {
  constructor(
    readonly device: DeviceBytes,
    private readonly released: () => void = () => {},
  ) {}

  /** @throws TensorwireError `INVALID_ARGUMENT`: whoever asks reads memory of the host. */
  get bytes(): Uint8Array {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "the tensor lies in a GPUBuffer, which is only sent as it is: to compute with it, read it back first",
    );
  }

  release(): void {
    this.released();
  }
}
