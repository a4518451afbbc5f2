import { TransformStream } from "node:stream/web";
import { type ChannelPair, channelSuite } from "@tensorwire/core/testing";
import { expect, test } from "vitest";
import { webStreamsChannel } from "../src/channel/web-streams.js";
import { receiveModel, streamModel, type TensorMap } from "../src/index.js";

/** Bytes through a stream that can be held up, and torn. */
class Pipe {
  #gate: Promise<void> = Promise.resolve();
  #controller!: { error(reason: unknown): void };
  readonly stream = new TransformStream<Uint8Array, Uint8Array>({
    start: (controller) => {
      this.#controller = controller;
    },
    transform: async (portion, controller) => {
      await this.#gate;
      controller.enqueue(portion);
    },
  });

  stall(): () => void {
    let open!: () => void;
    this.#gate = new Promise((resolve) => {
      open = resolve;
    });
    return open;
  }

  tear(): void {
    this.#controller.error(new Error("torn"));
  }
}

channelSuite("Web streams", (): ChannelPair => {
  const there = new Pipe();
  const back = new Pipe();
  return {
    left: webStreamsChannel({ readable: back.stream.readable, writable: there.stream.writable }),
    right: webStreamsChannel({ readable: there.stream.readable, writable: back.stream.writable }),
    stall: () => there.stall(),
    vanish: () => {
      there.tear();
      back.tear();
    },
  };
});

const model: TensorMap = { w: { dtype: "F32", shape: [100_000], data: new Float32Array(100_000).fill(0.5) } };

test("a readable alone receives at the reader's pace, and a writable alone sends", async () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const received = receiveModel({ readable }, { windowBytes: 65_536 });
  const sending = streamModel(model, { writable }, { chunkBytes: 32_768, windowBytes: 65_536 });
  let bytes = 0;
  for await (const { data } of received) bytes += data.length;
  expect(bytes).toBe(400_000);
  expect(await sending).toMatchObject({ confirmed: false });
});

test("a stream of something else than bytes is PROTOCOL", async () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const { done } = receiveModel({ readable });
  await writer.write("text" as unknown as Uint8Array).catch(() => {});
  await expect(done).rejects.toMatchObject({ code: "PROTOCOL" });
  await expect(writer.closed).rejects.toThrow();
});

test("a pair without streams is an argument at fault", () => {
  expect(() => webStreamsChannel({})).toThrow("needs a readable or a writable");
});
