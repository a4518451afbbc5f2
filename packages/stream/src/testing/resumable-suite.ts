import {
  ChunkPlan,
  encodeManifest,
  type Manifest,
  TensorwireError,
  type Totals,
  TransferDigest,
  xxh64,
} from "@tensorwire/core";
import { afterEach, describe, expect, test } from "vitest";
import type { Sink, SinkModel } from "../sink/sink.js";
import { type Attempt, attempt, bytesOf } from "./resumable-attempt.js";
import { type SampleTensor, sampleModel, sampleTensors } from "./sample-model.js";

/** A place that a sink writes to, again and again. */
export interface PlaceUnderTest {
  /** A fresh sink, not open. */
  sink(): Sink;
  /** From here on it is as if the process of the sinks before were gone: nothing holds its locks. */
  forsake(): Promise<void>;
  /** What stands there now: the tensors of a complete model, or `undefined` where there is nothing at all. */
  result(): Promise<readonly SampleTensor[] | undefined>;
  /** What an attempt has left: parts, journals, locks. */
  leftovers(): Promise<readonly string[]>;
}

/** What the suite makes allowance for. */
export interface ResumableSuiteOptions {
  /** A chunk that is held can be replaced. Default true; where it cannot, only chunks of the same version are held. */
  readonly forgets?: boolean | undefined;
  /** Where there is no journal yet, it goes on from what its file shows by itself, of whatever version. Default false. */
  readonly recovers?: boolean | undefined;
}

const INTERRUPTION = new TensorwireError("CHANNEL_CLOSED", "the suite interrupts the transfer");
const FAULT = new TensorwireError("DIGEST_MISMATCH", "the suite ends the transfer");
const CHUNK_BYTES = 32_768;

/**
 * What any sink must do that can be interrupted. `make` gives a new place for each test.
 * @example
 * // not run: a suite is of a test file, which vitest runs
 * resumableSuite("raw file", async () => ({
 *   sink: () => rawFileSink("copy.bin"),
 *   forsake: async () => {},
 *   result: async () => undefined,
 *   leftovers: async () => [],
 * }));
 */
