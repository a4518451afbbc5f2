import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Listener,
  type ReceivedModel,
  type ReceiveOptions,
  receiveModel,
  streamModel,
  type TransferSummary,
} from "../src/index.js";
import { Disk, ResumableSink } from "./resumable-sink.js";
import {
  at,
  BYTES,
  type Bytes,
  expectSame,
  iterated,
  listening,
  model,
  proxied,
  quick,
  sizes,
  stored,
  WINDOW,
} from "./retry-fixture.js";

async function inChunks(received: ReceivedModel): Promise<Bytes> {
  const parts = new Map<string, Uint8Array[]>([["empty", []]]);
  for await (const { name, data } of received.chunks()) {
    parts.set(name, [...(parts.get(name) ?? []), data.slice()]);
  }
  return new Map([...parts].map(([name, all]) => [name, Buffer.concat(all)]));
}

/** Where a model can go: how it is received, and what came of it. */
const places: Record<
  string,
  (origin: string | Listener, options: ReceiveOptions) => [ReceivedModel, Promise<Bytes>]
> = {
  "tensor by tensor": (origin, options) => {
    const received = receiveModel(origin, options);
    return [received, iterated(received)];
  },
  "into one buffer that is lent": (origin, options) => {
    const received = receiveModel(origin, { ...options, borrow: true });
    return [received, iterated(received)];
  },
  "chunk by chunk": (origin, options) => {
    const received = receiveModel(origin, options);
    return [received, inChunks(received)];
  },
  "into a file": (origin, options) => {
    const to = at(`${Math.random()}.safetensors`);
    const received = receiveModel(origin, { ...options, to });
    return [received, received.done.then(() => stored(to))];
  },
  "into an artifact": (origin, options) => {
    const to = at(`${Math.random()}.twire`);
    const received = receiveModel(origin, { ...options, to });
    return [received, received.done.then(() => stored(to))];
  },
  "to a sink that makes checkpoints": (origin, options) => {
    const disk = new Disk();
    const received = receiveModel(origin, { ...options, to: new ResumableSink(disk) });
    return [
      received,
      received.done.then(() => new Map(Object.keys(model()).map((name, i) => [name, disk.tensors[i]!]))),
    ];
  },
};

const travelled = ({ codecs }: TransferSummary): number =>
  Object.values(codecs).reduce((sum, { sourceBytes }) => sum + sourceBytes, 0);

describe("with retry, a connection that breaks anywhere, over and over, is the end of nothing", () => {
  test.each(Object.entries(places))("%s", async (_name, receive) => {
    const tensors = model();
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(
          // The first of them gets as far as HELLO.
          fc.integer({ min: 1000, max: BYTES }),
          fc.array(fc.integer({ min: 1, max: BYTES }), { maxLength: 3 }),
        ),
        fc.boolean(),
        fc.boolean(),
        async ([first, others], senderListens, known) => {
          const listener = await listening();
          const proxy = await proxied(listener, [first, ...others]);
          const [destination, origin] = senderListens ? [listener, proxy.url] : [proxy.url, listener];
          const [received, result] = receive(origin, { windowBytes: WINDOW, retry: quick });
          const version = known ? "one" : undefined;
          const sending = streamModel(tensors, destination, { ...sizes, version, retry: quick });
          // A receiver that has everything is gone, whether or not its receipt came.
          const over = received.done.finally(() => listener.close());
          const [sent, got, bytes] = await Promise.allSettled([sending, over, result]);
          proxy.close();
          // The receiver has it, and could not say so: nobody is there to say it again.
          if (sent.status === "rejected") {
            if (got.status === "rejected") throw got.reason;
            expect(got).toMatchObject({ status: "fulfilled" });
          } else {
            const { digest, retries } = sent.value;
            expect(got).toMatchObject({ status: "fulfilled", value: { digest } });
            // One can break before HELLO, or when all is said.
            expect(retries).toBeLessThanOrEqual(proxy.broken);
            expect(travelled(sent.value)).toBeLessThanOrEqual(BYTES + retries * 2 * WINDOW);
          }
          expectSame(bytes, tensors);
        },
      ),
      { numRuns: 15 },
    );
  });
});
