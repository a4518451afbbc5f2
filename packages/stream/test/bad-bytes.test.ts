import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PortableBackend, TensorwireError } from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { flip, frameNames, type Tampering, type TravellingFrame, tampered } from "./tamper.js";

// What travels: two chunks of one tensor, a small one, an empty one and a scalar; small enough to try every bit.
const values = new Float32Array(9000).map((_, i) => Math.sin(i));
const model = {
  weight: { dtype: "F32", shape: [90, 100], data: values },
  bias: { dtype: "F32", shape: [3], data: values.slice(0, 3) },
  none: { dtype: "F32", shape: [0, 4], data: new Uint8Array() },
  step: { dtype: "I64", shape: [], data: new Uint8Array(8).fill(1) },
} as const;
const backend = new PortableBackend();
const pass: Tampering = ({ bytes }) => [bytes];

let folder: string;
const ends = checksLoans();
afterEach(() => expect(ends.length).toBeGreaterThan(0));
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
});
afterEach(() => rm(folder, { recursive: true }));

interface Ends {
  readonly toReceiver?: Tampering;
  readonly toSender?: Tampering;
}

/** Runs the transfer through the tampering; both ends end, and the errors that they ended with are given. */
async function transfer({
  toReceiver = pass,
  toSender = pass,
}: Ends): Promise<(TensorwireError | undefined)[]> {
  const [a, b] = memoryChannelPair(4099);
  const options = { backend, windowBytes: 65536 };
  const sent = streamModel(model, tampered(a, toReceiver), {
    ...options,
    codec: "normfloat4",
    minElements: 0,
  });
  const received = receiveModel(tampered(b, toSender), {
    ...options,
    to: join(folder, "model.safetensors"),
  }).done;
  const results = await Promise.allSettled([sent, received]);
  // What a user of two sockets does: the channel of a failed transfer is given up.
  await Promise.all([a.close(new Error("over")), b.close(new Error("over"))]);
  return results.map((result) => {
    if (result.status === "fulfilled") return undefined;
    expect(result.reason).toBeInstanceOf(TensorwireError);
    return result.reason;
  });
}

async function frames(side: keyof Ends): Promise<{ name: string; index: number; bits: number }[]> {
  const seen: { name: string; index: number; bits: number }[] = [];
  const watch: Tampering = ({ type, index, bytes }) => {
    seen.push({ name: frameNames.get(type)!, index, bits: bytes.length * 8 });
    return [bytes];
  };
  expect(await transfer({ [side]: watch })).toEqual([undefined, undefined]);
  expect(await readdir(folder)).toEqual(["model.safetensors"]);
  await rm(join(folder, "model.safetensors"));
  return seen;
}

/** Every byte of what describes; of payloads, which one hash covers alike, a sample. */
const stride = (name: string, byte: number): number => (name === "DATA" && byte >= 256 ? 97 : 1);

/** Nothing under the name, no lock: at most what a later call can go on from. */
async function expectUnfinished(where: string): Promise<void> {
  const part = "model.safetensors.part";
  expect([[], [part, `${part}.journal`]], where).toContainEqual((await readdir(folder)).sort());
}

/** The next transfer goes on from nothing. */
async function clear(): Promise<void> {
  for (const name of await readdir(folder)) await rm(join(folder, name));
}

const sides = ["toReceiver", "toSender"] as const;

describe.each(sides)("bytes changed on the way %s", (side) => {
  test("a flipped bit in any byte of any frame is found, and no file has its name", async () => {
    for (const { name, index, bits } of await frames(side)) {
      for (let byte = 0; byte < bits / 8; byte += stride(name, byte)) {
        const bit = byte * 8 + ((byte + index) % 8);
        const [sent, received] = await transfer({
          [side]: (frame: TravellingFrame) => [frame.index === index ? flip(frame.bytes, bit) : frame.bytes],
        });
        const where = `${name} bit ${bit}`;
        // A receipt that changed on the way is found by the sender, after the receiver has all it needs.
        if (name === "RECEIPT") expect(sent, where).toBeDefined();
        else {
          expect(sent, where).toBeDefined();
          expect(received, where).toBeDefined();
          await expectUnfinished(where);
        }
        await clear();
      }
    }
  }, 120_000);

  test("a channel that ends within any frame, or between two, ends both sides with an error", async () => {
    for (const how of ["close", "drop"] as const) {
      for (const { name, index, bits } of await frames(side)) {
        for (const cut of [0, 5, Math.floor(bits / 16), bits / 8]) {
          if (name === "RECEIPT" && cut === bits / 8) continue;
          const [sent, received] = await transfer({
            [side]: (frame: TravellingFrame) =>
              frame.index === index ? [frame.bytes.subarray(0, cut), how] : [frame.bytes],
          });
          const where = `${how} after ${cut} bytes of ${name}`;
          expect(sent, where).toBeDefined();
          // With the whole of END the receiver has all it needs; that nobody hears its receipt takes nothing away.
          if (name === "RECEIPT" || (name === "END" && cut === bits / 8)) continue;
          expect(received, where).toBeDefined();
          await expectUnfinished(where);
          await clear();
        }
        await clear();
      }
    }
  }, 120_000);

  test("a repeated frame is refused", async () => {
    for (const { name, index } of await frames(side)) {
      // Credit is a total: hearing it twice changes nothing. After a receipt there is nobody left to refuse another.
      if (name === "CREDIT" || name === "RECEIPT" || name === "END") continue;
      const results = await transfer({
        [side]: (frame: TravellingFrame) =>
          frame.index === index ? [frame.bytes, frame.bytes] : [frame.bytes],
      });
      expect(
        results.every((error) => error !== undefined),
        name,
      ).toBe(true);
      expect(await readdir(folder), name).toEqual([]);
    }
  });
});

describe("frames out of their order", () => {
  test("two neighbouring frames that change places are refused", async () => {
    const count = (await frames("toReceiver")).length;
    expect(count).toBeGreaterThan(3);
    // Not HELLO and MANIFEST: what comes after them waits for an answer, and would never be sent.
    for (let first = 2; first + 1 < count; first++) {
      let held: Uint8Array | undefined;
      const results = await transfer({
        toReceiver: ({ index, bytes }) => {
          if (index === first) {
            held = bytes;
            return [];
          }
          return index === first + 1 ? [bytes, held!] : [bytes];
        },
      });
      // The manifest is waited for by nobody when it is held back: the sender then never hears what is wanted.
      if (first > 1)
        expect(
          results.every((error) => error !== undefined),
          `frame ${first}`,
        ).toBe(true);
      expect(await readdir(folder), `frame ${first}`).toEqual([]);
    }
  });
});
