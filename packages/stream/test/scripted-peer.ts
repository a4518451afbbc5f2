import {
  type Channel,
  type ChunkRecord,
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeDataHead,
  encodeFrame,
  encodeJson,
  type FrameHeader,
  FrameParser,
  FrameType,
  type Hello,
  PREAMBLE,
  TensorwireError,
  unpooled,
} from "@tensorwire/core";
import { expect } from "vitest";

/** A peer that says what a test tells it to, and remembers what it hears. It obeys no rule of the protocol. */
export class ScriptedPeer {
  readonly heard: { type: FrameType; body: Uint8Array }[] = [];
  readonly chunks: { record: ChunkRecord; payload: Uint8Array }[] = [];
  #listeners: (() => void)[] = [];
  #ended = false;

  constructor(readonly channel: Channel) {
    const parser = new FrameParser(
      {
        admit: () => {},
        control: ({ type }: FrameHeader, body) => void this.heard.push({ type, body: body.slice() }),
        lend: (_header, record) => unpooled(new Uint8Array(record.packedBytes)),
        payload: (_header, record, { bytes }) => void this.chunks.push({ record, payload: bytes }),
      },
      DEFAULT_LIMITS,
    );
    channel.open({
      bytes: (portion) => {
        parser.push(portion);
        this.#wake();
      },
      end: () => {
        this.#ended = true;
        this.#wake();
      },
    });
  }

  #wake(): void {
    for (const listener of this.#listeners.splice(0)) listener();
  }

  hello(role: Hello["role"], other: Partial<Hello> = {}): Promise<void> {
    const hello: Hello = {
      versions: [1],
      software: "a scripted peer",
      role,
      codecs: defaultCodecs.names(),
      limits: { maxChunkBytes: 2 ** 30, maxManifestBytes: 2 ** 30 },
      ...other,
    };
    return this.raw(PREAMBLE, encodeFrame(FrameType.HELLO, 0, 0, encodeJson(hello)));
  }

  say(type: FrameType, body: Uint8Array | string = "", { transfer = 1, flags = 0 } = {}): Promise<void> {
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    return this.raw(encodeFrame(type, transfer, flags, bytes));
  }

  data(records: readonly ChunkRecord[], payloads: readonly Uint8Array[]): Promise<void> {
    return this.raw(encodeDataHead(1, records), ...payloads);
  }

  /** The other side may have hung up already: that is no fault of the script's. */
  raw(...parts: Uint8Array[]): Promise<void> {
    return this.channel.send(parts).catch(() => {});
  }

  /** Waits for a frame of this type, or for the end. */
  async hears(type: FrameType): Promise<Uint8Array | undefined> {
    for (;;) {
      const found = this.heard.find((frame) => frame.type === type);
      if (found || this.#ended) return found?.body;
      await new Promise<void>((resolve) => this.#listeners.push(resolve));
    }
  }
}

/** What ends the transfer that the peer of a script takes part in. */
export async function failing(
  work: Promise<unknown>,
  peer: ScriptedPeer,
  script: Promise<unknown>,
): Promise<TensorwireError> {
  const error = await work.then(
    () => expect.unreachable("the transfer must not succeed"),
    (reason: unknown) => reason,
  );
  await peer.channel.close(new Error("over"));
  await script;
  expect(error).toBeInstanceOf(TensorwireError);
  return error as TensorwireError;
}
