import { constants } from "node:buffer";
import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { serializeSafetensorsHeader } from "@tensorwire/core";
import { memoryChannelPair, type ProgressEvent, receiveModel, streamModel } from "@tensorwire/stream";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EndProcess } from "../dist/ends/end-process.js";
import { openScratch } from "../src/memory/scratch.js";

const GiB = 2 ** 30;
/** One byte an element: past 2^31 and 2^32 in bytes and in elements. */
const ELEMENTS = 5 * GiB;
const TENSORS = [
  { name: "before", dtype: "I8", shape: [3] },
  { name: "large", dtype: "I8", shape: [5, GiB] },
  { name: "after", dtype: "I8", shape: [5] },
] as const;
const { bytes: HEADER, offsets, dataBytes } = serializeSafetensorsHeader(TENSORS);
const FILE_BYTES = HEADER.length + dataBytes;

/** Where a number that is too short for them would go wrong, and both ends; places in the large tensor. */
const PLACES = [
  0,
  1,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 31 + 1,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 32 + 1,
  5e9,
  ELEMENTS - 1,
];
const byteAt = (place: number): number => 1 + PLACES.indexOf(place);

// The source is sparse, and takes no room: what becomes of it takes its 5 GiB.
const scratch = await openScratch({ bytes: 6 * GiB, memoryBytes: GiB });
if (!scratch) console.log("SKIPPED: needs 6 GiB of disk");
const source = join(scratch?.path ?? "", "large.safetensors");

beforeAll(async () => {
  if (!scratch) return;
  const file = await open(source, "wx");
  await file.write(HEADER);
  await file.truncate(FILE_BYTES);
  for (const place of PLACES) await file.write(Uint8Array.of(byteAt(place)), 0, 1, positionOf(place));
  await file.write(Uint8Array.of(101, 102, 103), 0, 3, HEADER.length);
  await file.write(Uint8Array.of(104, 105, 106, 107, 108), 0, 5, FILE_BYTES - 5);
  await file.close();
});

afterAll(() => scratch?.remove());

const positionOf = (place: number): number => HEADER.length + offsets[1]!.begin + place;

test.skipIf(!scratch)(
  "a tensor of 5 GiB moves from file to file between two processes",
  { timeout: 120_000 },
  async () => {
    const target = join(scratch!.path, "target.safetensors");
    const [sender, receiver] = await Promise.all([EndProcess.start("sender"), EndProcess.start("receiver")]);
    try {
      const events: ProgressEvent[] = [];
      const receiving = receiver.run({ way: "file", target });
      const url = await receiving.listening;
      const sending = sender.run({ way: "file", source, url, options: { codec: "none" } }, (event) =>
        events.push(event),
      );
      const [sent, received] = await Promise.all([sending.done, receiving.done]);
      const sourceBytes = ELEMENTS + 8;
      const counts = {
        tensors: 3,
        chunks: 1282,
        sourceBytes,
        codeBytes: sourceBytes,
        scaleBytes: 0,
        fallbackChunks: 0,
      };
      expect(sent.summary).toMatchObject({ ...counts, confirmed: true });
      expect(received.summary).toMatchObject({ ...counts, digest: sent.summary!.digest });
      expect(sent.summary!.codecs.none).toEqual({
        tensors: 3,
        sourceBytes,
        payloadBytes: sourceBytes,
        wireBytes: sourceBytes,
      });
      expect(sent.summary!.wireBytes).toBeGreaterThan(sourceBytes);
      expect(sent.summary!.wireBytes).toBeLessThan(sourceBytes * 1.001);
      expect(events.at(-1)).toMatchObject({
        phase: "done",
        totalBytes: sourceBytes,
        acknowledgedBytes: sourceBytes,
      });
      expect(events.filter(({ sourceBytes: at }, i) => at < (events[i - 1]?.sourceBytes ?? 0))).toEqual([]);
      await checkFile(target);
    } finally {
      await Promise.all([sender.close(), receiver.close()]);
      await rm(target, { force: true });
    }
  },
);

async function checkFile(path: string): Promise<void> {
  const file = await open(path);
  try {
    expect((await file.stat()).size).toBe(FILE_BYTES);
    expect(await readAt(file, 0, HEADER.length)).toEqual(HEADER);
    expect([...(await readAt(file, HEADER.length, 3))]).toEqual([101, 102, 103]);
    expect([...(await readAt(file, FILE_BYTES - 5, 5))]).toEqual([104, 105, 106, 107, 108]);
    // With what lies around each: a byte that is also somewhere else is as wrong as one that is missing.
    for (const place of PLACES) {
      const from = Math.max(0, place - 4096);
      const around = await readAt(file, positionOf(from), Math.min(8192, ELEMENTS - from));
      const expected = new Uint8Array(around.length);
      for (const other of PLACES)
        if (other >= from && other < from + around.length) expected[other - from] = byteAt(other);
      expect(Buffer.from(around).equals(expected), `around element ${place}`).toBe(true);
    }
  } finally {
    await file.close();
  }
}

async function readAt(file: FileHandle, position: number, bytes: number): Promise<Uint8Array> {
  const target = new Uint8Array(bytes);
  expect((await file.read(target, 0, bytes, position)).bytesRead).toBe(bytes);
  return target;
}

test.skipIf(!scratch)("its chunks say where they lie, past 2^31 and 2^32", { timeout: 120_000 }, async () => {
  const [a, b] = memoryChannelPair();
  const sending = streamModel(source, a, { chunkBytes: 16 * 2 ** 20 });
  const model = receiveModel(b);
  const found = new Map<number, number>();
  let next = 0;
  for await (const { name, first, offset, elements, last, data } of model.chunks()) {
    if (name !== "large") continue;
    if (first !== next || offset !== next || data.length !== elements)
      throw new Error(`a chunk at ${first}, not ${next}`);
    for (const place of PLACES)
      if (place >= first && place < first + elements) found.set(place, data[place - first]!);
    next += elements;
    expect(last).toBe(next === ELEMENTS);
  }
  await Promise.all([sending, model.done]);
  expect(next).toBe(ELEMENTS);
  expect([...found]).toEqual(PLACES.map((place) => [place, byteAt(place)]));
});

const fits = constants.MAX_LENGTH >= ELEMENTS;
if (fits) console.log("SKIPPED: needs a runtime whose buffers are smaller than 5 GiB");

test.skipIf(!scratch || fits)(
  "asked for whole, it is refused before any of it moves, with advice",
  async () => {
    for (const borrow of [false, true]) {
      const [a, b] = memoryChannelPair();
      const sending = streamModel(source, a);
      sending.catch(() => {});
      const model = receiveModel(b, { borrow });
      const whole = async (): Promise<void> => {
        for await (const { name } of model) throw new Error(`tensor ${name} came`);
      };
      const tooLarge = {
        code: "TENSOR_TOO_LARGE",
        tensor: "large",
        message: expect.stringContaining("chunks()"),
      };
      await expect(whole()).rejects.toMatchObject(tooLarge);
      await expect(model.done).rejects.toMatchObject({ code: "TENSOR_TOO_LARGE" });
      await expect(sending).rejects.toMatchObject({ peerCode: "TENSOR_TOO_LARGE" });
    }
  },
);