export function resumableSuite(
  name: string,
  make: () => Promise<PlaceUnderTest>,
  { forgets = true, recovers = false }: ResumableSuiteOptions = {},
): void {
  describe(`resumable suite: ${name}`, () => {
    // Those that were forsaken still have their files open.
    afterEach(async () => {
      for (const sink of begun.splice(0)) await sink.abort(INTERRUPTION);
    });

    test("holds exactly what was checkpointed, wherever it is dropped, and gives the same file", async () => {
      const model = modelOf("v1");
      const { chunks } = model.plan;
      for (let written = 0; written <= chunks; written++) {
        for (const noted of new Set([0, written >> 1, Math.max(0, written - 1), written])) {
          const place = await make();
          const first = await begin(place, model);
          await first.write(0, noted);
          await first.resumable.checkpoint();
          await first.write(noted, written);
          await place.forsake();
          const second = await begin(place, model);
          const what = `${written} of ${chunks} written, ${noted} of them before the checkpoint`;
          const held = second.held();
          if (noted === 0 && recovers) expect(held.length, what).toBeLessThanOrEqual(written);
          else expect(held.length, what).toBe(noted);
          expect(held, what).toEqual(range(0, held.length));
          expect(second.resumable.sameVersion, what).toBe(noted > 0);
          await second.write(held.length, chunks);
          await second.sink.finish(totalsOf(model));
          await complete(place, what);
        }
      }
    });

    test("holds what came in any order of notes, over several attempts", async () => {
      const model = modelOf("v1");
      const place = await make();
      for (let from = 0; from < model.plan.chunks; from += 3) {
        const attempt = await begin(place, model);
        expect(attempt.held()).toEqual(range(0, from));
        const to = Math.min(from + 3, model.plan.chunks);
        const notes = await attempt.put(from, to);
        // Writes that overlap end as they like.
        for (const note of notes.reverse()) note();
        await attempt.resumable.checkpoint();
        await place.forsake();
      }
      const last = await begin(place, model);
      expect(last.held()).toEqual(range(0, model.plan.chunks));
      await last.sink.finish(totalsOf(model));
      await complete(place, "over several attempts");
    });

    test("leaves to the next checkpoint what is noted while one is made", async () => {
      const model = modelOf("v1");
      const place = await make();
      const first = await begin(place, model);
      await first.write(0, 3);
      const checkpoint = first.resumable.checkpoint();
      await first.write(3, 6);
      await checkpoint;
      await place.forsake();
      const second = await begin(place, model);
      expect(second.held()).toEqual(range(0, 3));
      await second.write(3, 5);
      await second.resumable.checkpoint();
      await second.write(5, 7);
      await second.resumable.checkpoint();
      await place.forsake();
      const third = await begin(place, model);
      expect(third.held()).toEqual(range(0, 7));
      await third.write(7, model.plan.chunks);
      await third.sink.finish(totalsOf(model));
      await complete(place, "with checkpoints beside the writing");
    });

    test("keeps all that is noted when it is interrupted, and nothing after a fault", async () => {
      const model = modelOf("v1");
      for (const checkpointed of [0, 2]) {
        const place = await make();
        const first = await begin(place, model);
        await first.write(0, checkpointed);
        await first.resumable.checkpoint();
        await first.write(checkpointed, 5);
        await first.sink.abort(INTERRUPTION);
        await first.sink.abort(INTERRUPTION);
        expect(await place.result()).toBeUndefined();
        const second = await begin(place, model);
        expect(second.held()).toEqual(range(0, 5));
        // An attempt that brings nothing takes nothing away.
        await second.sink.abort(INTERRUPTION);
        const third = await begin(place, model);
        expect(third.held()).toEqual(range(0, 5));
        await third.write(5, 6);
        await third.sink.abort(FAULT);
        expect(await place.leftovers()).toEqual([]);
        const fourth = await begin(place, model);
        expect(fourth.held()).toEqual([]);
        await fourth.sink.abort(INTERRUPTION);
        expect(await place.leftovers(), "of which nothing is held").toEqual([]);
      }
    });

    test("starts clean where another model comes", async () => {
      const place = await make();
      const first = await begin(place, modelOf("v1"));
      await first.write(0, 5);
      await first.sink.abort(INTERRUPTION);
      const other = modelOf("v1", new Map([["format", "another"]]));
      const second = await begin(place, other);
      expect(second.held()).toEqual([]);
      await second.write(0, other.plan.chunks);
      await second.sink.finish(totalsOf(other));
      await complete(place, "another model");
    });

    test("says whether what it holds is of the version that comes", async () => {
      const versions = ["v1", "v2", "v2", "v1"];
      const place = await make();
      const said: [held: number, same: boolean][] = [];
      for (const version of versions) {
        const attempt = await begin(place, modelOf(version));
        const held = attempt.held().length;
        said.push([held, attempt.resumable.sameVersion]);
        await attempt.write(held, held + 2);
        await attempt.sink.abort(INTERRUPTION);
      }
      // Of two versions, it is of neither, until all of it is compared or replaced.
      const mixed: typeof said = [
        [0, false],
        [2, false],
        [4, false],
        [6, false],
      ];
      const only: typeof said = [
        [0, false],
        [0, false],
        [2, true],
        [0, false],
      ];
      expect(said).toEqual(forgets ? mixed : only);
      const unnamed = await begin(place, modelOf(undefined));
      expect(unnamed.resumable.sameVersion).toBe(false);
      await unnamed.sink.abort(FAULT);
    });

    test("is trusted by nobody once it was told that another version may come", async () => {
      for (const before of [0, 3]) {
        const place = await make();
        const first = await begin(place, modelOf("v1"));
        await first.write(0, before);
        await first.resumable.checkpoint();
        first.resumable.mix();
        await first.write(before, 5);
        await first.resumable.checkpoint();
        await place.forsake();
        const second = await begin(place, modelOf("v1"));
        expect(second.resumable.sameVersion, `${before} noted before`).toBe(false);
        expect(second.held()).toEqual(range(0, forgets ? 5 : 0));
        await second.sink.abort(FAULT);
      }
    });

    if (!forgets) return;

    test("forgets a chunk before it is replaced, whatever happens then", async () => {
      const model = modelOf("v1");
      for (const chunk of [0, 4, model.plan.chunks - 1]) {
        const place = await make();
        const first = await begin(place, model);
        await first.write(0, model.plan.chunks - 2);
        await first.resumable.checkpoint();
        // The last two are noted, and in no checkpoint yet.
        await first.write(model.plan.chunks - 2, model.plan.chunks);
        await first.resumable.forget(model.plan.chunk(chunk));
        await first.put(chunk, chunk + 1, 0x55);
        await place.forsake();
        const second = await begin(place, model);
        const held = second.held();
        expect(held).not.toContain(chunk);
        // Chunks behind it may be forgotten with it, and none before it.
        expect(held.slice(0, chunk)).toEqual(range(0, chunk));
        const missing = range(0, model.plan.chunks).filter((ordinal) => !held.includes(ordinal));
        for (const ordinal of missing) await second.write(ordinal, ordinal + 1);
        await second.sink.abort(INTERRUPTION);
        const third = await begin(place, model);
        expect(third.held(), "what was forgotten is held again").toEqual(range(0, model.plan.chunks));
        await third.sink.finish(totalsOf(model));
        await complete(place, `chunk ${chunk} forgotten`);
      }
    });
  });
}

function modelOf(version: string | undefined, metadata = sampleModel().metadata): SinkModel {
  const tensors = sampleModel().tensors.map((info) => ({ ...info, codec: { name: "none" } }));
  const manifest: Manifest = { kind: "model", tensors, metadata, chunkBytes: CHUNK_BYTES };
  const plan = new ChunkPlan(tensors, CHUNK_BYTES);
  const bytes = encodeManifest(manifest);
  return { manifest, plan, dtypes: tensors.map(({ dtype }) => dtype), bytes, version };
}

/** What END says where the last connection brought nothing. */
function totalsOf({ plan, bytes, manifest }: SinkModel): Totals {
  const digest = new TransferDigest(plan);
  for (const chunk of plan.walk()) digest.add(chunk.ordinal, 0, xxh64(bytesOf(chunk)));
  return { digest: digest.transfer(bytes, manifest.tensors.length), chunks: 0, sourceBytes: 0, clamped: 0 };
}

const begun: Sink[] = [];

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

async function begin(place: PlaceUnderTest, model: SinkModel): Promise<Attempt> {
  const sink = place.sink();
  begun.push(sink);
  return attempt(sink, model);
}

async function complete(place: PlaceUnderTest, what: string): Promise<void> {
  expect(await place.leftovers(), what).toEqual([]);
  const found = new Map((await place.result())!.map((tensor) => [tensor.name, tensor]));
  for (const { name, data } of sampleTensors()) {
    expect(Buffer.compare(found.get(name)!.data, data), `${name}, ${what}`).toBe(0);
  }
}
