import { subscribe, unsubscribe } from "node:diagnostics_channel";
import {
  type Channel,
  type ChannelReceiver,
  type CodecSpec,
  defaultCodecs,
  type Tensor,
} from "@tensorwire/core";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  memoryChannelPair,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TensorMap,
  type TensorValue,
  type TransferSummary,
} from "../src/index.js";
import type { TransferEndMessage } from "../src/session/diagnostics.js";
import { arriving } from "./arriving.js";
import { Disk, ResumableSink } from "./resumable-sink.js";

const ends: TransferEndMessage[] = [];
const onEnd = (message: unknown): void => void ends.push(message as TransferEndMessage);
beforeEach(() => subscribe("tensorwire:transfer:end", onEnd));
afterEach(() => {
  unsubscribe("tensorwire:transfer:end", onEnd);
  expect(ends.splice(0).filter(({ loans }) => loans !== 0)).toEqual([]);
});

const CHUNK = 32_768;
const WINDOW = 4 * CHUNK;

/** A model of many windows. */
function model(change: (values: Float32Array, name: string) => void = () => {}): Record<string, TensorValue> {
  const shapes = { embedding: [40, 4096], bias: [77], empty: [0], weight: [9, 10_000], scale: [] };
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape], t) => {
      const elements = shape.reduce((product, size) => product * size, 1);
      const values = new Float32Array(elements).map(
        (_, i) => Math.sin(i * 12.9898 + t) * 0.02 * (1 + (i % 7)),
      );
      change(values, name);
      return [name, { dtype: "F32", shape, data: values }];
    }),
  );
}

/** A channel that fails once it has carried so many bytes. */
function failing(channel: Channel, afterBytes: number): Channel {
  let left = afterBytes;
  return {
    kind: channel.kind,
    direction: channel.direction,
    open: (receiver: ChannelReceiver) => channel.open(receiver),
    async send(parts) {
      left -= parts.reduce((sum, { length }) => sum + length, 0);
      if (left < 0) {
        await channel.close(new Error("the line broke"));
        throw new Error("the line broke");
      }
      await channel.send(parts);
    },
    close: (error) => channel.close(error),
  };
}

interface Attempt {
  readonly sent: TransferSummary | undefined;
  readonly received: TransferSummary | undefined;
  /** Source bytes that left the sender, acknowledged or not. */
  readonly sentBytes: number;
}

/** One call at each end, over a line that may break. */
async function attempt(
  tensors: TensorMap,
  disk: Disk,
  options: StreamOptions,
  breaksAfter = Number.POSITIVE_INFINITY,
  delay?: () => Promise<void>,
): Promise<Attempt> {
  const [a, b] = memoryChannelPair(10_007);
  let sentBytes = 0;
  let begun: number | undefined;
  const onProgress: StreamOptions["onProgress"] = ({ sourceBytes }) => {
    begun ??= sourceBytes;
    sentBytes = sourceBytes - begun;
  };
  const sending = streamModel(tensors, failing(a, breaksAfter), {
    chunkBytes: CHUNK,
    windowBytes: WINDOW,
    minElements: 0,
    onProgress,
    ...options,
  });
  const { done } = receiveModel(b, { windowBytes: WINDOW, to: new ResumableSink(disk, delay) });
  const [sent, received] = await Promise.allSettled([sending, done]);
  await Promise.all([a.close(), b.close()]);
  return {
    sent: sent.status === "fulfilled" ? sent.value : undefined,
    received: received.status === "fulfilled" ? received.value : undefined,
    sentBytes,
  };
}

const travelled = ({ codecs }: TransferSummary): number =>
  Object.values(codecs).reduce((sum, { sourceBytes }) => sum + sourceBytes, 0);

function expectModel(disk: Disk, tensors: Record<string, TensorValue>, spec: CodecSpec): void {
  expect(disk.finished).toBe(true);
  Object.entries(tensors).forEach(([name, value], i) => {
    const expected = arriving({ name, ...value } as Tensor, spec, CHUNK);
    expect(Buffer.compare(disk.tensors[i]!, expected), name).toBe(0);
  });
}

const SPECS: readonly CodecSpec[] = [
  "none",
  "float16",
  "bfloat16",
  "blockwise8",
  "float4",
  "normfloat4",
  "adaquant",
  "lossless",
  { name: "normfloat4", nested: true },
  { name: "linear4", rounding: "stochastic", seed: "00112233445566aa" },
].map((spec) => defaultCodecs.resolve(spec as string));

const BYTES = 4 * (40 * 4096 + 77 + 9 * 10_000 + 1);

describe("a transfer that is interrupted anywhere, over and over, ends as an undisturbed one", () => {
  test.each(SPECS.map((spec) => [spec.nested ? "nested" : spec.name, spec] as const))(
    "%s",
    async (_name, spec) => {
      const tensors = model();
      const undisturbed = new Disk();
      const straight = await attempt(tensors, undisturbed, { codec: spec, version: "one" });
      expectModel(undisturbed, tensors, spec);
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 0, max: Math.ceil(straight.sent!.wireBytes * 0.7) }), { maxLength: 5 }),
          fc.boolean(),
          fc.boolean(),
          fc.infiniteStream(fc.nat(2)),
          async (breaks, named, strong, turns) => {
            const disk = new Disk();
            const integrity = strong ? "sha256" : "xxh64";
            const version = named ? "one" : undefined;
            const delay = async (): Promise<void> => {
              for (let i = turns.next().value!; i > 0; i--) await new Promise(setImmediate);
            };
            let last: Attempt | undefined;
            for (const breaksAfter of [...breaks, Number.POSITIVE_INFINITY]) {
              if (disk.finished) break;
              const before = [...disk.journal.keys()].length;
              last = await attempt(tensors, disk, { codec: spec, version, integrity }, breaksAfter, delay);
              // Nothing that was durable is lost.
              if (!disk.finished) expect(disk.journal.size).toBeGreaterThanOrEqual(before);
            }
            expectModel(disk, tensors, spec);
            if (!last?.sent) return;
            expect(last.received!.digest).toBe(last.sent.digest);
            // The manifest says which integrity.
            if (!strong) expect(last.sent.digest).toBe(straight.sent!.digest);
            expect(last.sent.resumedBytes + travelled(last.sent)).toBe(BYTES);
            expect(last.received!.resumedBytes).toBe(last.sent.resumedBytes);
            expect(disk.forgotten).toEqual([]);
          },
        ),
        { numRuns: 12 },
      );
    },
  );
});
