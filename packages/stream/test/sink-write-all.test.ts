import { expect, test } from "vitest";
import { type Writable, writeAll } from "../src/sink/write-all.js";
import { noise } from "./sink-fixture.js";

/** A file whose calls take at most `most` bytes. */
function reluctant(content: Uint8Array, most: number): Writable {
  const take = async (bytes: Uint8Array, position: number): Promise<number> => {
    const taken = bytes.subarray(0, most);
    content.set(taken, position);
    return taken.length;
  };
  const write = async (bytes: Uint8Array, offset: number, length: number, position: number) => ({
    bytesWritten: await take(bytes.subarray(offset, offset + length), position),
    buffer: bytes,
  });
  const writev = async (parts: Uint8Array[], position: number) => ({
    bytesWritten: await take(Buffer.concat(parts), position),
    buffers: parts,
  });
  return { write, writev } as unknown as Writable;
}

test.each([1, 2, 3, 7, 10, 1000])(
  "everything is written by calls that take %i bytes at most",
  async (most) => {
    for (const lengths of [[], [0], [10], [1, 0, 2, 3, 0], [7, 7, 7], [100, 1, 50]]) {
      const parts = lengths.map((length, i) => noise(length, i));
      const whole = Buffer.concat(parts);
      const content = new Uint8Array(whole.length + 5);
      await writeAll(reluctant(content, most), parts, 5);
      expect(Buffer.compare(content.subarray(5), whole)).toBe(0);
    }
  },
);

test("a file that takes nothing is not asked for ever", async () => {
  await expect(writeAll(reluctant(new Uint8Array(9), 0), [noise(9, 1)], 0)).rejects.toThrow(
    "takes no more bytes",
  );
});
