import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import {
  BUILT_IN_CODECS,
  type CodecBackend,
  CodecRegistry,
  FrameType,
  HEADER_BYTES,
  PortableBackend,
  parseDataTable,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { artifactSource, memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { at, fulfilled, hasFolder, overTcp, rejected, STRONG, tensors } from "./integrity-fixture.js";

hasFolder();

/** The digest as the wire format says, of the payloads of an artifact whose chunks are not packed. */
function recomputed(artifact: Buffer): string {
  const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();
  const entries = new Map<number, Buffer[]>();
  let manifest: Buffer | undefined;
  for (let position = 8; position < artifact.length; ) {
    const body = artifact.subarray(position + HEADER_BYTES);
    const length = artifact.readUInt32LE(position + 8);
    const type = artifact[position + 1];
    if (type === FrameType.MANIFEST) manifest = body.subarray(0, length);
    if (type === FrameType.DATA) {
      const records = parseDataTable(body.subarray(0, 4 + 36 * body.readUInt32LE(0)), length);
      let payload = 4 + 36 * records.length;
      for (const { tensor, codec, payloadBytes, packedBytes } of records) {
        expect(packedBytes).toBe(payloadBytes);
        const hash = sha256(body.subarray(payload, payload + payloadBytes));
        payload += payloadBytes;
        entries.set(tensor, [...(entries.get(tensor) ?? []), Buffer.concat([Uint8Array.of(codec, 0), hash])]);
      }
    }
    if (artifact[position + 1] === FrameType.END) break;
    position += HEADER_BYTES + length;
  }
  const count = (JSON.parse(manifest!.toString()) as { tensors: unknown[] }).tensors.length;
  const each = Array.from({ length: count }, (_, i) => sha256(Buffer.concat(entries.get(i) ?? [])));
  return sha256(Buffer.concat([sha256(manifest!), ...each])).toString("hex");
}

describe("integrity sha256", () => {
  test.each(["none", "float16", "blockwise8", "normfloat4", "linear8", "lossless", "adaquant"])(
    "of %s: the same digest at both ends, packed or not, into tensors, files and artifacts",
    async (codec) => {
      const found = new Set<string | undefined>();
      for (const compress of ["never", "auto"] as const) {
        for (const to of [
          undefined,
          at(`${codec}-${compress}.safetensors`),
          at(`${codec}-${compress}.twire`),
        ]) {
          const { sent, received } = await overTcp(
            { ...STRONG, codec, compress },
            { to, integrity: "sha256" },
          );
          expect(fulfilled(sent).sha256).toMatch(/^[0-9a-f]{64}$/);
          expect(fulfilled(received).sha256).toBe(fulfilled(sent).sha256);
          found.add(fulfilled(sent).sha256);
        }
      }
      expect(found.size).toBe(1);
      if (codec === "lossless") return;
      // Where nothing is packed but what fell back to `lossless`, an older peer packs nothing at all.
      const plain = new CodecRegistry(BUILT_IN_CODECS.filter(({ name }) => name !== "lossless"));
      const backend = new PortableBackend(plain);
      const path = at(`${codec}-plain.twire`);
      const { sha256 } = await streamModel(tensors(), path, { ...STRONG, codec, registry: plain, backend });
      expect(sha256).toBe(recomputed(await readFile(path)));
    },
  );

  test("is the digest of backends that pack otherwise, or not within their calls", async () => {
    const backend: CodecBackend = new PortableBackend();
    const options = { ...STRONG, codec: "normfloat4", compress: "auto" } as const;
    const [a, b] = [await overTcp(options, {}), await overTcp({ ...options, backend }, { backend })];
    expect(fulfilled(a.received).sha256).toBe(fulfilled(b.sent).sha256);
  });

  test("costs nothing where it is not asked for: no such member, no such digest", async () => {
    const path = at("weak.twire");
    const { sha256 } = await streamModel(tensors(), path, { chunkBytes: 32768 });
    expect(sha256).toBeUndefined();
    expect((await readFile(path)).includes("integrity")).toBe(false);
  });

  test("an artifact keeps it, wherever it is sent: unpacked, kept, encoded anew, to a peer that packs nothing", async () => {
    const path = at("kept.twire");
    const packed = await streamModel(tensors(), path, { ...STRONG, codec: "normfloat4", compress: "auto" });
    expect(packed.packedChunks).toBeGreaterThan(0);
    const unpacked = await receiveModel(path, { to: at("kept.safetensors"), integrity: "sha256" }).done;
    expect(unpacked.sha256).toBe(packed.sha256);
    const again = await overTcp({ integrity: "sha256", compress: "auto" }, { to: at("again.twire") }, path);
    expect(fulfilled(again.received).sha256).toBe(packed.sha256);
    expect((await readFile(at("again.twire"))).length).toBeGreaterThan(0);
    const source = artifactSource(at("again.twire"));
    await source.open();
    expect(Buffer.from(source.totals.sha256!).toString("hex")).toBe(packed.sha256);
    await source.close();
    // `lossless` itself such a peer lacks: of chunks that fell back to it there are none here.
    const { hole: _, ...rest } = tensors() as Record<string, never>;
    await streamModel(rest, at("rest.twire"), { ...STRONG, codec: "normfloat4", compress: "auto" });
    const older = new CodecRegistry(BUILT_IN_CODECS.filter(({ name }) => name !== "lossless"));
    const options = { registry: older, backend: new PortableBackend(older) };
    const plain = await overTcp({}, options, at("rest.twire"));
    expect(fulfilled(plain.sent).packedChunks).toBe(0);
    expect(fulfilled(plain.received).sha256).toBe(fulfilled(plain.sent).sha256);
    const anew = await overTcp({ codec: "float16", integrity: "sha256" }, {}, path);
    expect(fulfilled(anew.received).sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  test("an artifact that has it not is not sent as if it had", async () => {
    await streamModel(tensors(), at("without.twire"), { chunkBytes: 32768 });
    const [a, b] = memoryChannelPair();
    const receiving = receiveModel(b, { to: at("with.twire") }).done;
    const sending = streamModel(at("without.twire"), a, { integrity: "sha256" });
    await expect(sending).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(sending).rejects.toThrow(/made without SHA-256/);
    await a.close(new Error("over"));
    await expect(receiving).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    const packing = streamModel(at("without.twire"), at("with.twire"), { integrity: "sha256" });
    await expect(packing).rejects.toMatchObject({ code: "INTEGRITY_REQUIRED" });
  });
});

test("an interrupted transfer goes on with the SHA-256 of what is held, and comes to the same digest", async () => {
  const large = Float32Array.from({ length: 1 << 20 }, (_, i) => Math.sin(i));
  const source = { w: { dtype: "F32", shape: [large.length], data: large } } as const;
  const options = { ...STRONG, codec: "normfloat4", windowBytes: 262_144, version: "1" } as const;
  const { sha256 } = await streamModel(source, at("whole.twire"), options);
  const receive = { to: at("resumed.safetensors"), windowBytes: 262_144, integrity: "sha256" } as const;
  const ending = new AbortController();
  const cut = {
    ...options,
    signal: ending.signal,
    onProgress: ({ acknowledgedBytes }: { acknowledgedBytes: number }) => {
      if (acknowledgedBytes > 0) ending.abort(new Error("cut"));
    },
  };
  // Slow enough that there is something to cut.
  const first = await overTcp({ ...cut, maxBytesPerSecond: 2_000_000 }, receive, source);
  expect(rejected(first.sent)).toMatchObject({ code: "ABORTED" });
  const second = await overTcp(options, { ...receive, expectedDigest: `sha256:${sha256}` }, source);
  expect(fulfilled(second.received)).toMatchObject({ sha256 });
  expect(fulfilled(second.received).resumedBytes).toBeGreaterThan(0);
  expect(fulfilled(second.sent).sha256).toBe(sha256);
});
