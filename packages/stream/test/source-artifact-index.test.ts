import { FOOTER_BYTES, HEADER_BYTES } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { artifactFrames } from "./artifact-file.js";
import { content, opened, payloadsOf, tensors } from "./artifact-index-fixture.js";
import { poolFor } from "./source-reading.js";

describe("an artifact with an index", () => {
  const { indexed, bytes, plan, payloads, manifest, index } = artifactFrames(content);

  test("is opened by three reads, none of them of a frame with chunks", async () => {
    const { reader, source } = await opened(indexed);
    expect(source.indexed).toBe(true);
    const head = index.position(0) - HEADER_BYTES - 4 - 2 * 36;
    const end = bytes.length - HEADER_BYTES - 32;
    const footer = indexed.length - FOOTER_BYTES;
    expect(reader.reads).toEqual([
      [footer, FOOTER_BYTES],
      [0, head],
      [end, footer - end],
    ]);
    expect(await payloadsOf(source, plan)).toEqual(payloads.map((payload) => Buffer.from(payload)));
  });

  test("says of every chunk what the frames of one without would", async () => {
    const { source } = await opened(indexed);
    const scanned = await opened(bytes);
    expect(scanned.source.indexed).toBe(false);
    expect(await scanned.source.open()).toEqual(manifest);
    for (const { ordinal } of plan.walk()) {
      expect(source.record(ordinal)).toEqual(scanned.source.record(ordinal));
    }
    expect(source.totals).toEqual(scanned.source.totals);
  });

  test("of which one chunk is asked reads the bytes of that chunk", async () => {
    const { reader, source } = await opened(indexed);
    reader.reads.length = 0;
    const { ordinal } = plan.chunk(plan.range(1).first);
    const { loan } = await source.readEncoded(plan.chunk(ordinal), poolFor(plan));
    expect(Buffer.compare(loan.bytes, tensors[1]!.data as Uint8Array)).toBe(0);
    expect(reader.reads).toEqual([[index.position(ordinal), 36]]);
    loan.release();
  });

  test("of a model without chunks", async () => {
    const empty = artifactFrames({ tensors: [tensors[2]!] });
    const { source } = await opened(empty.indexed);
    expect(source.indexed).toBe(true);
    expect(source.totals.chunks).toBe(0);
  });
});
