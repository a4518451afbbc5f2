import { type FileHandle, open, stat } from "node:fs/promises";
import {
  asTensorwireError,
  type Channel,
  type ChannelReceiver,
  quote,
  TensorwireError,
} from "@tensorwire/core";

/** Bytes of one read, into a buffer that is used again. */
const READ_BYTES = 256 * 1024;

/**
 * A channel that delivers a file's bytes. Nobody grants credit to a file: it waits where the receiver asks it to.
 * @throws TensorwireError `CHANNEL_OPEN`.
 */
export async function fileReadChannel(path: string): Promise<Channel> {
  try {
    // Before it is opened: opening a pipe waits for its other end.
    if (!(await stat(path)).isFile()) throw new Error("it is no regular file");
    return new FileReadChannel(path, await open(path, "r"));
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const reason = missing ? "there is no such file" : (cause as Error).message;
    throw new TensorwireError("CHANNEL_OPEN", `cannot open ${quote(path)}: ${reason}`, {
      cause,
      retryable: false,
    });
  }
}

class FileReadChannel implements Channel {
  readonly kind = "file";
  readonly direction = "receive";
  #receiver: ChannelReceiver | undefined;
  #reading: Promise<unknown> = Promise.resolve();
  #ended = false;
  #closing: Promise<void> | undefined;

  constructor(
    private readonly path: string,
    private readonly file: FileHandle,
  ) {}

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    void this.#run(receiver);
  }

  async #run(receiver: ChannelReceiver): Promise<void> {
    let error: Error | undefined;
    try {
      await this.#deliver(receiver);
    } catch (cause) {
      error = asTensorwireError(cause, "SOURCE_READ", `cannot read ${quote(this.path)}`);
    }
    await this.file.close().catch(() => {});
    this.#end(error);
  }

  async #deliver(receiver: ChannelReceiver): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    let position = 0;
    while (!this.#closing) {
      const reading = this.file.read(buffer, 0, READ_BYTES, position);
      this.#reading = reading;
      const { bytesRead } = await reading;
      if (this.#closing || bytesRead === 0) return;
      position += bytesRead;
      await receiver.bytes(buffer.subarray(0, bytesRead));
    }
  }

  async send(): Promise<void> {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "a file that is read takes nothing: this channel only receives",
    );
  }

  close(error?: Error): Promise<void> {
    this.#closing ??= this.#close(error);
    return this.#closing;
  }

  async #close(error?: Error): Promise<void> {
    // Not the receiver, who may never ask for more: only the read that fills the buffer.
    await this.#reading.catch(() => {});
    await this.file.close().catch(() => {});
    this.#end(error);
  }

  #end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#receiver?.end(error);
  }
}
