import { writeFile } from "node:fs/promises";
import {
  type Codec,
  CodecRegistry,
  defaultCodecs,
  encodeDataHead,
  encodeFrame,
  encodeManifest,
  encodeTotals,
  FrameType,
  HEADER_BYTES,
  none,
  PREAMBLE,
  type Tensor,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { artifactBytes, artifactFrames, dataFrame } from "./artifact-file.js";
import { codec, fault, hasPath, path, readAll, tensors } from "./artifact-fixture.js";

hasPath();

describe("a file that is no whole artifact", () => {
  const good = artifactFrames({ tensors: tensors.slice(0, 8), codec, recordsPerFrame: 2 });
  const [hello, manifest] = good.frames as [Uint8Array, Uint8Array];
  const data = good.frames.slice(2, -1);
  const end = good.frames.at(-1)!;

  test("cut anywhere near a frame's edge", async () => {
    const cuts = new Set<number>();
    let at = PREAMBLE.length;
    for (const frame of good.frames) {
      for (const by of [-1, 0, 1, 19, 20, 21, 24, 60]) if (at + by < good.bytes.length) cuts.add(at + by);
      at += frame.length;
    }
    cuts.add(0).add(good.bytes.length - 1);
    for (const cut of cuts) {
      const error = await fault(good.bytes.subarray(0, cut));
      expect(error, `cut at ${cut}`).toMatchObject({ code: "SOURCE_INVALID" });
      expect(error.message).toMatch(
        cut < PREAMBLE.length ? /byte 0: this is no artifact/ : /byte \d+: the file is truncated/,
      );
    }
  });

  test("any bit of any frame turned over", async () => {
    // Every bit but those of the payloads, of which one each.
    const bits: number[] = [];
    let at = PREAMBLE.length;
    for (const frame of good.frames) {
      const isData = frame[1] === FrameType.DATA;
      const count = isData ? new DataView(frame.buffer, frame.byteOffset).getUint32(HEADER_BYTES, true) : 0;
      const covered = isData ? HEADER_BYTES + 4 + 36 * count : frame.length;
      for (let byte = 0; byte < covered; byte += byte < 70 ? 1 : 13) bits.push((at + byte) * 8 + (byte % 8));
      if (isData) bits.push((at + frame.length) * 8 - 3);
      at += frame.length;
    }
    for (let bit = 0; bit < PREAMBLE.length * 8; bit += 7) bits.push(bit);
    expect(bits.length).toBeGreaterThan(300);
    for (const bit of bits) {
      const bytes = good.bytes.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const error = await fault(bytes);
      expect(error, `bit ${bit}: ${error.message}`).toMatchObject({ code: "SOURCE_INVALID" });
      expect(error.message).toContain(`"${path}", byte `);
    }
  });

  test.each<[string, readonly Uint8Array[], RegExp]>([
    ["no frames", [], /byte 8: the file is truncated: it ends where a HELLO frame/],
    ["no HELLO", [manifest, ...data, end], /byte 8: a MANIFEST frame where HELLO should be/],
    ["two HELLOs", [hello, hello, manifest, ...data, end], /a HELLO frame where MANIFEST should be/],
    ["no END", [hello, manifest, ...data], /truncated: it ends where a DATA or END frame should begin/],
    ["two ENDs", [hello, manifest, ...data, end, end], /56 bytes follow the END frame/],
    [
      "DATA after END",
      [hello, manifest, ...data.slice(0, -1), end, data.at(-1)!],
      /tensor "t2".*END came before/,
    ],
    ["a chunk too few", [hello, manifest, ...data.slice(1), end], /tensor "w", chunk 0.*came in the place/],
    ["a chunk twice", [hello, manifest, data[0]!, ...data, end], /tensor "w", chunk 2: .*came in the place/],
    ["chunks in another order", [hello, manifest, data[1]!, data[0]!, ...data.slice(2), end], /in the place/],
    ["an ERROR", [hello, manifest, encodeFrame(FrameType.ERROR, 1, 0), ...data, end], /ERROR frame where/],
    ["a frame to the sender", [hello, encodeFrame(FrameType.MANIFEST, 1, 1)], /towards the sender/],
    ["HELLO of a transfer", [encodeFrame(FrameType.HELLO, 1, 0)], /byte 8: HELLO of transfer 1/],
    ["HELLO that is no JSON", [encodeFrame(FrameType.HELLO, 0, 0)], /not JSON/],
    ["a bad manifest", [hello, encodeFrame(FrameType.MANIFEST, 1, 0)], /manifest/],
    [
      "a DATA frame without records",
      [hello, manifest, encodeFrame(FrameType.DATA, 1, 0), ...data, end],
      /DATA frame of 0 bytes/,
    ],
  ])("%s", async (_, frames, message) => {
    const error = await fault(artifactBytes(frames));
    expect(error.message).toMatch(message);
    expect(error.code).toBe("SOURCE_INVALID");
    expect(error.message).toContain(`"${path}"`);
  });

  test("frames of another transfer", async () => {
    const record = good.records[0]!;
    const other = Buffer.concat([encodeDataHead(2, [record]), good.payloads[0]!]);
    const error = await fault(artifactBytes([hello, manifest, other, ...data, end]));
    expect(error).toMatchObject({ code: "SOURCE_INVALID", message: expect.stringContaining("transfer 2") });
  });

  test("an END that counts otherwise, or is of other data", async () => {
    const source = { digest: 0n, chunks: good.plan.chunks, sourceBytes: good.plan.bytes, clamped: 0 };
    const ending = (totals: object): Uint8Array =>
      encodeFrame(FrameType.END, 1, 0, encodeTotals({ ...source, ...totals }));
    const digest = new DataView(end.buffer, end.byteOffset).getBigUint64(HEADER_BYTES, true);
    const head = [hello, manifest, ...data];
    const messageOf = async (totals: object) =>
      (await fault(artifactBytes([...head, ending(totals)]))).message;
    expect(await messageOf({ digest: digest + 1n })).toMatch(/digest/);
    expect(await messageOf({ digest, chunks: 1 })).toMatch(/counts 1 chunks/);
    expect(await messageOf({ digest, sourceBytes: 1 })).toMatch(/of 1 bytes/);
  });

  test("a record that lies about its chunk", async () => {
    const first = good.records[0]!;
    const lies = [
      { elements: 1 },
      { firstElement: 4096 },
      { tensor: 3 },
      { codec: defaultCodecs.get("float16").id },
      { payloadBytes: first.payloadBytes - 1, packedBytes: first.payloadBytes - 1 },
    ];
    for (const lie of lies) {
      const record = { ...first, ...lie };
      const frame = dataFrame([record], [good.payloads[0]!.subarray(0, record.payloadBytes)]);
      const rest = good.records.slice(1).map((other, i) => dataFrame([other], [good.payloads[i + 1]!]));
      const error = await fault(artifactBytes([hello, manifest, frame, ...rest, end]));
      expect(error).toMatchObject({ code: "SOURCE_INVALID", tensor: "w", chunk: 0 });
    }
  });

  test("one chunk whose payload is another one's", async () => {
    const payloads = good.payloads.map((payload) => payload.slice());
    const ordinal = good.plan.range(3).first + 2;
    payloads[ordinal]![100]! ^= 1;
    const frames = good.records.map((record, i) => dataFrame([record], [payloads[i]!]));
    const error = await fault(artifactBytes([hello, manifest, ...frames, end]));
    expect(error).toMatchObject({ code: "SOURCE_INVALID", tensor: "nan", chunk: 2 });
    expect(error.message).toMatch(
      /^tensor "nan", chunk 2: ".*", byte \d+: the payload does not match its hash/,
    );
  });

  test("a payload that no reader has a buffer for", async () => {
    const wide: Codec = {
      ...none,
      name: "wide",
      id: 999,
      resolve: () => ({ name: "wide" }),
      supports: () => true,
      payloadBytes: (_spec, _dtype, elements) => elements * 8,
      encode: (_spec, _dtype, elements) => ({ bytes: elements * 8, scaleBytes: 0, nonFinite: 0, clamped: 0 }),
    };
    const registry = new CodecRegistry([none, wide]);
    const content = { codec: { name: "wide" }, chunkBytes: 1 << 20, registry };
    const tensor = (elements: number): Tensor => ({
      name: "w",
      dtype: "F32",
      shape: [elements],
      data: new Float32Array(elements),
    });
    const { bytes } = artifactFrames({ ...content, tensors: [tensor(1 << 17)] });
    await writeFile(path, bytes);
    await readAll({ registry });
    const error = await fault(artifactFrames({ ...content, tensors: [tensor((1 << 17) + 1)] }).bytes, {
      registry,
    });
    expect(error).toMatchObject({
      code: "SOURCE_INVALID",
      message: expect.stringContaining("1048584 bytes"),
    });
  });

  test("a manifest that announces more than the file can hold takes no memory for it", async () => {
    const shape = [1 << 24, 32768];
    const huge = { name: "huge", dtype: "U8", shape, codec: { name: "none" } } as const;
    const bytes = encodeManifest({ ...good.manifest, tensors: [huge] });
    const before = process.memoryUsage().arrayBuffers;
    const error = await fault(artifactBytes([hello, encodeFrame(FrameType.MANIFEST, 1, 0, bytes), ...data]));
    expect(error).toMatchObject({
      code: "SOURCE_INVALID",
      message: expect.stringContaining("16777216 chunks"),
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
  });
});
