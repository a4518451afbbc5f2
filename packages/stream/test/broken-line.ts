import {
  type Channel,
  type ChannelReceiver,
  FrameType,
  HEADER_BYTES,
  parseDataTable,
} from "@tensorwire/core";

/** Source bytes that a frame of F32 tensors carries. */
function sourceBytes([head]: readonly Uint8Array[]): number {
  if (head?.[1] !== FrameType.DATA) return 0;
  const bodyBytes = new DataView(head.buffer, head.byteOffset).getUint32(8, true);
  const records = parseDataTable(head.subarray(HEADER_BYTES), bodyBytes);
  return records.reduce((sum, { elements }) => sum + 4 * elements, 0);
}

/** A channel that breaks before it has carried more than so many bytes, and counts source bytes that go out. */
export class BrokenLine implements Channel {
  readonly kind: string;
  readonly direction: Channel["direction"];
  sentBytes = 0;
  broke = false;

  constructor(
    private readonly channel: Channel,
    private left: number,
  ) {
    this.kind = channel.kind;
    this.direction = channel.direction;
  }

  open(receiver: ChannelReceiver): void {
    this.channel.open(receiver);
  }

  async send(parts: readonly Uint8Array[]): Promise<void> {
    this.left -= parts.reduce((sum, { length }) => sum + length, 0);
    if (this.left < 0) {
      this.broke = true;
      const error = new Error("the line broke");
      await this.channel.close(error);
      throw error;
    }
    this.sentBytes += sourceBytes(parts);
    await this.channel.send(parts);
  }

  close(error?: Error): Promise<void> {
    return this.channel.close(error);
  }
}
