import { defaultCodecs, encodeIndexHead, HEADER_BYTES } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { sha256 } from "../src/session/sha256.js";
import { artifactFrames } from "./artifact-file.js";
import { content, fault, opened, payloadsOf } from "./artifact-index-fixture.js";
import { poolFor } from "./source-reading.js";

describe("with SHA-256", () => {
  const strong = artifactFrames({ ...content, sha256 });

  test("each tensor is verified when its last chunk is read", async () => {
    const { source } = await opened(strong.indexed);
    expect(await payloadsOf(source, strong.plan)).toHaveLength(strong.plan.chunks);
    await source.verify?.();
    const pool = poolFor(strong.plan);
    const { codec, hash } = strong.index.entry(0);
    // Another payload of the same xxh64 would be needed; a hash that the artifact's own backend vouches for does as well.
    const backend = { hash: () => hash, unpack: () => hash };
    const changed = strong.indexed.slice();
    changed[strong.index.position(0)]! ^= 1;
    expect(codec).toBe(defaultCodecs.get("blockwise8").id);
    const other = await opened(changed, { backend });
    const last = strong.plan.range(0).count - 1;
    for (const chunk of strong.plan.walk([strong.plan.range(0)])) {
      Object.assign(backend, { hash: () => strong.index.entry(chunk.ordinal).hash });
      const reading = other.source.readEncoded(chunk, pool);
      if (chunk.index < last) (await reading).loan.release();
      else await expect(reading).rejects.toMatchObject({ code: "SOURCE_INVALID", tensor: "w" });
    }
    expect(pool.loans).toBe(0);
  });

  test("also where its chunks are read out of order, between those of others, or once more", async () => {
    const { plan, index } = strong;
    const backend = { hash: () => 0n, unpack: () => 0n };
    const changed = strong.indexed.slice();
    changed[index.position(1)]! ^= 1;
    const { source } = await opened(changed, { backend });
    const pool = poolFor(plan);
    const read = async (ordinal: number) => {
      // Another payload of the same xxh64, as above.
      Object.assign(backend, { hash: () => index.entry(ordinal).hash });
      (await source.readEncoded(plan.chunk(ordinal), pool)).loan.release();
    };
    const [w, ids] = [plan.range(0), plan.range(1)];
    for (let i = w.count - 1; i > 0; i--) await read(w.first + i);
    await read(ids.first);
    const refused = { code: "SOURCE_INVALID", tensor: "w" };
    await expect(read(w.first)).rejects.toMatchObject(refused);
    await expect(read(w.first + 1)).rejects.toMatchObject(refused);
    await read(ids.first);
    expect(pool.loans).toBe(0);
  });

  test("tensors' digests that do not make END's are refused", async () => {
    const body = strong.index.bytes.slice();
    body[body.length - 1]! ^= 1;
    const at = strong.bytes.length;
    const bytes = strong.indexed.slice();
    bytes.set(encodeIndexHead(1, body), at);
    bytes.set(body, at + HEADER_BYTES);
    expect((await fault(bytes)).message).toMatch(/the SHA-256 of END is not that of the manifest and INDEX/);
  });
});
