import * as fc from "fast-check";
import { expect, test } from "vitest";
import { RetainedBytes } from "../src/channel/retained-bytes.js";

/** The byte at each place of the direction. */
const at = (place: number): number => (place * 31 + (place >> 8)) & 0xff;
const piece = (from: number, bytes: number): Uint8Array =>
  Uint8Array.from({ length: bytes }, (_, i) => at(from + i));

test("what is read at a place is what was written there, within the bound, whatever was released", async () => {
  const step = fc.oneof(
    fc.record({ write: fc.integer({ min: 0, max: 150_000 }) }),
    fc.record({ release: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.record({ bound: fc.integer({ min: 1, max: 300_000 }) }),
  );
  const property = fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
    let bound = 100_000;
    let largest = bound;
    const bytes = new RetainedBytes(
      () => bound,
      () => {},
    );
    let written = 0;
    const writes: Promise<void>[] = [];
    for (const each of steps) {
      if ("bound" in each) largest = Math.max(largest, (bound = each.bound));
      else if ("write" in each) {
        const parts = [
          piece(written, each.write >> 1),
          piece(written + (each.write >> 1), each.write - (each.write >> 1)),
        ];
        written += each.write;
        writes.push(bytes.write(parts).then(() => parts.forEach((part) => void part.fill(0))));
      } else bytes.release(bytes.tail + Math.floor((bytes.head - bytes.tail) * each.release));
      await Promise.resolve();
      expect(bytes.head - bytes.tail).toBeLessThanOrEqual(largest);
      const kept = Buffer.concat(bytes.read(bytes.tail, Number.MAX_SAFE_INTEGER));
      expect(kept.equals(piece(bytes.tail, bytes.head - bytes.tail))).toBe(true);
      const half = bytes.tail + ((bytes.head - bytes.tail) >> 1);
      expect(Buffer.concat(bytes.read(half, 10)).equals(piece(half, Math.min(10, bytes.head - half)))).toBe(
        true,
      );
    }
    bytes.finish();
    bound = Math.max(bound, 1);
    while (!bytes.finished || bytes.tail < bytes.head) bytes.release(bytes.head);
    await Promise.all(writes);
    expect(bytes.head).toBe(written);
  });
  await fc.assert(property, { numRuns: 150 });
});

test("writes wait in their order, and are refused together", async () => {
  let changes = 0;
  const bytes = new RetainedBytes(
    () => 10,
    () => changes++,
  );
  await bytes.write([piece(0, 4), piece(4, 4)]);
  const waiting = [bytes.write([piece(8, 4)]), bytes.write([piece(12, 1)])];
  expect([bytes.head, bytes.full, changes]).toEqual([10, true, 2]);
  bytes.release(1);
  expect(bytes.head).toBe(11);
  const results = Promise.allSettled(waiting);
  bytes.refuse(new Error("closed"));
  expect(await results).toMatchObject([{ status: "rejected" }, { status: "rejected" }]);
  expect([bytes.head, bytes.finished, bytes.full]).toEqual([11, true, false]);
});
