import {
  ChunkIndex,
  encodeFooter,
  encodeFrame,
  encodeManifest,
  FOOTER_BYTES,
  FrameType,
  HEADER_BYTES,
  INDEX_ENTRY_BYTES,
  type IndexEntry,
  PREAMBLE,
  xxh64,
} from "@tensorwire/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { artifactFrames, withIndex } from "./artifact-file.js";
import { fault, opened, payloadsOf, tensors } from "./artifact-index-fixture.js";

describe("a file that is no whole artifact with an index", () => {
  const good = artifactFrames({ tensors: tensors.slice(1), recordsPerFrame: 3 });

  test("cut at any byte is refused, and is not where it ends with END", async () => {
    for (let cut = 0; cut < good.indexed.length; cut++) {
      const part = good.indexed.subarray(0, cut);
      if (cut === good.bytes.length) {
        expect((await opened(part)).source.indexed).toBe(false);
        continue;
      }
      const error = await fault(part);
      expect(error, `cut at ${cut}`).toMatchObject({ code: "SOURCE_INVALID" });
      const expected = cut < 8 ? /byte 0: this is no artifact/ : /the file is truncated: .*\.part/;
      expect(error.message, `cut at ${cut}`).toMatch(expected);
    }
  });

  test("any bit of head, END, index and footer turned over is noticed; of a payload, when it is read", async () => {
    const { position, packedBytes } = good.index.entry(2);
    for (let byte = 0; byte < good.indexed.length; byte++) {
      const changed = good.indexed.slice();
      changed[byte]! ^= 1 << (byte % 8);
      if (byte < good.index.position(0) - HEADER_BYTES - 4 - 3 * 36 || byte >= good.bytes.length - 56) {
        const error = await fault(changed);
        expect(error, `byte ${byte}`).toMatchObject({ code: "SOURCE_INVALID" });
      } else if (byte >= position && byte < position + packedBytes) {
        const { source } = await opened(changed);
        await expect(payloadsOf(source, good.plan)).rejects.toMatchObject({
          code: "SOURCE_INVALID",
          tensor: good.manifest.tensors[good.plan.chunk(2).tensor]!.name,
        });
      }
    }
  });

  test("bytes behind the footer", async () => {
    const error = await fault(new Uint8Array([...good.indexed, 0]));
    expect(error.message).toMatch(/an index follows that no footer is of/);
    const twice = new Uint8Array([...good.indexed, ...good.indexed]);
    expect((await fault(twice)).message).toMatch(
      /the footer is that of a file of \d+ bytes, and this one has/,
    );
  });

  /** The artifact with an index of which the entries are changed, and everything that covers them made again. */
  function lying(change: (entries: IndexEntry[]) => void): Uint8Array {
    const entries = [...good.plan.walk()].map(({ ordinal }) => good.index.entry(ordinal));
    change(entries);
    const index = new ChunkIndex(good.plan);
    for (const entry of entries) index.add(entry);
    return withIndex(good.bytes, places(), index.bytes);
  }
  const places = () => ({
    headBytes: good.index.position(0) - HEADER_BYTES - 4 - 3 * 36,
    endPosition: good.bytes.length - HEADER_BYTES - 32,
  });

  test.each<[string, (entries: IndexEntry[]) => void, RegExp]>([
    [
      "overlaps",
      (all) => (all[1] = { ...all[1]!, position: all[1]!.position - 1 }),
      /chunk 1 of the plan at bytes/,
    ],
    [
      "lies in the head",
      (all) => (all[0] = { ...all[0]!, position: 0 }),
      /chunk 0 of the plan at bytes 0 to 36/,
    ],
    ["lies in END", (all) => (all[5] = { ...all[5]!, position: good.bytes.length - 99 }), /chunk 5/],
    ["lies beyond 2^53", (all) => (all[5] = { ...all[5]!, position: 2 ** 63 }), /chunk 5/],
    ["is in another order", (all) => all.reverse(), /chunk 1 of the plan/],
    ["has a packing that is reserved", (all) => (all[0] = { ...all[0]!, packing: 2 }), /reserved packing 2/],
    [
      "has a length of its own",
      (all) => (all[0] = { ...all[0]!, payloadBytes: 35, packedBytes: 35 }),
      /35 bytes/,
    ],
    ["is of another codec", (all) => (all[0] = { ...all[0]!, codec: 4 }), /the manifest says none/],
    ["is of a codec that nobody has", (all) => (all[0] = { ...all[0]!, codec: 4444 }), /4444/],
    ["has another hash", (all) => (all[0] = { ...all[0]!, hash: 1n }), /END frame's digest/],
  ])("a chunk that %s", async (_, change, message) => {
    const error = await fault(lying(change));
    expect(error.message).toMatch(message);
    expect(["SOURCE_INVALID", "CODEC_UNSUPPORTED"]).toContain(error.code);
  });

  test("an index of more, or fewer, chunks than the plan has, takes no memory", async () => {
    for (const by of [-INDEX_ENTRY_BYTES, INDEX_ENTRY_BYTES, -1, 1, 1 << 26]) {
      const body = new Uint8Array(good.index.bytes.length + by);
      const error = await fault(withIndex(good.bytes, places(), body));
      expect(error).toMatchObject({
        code: "SOURCE_INVALID",
        message: expect.stringMatching(/END and the index of 6 chunks take/),
      });
    }
  });

  test("a footer that places things elsewhere", async () => {
    const { headBytes, endPosition } = places();
    const { length: fileBytes } = good.indexed;
    const lies = [
      { headBytes: headBytes - 1, endPosition, fileBytes },
      { headBytes: headBytes + 1, endPosition, fileBytes },
      { headBytes: 8, endPosition, fileBytes },
      { headBytes: endPosition + 1, endPosition, fileBytes },
      { headBytes, endPosition: endPosition - 1, fileBytes },
      { headBytes, endPosition: 2 ** 53 - 1, fileBytes },
      { headBytes, endPosition, fileBytes: fileBytes + 1 },
    ];
    for (const lie of lies) {
      const bytes = good.indexed.slice();
      bytes.set(encodeFooter(lie), fileBytes - FOOTER_BYTES);
      expect(await fault(bytes), JSON.stringify(lie)).toMatchObject({ code: "SOURCE_INVALID" });
    }
    await fc.assert(
      fc.asyncProperty(fc.maxSafeNat(), fc.maxSafeNat(), async (head, end) => {
        fc.pre(head !== headBytes || end !== endPosition);
        const bytes = good.indexed.slice();
        bytes.set(encodeFooter({ headBytes: head, endPosition: end, fileBytes }), fileBytes - FOOTER_BYTES);
        expect(await fault(bytes)).toMatchObject({ code: "SOURCE_INVALID" });
      }),
    );
  });

  test("a footer of a later version", async () => {
    const bytes = good.indexed.slice();
    const footer = bytes.subarray(bytes.length - FOOTER_BYTES);
    footer[24] = 2;
    new DataView(footer.buffer, footer.byteOffset).setBigUint64(32, xxh64(footer.subarray(0, 32)), true);
    expect(await fault(bytes)).toMatchObject({ code: "VERSION_UNSUPPORTED" });
  });

  test("a manifest that announces more than the file can hold takes no memory for it", async () => {
    const before = process.memoryUsage().arrayBuffers;
    const shape = [1 << 24, 32768];
    const huge = artifactFrames({ tensors: [tensors[1]!] });
    const spec = { name: "none" };
    const body = encodeManifest({
      ...huge.manifest,
      tensors: [{ name: "huge", dtype: "U8", shape, codec: spec }],
    });
    const head = Buffer.concat([PREAMBLE, huge.frames[0]!, encodeFrame(FrameType.MANIFEST, 1, 0, body)]);
    const end = huge.frames.at(-1)!;
    const places = { headBytes: head.length, endPosition: head.length };
    const error = await fault(withIndex(Buffer.concat([head, end]), places, huge.index.bytes));
    expect(error).toMatchObject({
      code: "SOURCE_INVALID",
      message: expect.stringContaining("the index of 16777216 chunks take"),
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
  });

  test("a head beyond the limit of manifests", async () => {
    const limits = { maxManifestBytes: 100, maxControlBytes: 140 };
    expect(await fault(good.indexed, { limits })).toMatchObject({ code: "LIMIT_EXCEEDED" });
  });
});
