import { type CodecSpec, defaultCodecs, type Tensor } from "@tensorwire/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  memoryChannelPair,
  type ReceiveOptions,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TensorValue,
  type TransferSummary,
} from "../src/index.js";
import { arriving } from "./arriving.js";
import { BrokenLine } from "./broken-line.js";
import { checksLoans } from "./loans-fixture.js";
import { Disk, ResumableSink } from "./resumable-sink.js";

checksLoans();

const CHUNK = 32_768;
const WINDOW = 4 * CHUNK;
const SHAPES = { embedding: [40, 4096], bias: [77], empty: [0], weight: [9, 10_000], scale: [] };
const BYTES = 4 * (40 * 4096 + 77 + 9 * 10_000 + 1);

type Model = Record<string, TensorValue & { readonly data: Float32Array }>;

/** A model of many windows. */
function model(): Model {
  return Object.fromEntries(
    Object.entries(SHAPES).map(([name, shape], t) => {
      const elements = shape.reduce((product, size) => product * size, 1);
      const data = new Float32Array(elements).map((_, i) => Math.sin(i * 12.9898 + t) * 0.02 * (1 + (i % 7)));
      return [name, { dtype: "F32", shape, data }];
    }),
  );
}

interface Call extends StreamOptions {
  /** Bytes after which the line breaks. */
  readonly breaksAfter?: number;
  /** How long the disk takes. */
  readonly delay?: () => Promise<void>;
  readonly receive?: ReceiveOptions;
}

interface Result {
  readonly sent: PromiseSettledResult<TransferSummary>;
  readonly received: PromiseSettledResult<TransferSummary>;
  /** Source bytes that left the sender, whether or not they came to be of use. */
  readonly sentBytes: number;
}

/** One call at each end, over a line that may break. */
async function call(tensors: Model, disk: Disk, options: Call = {}): Promise<Result> {
  const { breaksAfter = Number.POSITIVE_INFINITY, delay, receive, ...rest } = options;
  const [a, b] = memoryChannelPair(10_007);
  const line = new BrokenLine(a, breaksAfter);
  const sizes = { chunkBytes: CHUNK, windowBytes: WINDOW, minElements: 0 };
  const sending = streamModel(tensors, line, { ...sizes, ...rest });
  const to = new ResumableSink(disk, delay);
  const { done } = receiveModel(b, { windowBytes: WINDOW, to, ...receive });
  const [sent, received] = await Promise.allSettled([sending, done]);
  await Promise.all([a.close(), b.close()]);
  return { sent, received, sentBytes: line.sentBytes };
}

function summaries({ sent, received }: Result): { sent: TransferSummary; received: TransferSummary } {
  if (sent.status === "rejected") throw sent.reason;
  if (received.status === "rejected") throw received.reason;
  return { sent: sent.value, received: received.value };
}

const reasonOf = (result: PromiseSettledResult<unknown>): unknown => (result as PromiseRejectedResult).reason;

const travelled = ({ codecs }: TransferSummary): number =>
  Object.values(codecs).reduce((sum, { sourceBytes }) => sum + sourceBytes, 0);

function expectModel(disk: Disk, tensors: Model, spec: CodecSpec = { name: "none" }): void {
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
const named = SPECS.map((spec) => [spec.nested ? "normfloat4, nested" : spec.name, spec] as const);

/** Waits of a few turns, other ones in each run. */
const slow = (turns: Iterator<number>) => async (): Promise<void> => {
  for (let i = turns.next().value!; i > 0; i--) await new Promise(setImmediate);
};

describe("a transfer that is interrupted anywhere, over and over, ends as an undisturbed one", () => {
  test.each(named)("%s", async (_name, codec) => {
    const tensors = model();
    const undisturbed = new Disk();
    const straight = summaries(await call(tensors, undisturbed, { codec })).sent;
    expectModel(undisturbed, tensors, codec);
    const breaks = fc.array(fc.integer({ min: 0, max: Math.ceil(straight.wireBytes * 0.7) }), {
      maxLength: 5,
    });
    const settings = fc.record({ known: fc.boolean(), strong: fc.boolean() });
    let resumed = 0;
    await fc.assert(
      fc.asyncProperty(
        breaks,
        settings,
        fc.infiniteStream(fc.nat(2)),
        async (after, { known, strong }, turns) => {
          const disk = new Disk();
          const integrity = strong ? "sha256" : "xxh64";
          const options = {
            codec,
            integrity,
            version: known ? "one" : undefined,
            delay: slow(turns),
          } as const;
          let sentBytes = 0;
          let calls = 0;
          let result: Result | undefined;
          for (const breaksAfter of [...after, Number.POSITIVE_INFINITY]) {
            if (disk.finished) break;
            const before = disk.journal.size;
            result = await call(tensors, disk, { ...options, breaksAfter });
            sentBytes += result.sentBytes;
            calls++;
            if (!disk.finished) expect(disk.journal.size).toBeGreaterThanOrEqual(before);
          }
          expectModel(disk, tensors, codec);
          expect(
            sentBytes,
            "at most two windows of source bytes travel twice for an interruption",
          ).toBeLessThanOrEqual(BYTES + (calls - 1) * 2 * WINDOW);
          expect(disk.forgotten).toEqual([]);
          // The line can break on the way of the receipt: the model is whole then, and its sender does not know.
          if (result?.sent.status !== "fulfilled") return;
          const { sent, received } = summaries(result);
          expect(received.digest).toBe(sent.digest);
          if (!strong) expect(sent.digest).toBe(straight.digest);
          expect(sent.resumedBytes + travelled(sent)).toBe(BYTES);
          expect(received.resumedBytes).toBe(sent.resumedBytes);
          resumed += sent.resumedBytes;
        },
      ),
      { numRuns: 12 },
    );
    expect(resumed, "some of it was there").toBeGreaterThan(0);
  });
});

/** Leaves what an interruption in the middle leaves. */
async function interrupted(tensors: Model, options: Call = {}): Promise<Disk> {
  const disk = new Disk();
  await call(tensors, disk, { breaksAfter: BYTES * 0.6, ...options });
  expect(disk.finished).toBe(false);
  expect(disk.journal.size).toBeGreaterThan(4);
  return disk;
}

describe("a source of the same version is taken for the same, and nothing of it is made again", () => {
  test("only what is missing is read", async () => {
    const tensors = model();
    const disk = await interrupted(tensors, { version: "one" });
    const held = disk.journal.size;
    const result = await call(tensors, disk, { version: "one" });
    const { sent } = summaries(result);
    expectModel(disk, tensors);
    expect(result.sentBytes).toBe(BYTES - sent.resumedBytes);
    expect(sent.resumedBytes).toBeGreaterThan(held * 1000);
  });

  test("progress begins at what is there", async () => {
    const tensors = model();
    const disk = await interrupted(tensors, { version: "one" });
    const seen: number[] = [];
    const onProgress: StreamOptions["onProgress"] = (event) => void seen.push(event.sourceBytes);
    const { sent } = summaries(
      await call(tensors, disk, { version: "one", onProgress, receive: { onProgress } }),
    );
    expect(sent.resumedBytes).toBeGreaterThan(0);
    expect(Math.min(...seen)).toBe(sent.resumedBytes);
    expect(Math.max(...seen)).toBe(BYTES);
  });

  test("the seed of a codec that rounds at random is made of it", async () => {
    const tensors = model();
    const codec = { name: "linear4", rounding: "stochastic" } as const;
    const disk = await interrupted(tensors, { version: "one", codec, breaksAfter: 60_000 });
    const { sent } = summaries(await call(tensors, disk, { version: "one", codec }));
    expect(sent.resumedBytes).toBeGreaterThan(0);
    // Without a version another one is drawn, and what is there is of no use.
    const other = await interrupted(tensors, { codec, breaksAfter: 60_000 });
    expect(summaries(await call(tensors, other, { codec })).sent.resumedBytes).toBe(0);
  });
});

describe("a source that has changed since it was interrupted is found, and never mixed", () => {
  /** Changes the first elements of chunks, of which the first tensor has 20. */
  function changed(ordinals: readonly number[]): Model {
    const tensors = model();
    for (const ordinal of ordinals) tensors.embedding!.data[ordinal * 8192] = 7;
    return tensors;
  }

  test.each([
    ["its version is another", { version: "one" }, { version: "two" }],
    ["it has no version any more", { version: "one" }, {}],
    ["it has got a version", {}, { version: "two" }],
    ["it never had one", {}, {}],
  ] as const)(
    "resend: what differs, and nothing else, is sent again, where %s",
    async (_where, before, after) => {
      const disk = await interrupted(model(), before);
      const held = disk.journal.size;
      const tensors = changed([1, 2, 5, 19]);
      const result = await call(tensors, disk, after);
      const { sent, received } = summaries(result);
      expectModel(disk, tensors);
      expect(disk.forgotten).toEqual([1, 2, 5].filter((ordinal) => ordinal < held));
      expect(received.resumedBytes).toBe(sent.resumedBytes);
      expect(result.sentBytes).toBe(BYTES - sent.resumedBytes);
      expect(sent.resumedBytes).toBe((held - disk.forgotten.length) * CHUNK);
    },
  );

  test("a version that is another of the same model costs making it again, and no bytes", async () => {
    const disk = await interrupted(model(), { version: "one" });
    const result = await call(model(), disk, { version: "two" });
    expectModel(disk, model());
    expect(disk.forgotten).toEqual([]);
    expect(result.sentBytes).toBe(BYTES - summaries(result).sent.resumedBytes);
  });

  test("it stays a mix, and is compared, until it is whole, also when the first version comes back", async () => {
    const disk = await interrupted(model(), { version: "one" });
    const tensors = changed([0, 1, 2, 3, 4, 5, 6]);
    await call(tensors, disk, { version: "two", breaksAfter: BYTES * 0.2 });
    expect(disk.finished).toBe(false);
    expect(disk.forgotten.length).toBeGreaterThan(0);
    summaries(await call(model(), disk, { version: "one" }));
    expectModel(disk, model());
  });

  test("restart: all of it is sent again", async () => {
    const disk = await interrupted(model(), { version: "one" });
    const tensors = changed([1]);
    const result = await call(tensors, disk, { version: "two", ifChanged: "restart" });
    expectModel(disk, tensors);
    expect(result.sentBytes).toBe(BYTES);
    expect(summaries(result).sent.resumedBytes).toBe(0);
    // Nothing to begin anew for where it is the same.
    const same = await interrupted(model(), { version: "one" });
    const unchanged = await call(model(), same, { version: "one", ifChanged: "restart" });
    expect(summaries(unchanged).sent.resumedBytes).toBeGreaterThan(0);
  });

  test("fail: it ends at the first chunk that differs, and says which", async () => {
    const disk = await interrupted(model(), { version: "one" });
    const { sent, received } = await call(changed([2, 3]), disk, { version: "two", ifChanged: "fail" });
    expect(reasonOf(sent)).toMatchObject({ code: "SOURCE_CHANGED", tensor: "embedding", chunk: 2 });
    expect(reasonOf(received)).toMatchObject({ code: "PEER_FAILED", peerCode: "SOURCE_CHANGED" });
    // It is not a matter of the version alone.
    summaries(await call(model(), disk, { version: "three", ifChanged: "fail" }));
    expectModel(disk, model());
  });

  test("words that are none of these are refused, and so are versions that are none", async () => {
    const [a] = memoryChannelPair();
    for (const options of [{ ifChanged: "ask" as never }, { version: "" }, { version: "x".repeat(129) }]) {
      await expect(streamModel(model(), a, options)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  });

  test("a model of other tensors begins anew", async () => {
    const disk = await interrupted(model(), { version: "one" });
    const { bias, weight } = model();
    const other = { bias: bias!, weight: weight! };
    const { sent } = summaries(await call(other, disk, { version: "one" }));
    expectModel(disk, other);
    expect(sent.resumedBytes).toBe(0);
  });
});
