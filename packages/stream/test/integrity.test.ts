import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BUILT_IN_CODECS,
  type CodecBackend,
  CodecRegistry,
  encodeDataHead,
  encodeFrame,
  encodeTotals,
  FrameType,
  HEADER_BYTES,
  PortableBackend,
  parseDataTable,
  parseTotals,
  type TensorwireError,
  xxh64,
} from "@tensorwire/core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  artifactSource,
  type Listener,
  listen,
  type ReceiveOptions,
  memoryChannelPair,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { json, run } from "./cli-process.js";

let folder: string;
const at = (name: string): string => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-integrity-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const listeners: Listener[] = [];
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.close();
});

/** What packs, what does not, what falls back, what is empty, and more than one chunk. */
function tensors(): TensorMap {
  const noise = Float32Array.from({ length: 30_000 }, (_, i) => Math.sin(i * 12.9898) * 43758.5453);
  return {
    smooth: { dtype: "F32", shape: [20_000], data: Float32Array.from({ length: 20_000 }, (_, i) => i / 8) },
    noise: { dtype: "F32", shape: [30_000], data: noise },
    hole: { dtype: "F32", shape: [9000], data: noise.slice(0, 9000).fill(Number.NaN, 10, 11) },
    none: { dtype: "F32", shape: [0], data: new Float32Array(0) },
    bytes: { dtype: "U8", shape: [70_000], data: new Uint8Array(70_000).fill(3) },
  };
}

const STRONG = { chunkBytes: 32768, minElements: 0, integrity: "sha256" } as const;

async function overTcp(send: StreamOptions, receive: ReceiveOptions, source: TensorMap | string = tensors()) {
  const listener = await listen({ url: "tcp://127.0.0.1:0" });
  listeners.push(listener);
  const receiving = receiveModel(listener, receive);
  const [sent, received] = await Promise.allSettled([
    streamModel(source, listener.url, send),
    receive.to === undefined ? drained(receiving) : receiving.done,
  ]);
  return { sent, received };
}

async function drained(receiving: ReturnType<typeof receiveModel>) {
  for await (const _ of receiving);
  return receiving.done;
}

const fulfilled = <T>(result: PromiseSettledResult<T>): T => {
  if (result.status === "rejected") throw result.reason;
  return result.value;
};
const rejected = (result: PromiseSettledResult<unknown>): TensorwireError =>
  (result as PromiseRejectedResult).reason as TensorwireError;

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

  test("payloads that were changed with all their xxh64, and not the SHA-256, are found: unpacked, and sent on", async () => {
    await streamModel(tensors(), at("good.twire"), STRONG);
    await writeFile(at("bad.twire"), forged(await readFile(at("good.twire"))));
    const unpacking = receiveModel(at("bad.twire"), { to: at("bad.safetensors") }).done;
    await expect(unpacking).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
    const { sent } = await overTcp({}, { to: at("bad.again.twire") }, at("bad.twire"));
    expect(rejected(sent)).toMatchObject({ code: "SOURCE_INVALID" });
    expect(rejected(sent).message).toMatch(/not those that its SHA-256 is of/);
    expect((await readdir(folder)).filter((name) => /^bad\.(again|safe)/.test(name))).toEqual([]);
  });
});

/** Another payload in the first chunk, and every xxh64 made anew: what somebody can do who wants to. */
function forged(artifact: Buffer): Buffer {
  const parts = [artifact.subarray(0, 8)];
  const digest = xxh64DigestOf(artifact);
  for (let position = 8; position < artifact.length; ) {
    const length = artifact.readUInt32LE(position + 8);
    const frame = artifact.subarray(position, position + HEADER_BYTES + length);
    const [type, body] = [frame[1], frame.subarray(HEADER_BYTES)];
    position += frame.length;
    if (type === FrameType.DATA && parts.length === 3) {
      const table = 4 + 36 * body.readUInt32LE(0);
      const payloads = Buffer.from(body.subarray(table));
      const [first, ...rest] = parseDataTable(body.subarray(0, table), length);
      payloads[0]! ^= 1;
      const hash = xxh64(payloads.subarray(0, first!.packedBytes));
      digest.first(hash);
      parts.push(Buffer.from(encodeDataHead(1, [{ ...first!, hash }, ...rest])), payloads);
    } else if (type === FrameType.END) {
      const totals = parseTotals("END", body, "sha256");
      parts.push(Buffer.from(encodeFrame(type, 1, 0, encodeTotals({ ...totals, digest: digest.of() }))));
      // Without an index, as a pipe would bring it: it is scanned.
      break;
    } else {
      parts.push(frame);
    }
  }
  return Buffer.concat(parts);
}

/** The artifact's xxh64 digest, with another hash of its first chunk. */
function xxh64DigestOf(artifact: Buffer) {
  const entries = new Map<number, Buffer[]>();
  let manifest: Buffer | undefined;
  for (let position = 8; position < artifact.length; ) {
    const length = artifact.readUInt32LE(position + 8);
    const body = artifact.subarray(position + HEADER_BYTES, position + HEADER_BYTES + length);
    if (artifact[position + 1] === FrameType.MANIFEST) manifest = body;
    if (artifact[position + 1] === FrameType.DATA) {
      for (const { tensor, codec, hash } of parseDataTable(
        body.subarray(0, 4 + 36 * body.readUInt32LE(0)),
        length,
      )) {
        const entry = Buffer.alloc(10);
        entry.writeUInt16LE(codec, 0);
        entry.writeBigUInt64LE(hash, 2);
        entries.set(tensor, [...(entries.get(tensor) ?? []), entry]);
      }
    }
    position += HEADER_BYTES + length;
  }
  const count = (JSON.parse(manifest!.toString()) as { tensors: unknown[] }).tensors.length;
  return {
    first: (hash: bigint) => void entries.get(0)![0]!.writeBigUInt64LE(hash, 2),
    of: () => {
      const each = Array.from({ length: count }, (_, i) => {
        const digest = Buffer.alloc(8);
        digest.writeBigUInt64LE(xxh64(Buffer.concat(entries.get(i) ?? [])));
        return digest;
      });
      return xxh64(Buffer.concat([manifest!, ...each]));
    },
  };
}

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

describe("a receiver that knows what it wants", () => {
  test("takes the model whose digest it knows, by either hash", async () => {
    const { sha256, digest } = await streamModel(tensors(), at("known.twire"), STRONG);
    for (const expectedDigest of [digest, `sha256:${sha256}`]) {
      const { sent, received } = await overTcp(STRONG, { expectedDigest });
      expect(fulfilled(sent).confirmed).toBe(true);
      expect(fulfilled(received)).toMatchObject({ digest, sha256 });
    }
  });

  test("refuses another one before its file gets its name, and trying again would not help", async () => {
    for (const expectedDigest of ["0123456789abcdef", `sha256:${"0".repeat(64)}`]) {
      for (const to of [at("refused.safetensors"), at("refused.twire")]) {
        const { sent, received } = await overTcp(STRONG, { to, expectedDigest });
        expect(rejected(received)).toMatchObject({ code: "DIGEST_MISMATCH", retryable: false });
        expect(rejected(received).message).toContain(expectedDigest);
        expect(rejected(sent)).toMatchObject({ code: "PEER_FAILED", peerCode: "DIGEST_MISMATCH" });
      }
    }
    expect((await readdir(folder)).filter((name) => name.startsWith("refused"))).toEqual([]);
  });

  test("refuses one that is not hashed as it demands, before any data", async () => {
    for (const demands of [
      { integrity: "sha256" },
      { expectedDigest: `sha256:${"0".repeat(64)}` },
    ] as const) {
      const { received } = await overTcp({ chunkBytes: 32768 }, { ...demands, to: at("weak.safetensors") });
      expect(rejected(received)).toMatchObject({ code: "INTEGRITY_REQUIRED", retryable: false });
    }
  });

  test("knows a digest from what is none", async () => {
    for (const expectedDigest of ["", "xyz", "0123", "sha256:00", "0".repeat(64), "0123456789ABCDEF"]) {
      const { done } = receiveModel(at("known.twire"), { expectedDigest });
      await expect(done, expectedDigest).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    const wrong = { integrity: "md5" } as never;
    await expect(receiveModel(at("known.twire"), wrong).done).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(streamModel(tensors(), at("md5.twire"), wrong)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});

describe("the command", () => {
  test("packs with --integrity, shows both digests, and takes only what --digest says", async () => {
    const model = at("model.safetensors");
    await receiveModel(at("known.twire"), { to: model }).done;
    const artifact = at("command.twire");
    const packed = json(await run("pack", model, artifact, "--integrity", "sha256", "--json"));
    expect(packed.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(json(await run("inspect", artifact, "--json")).artifact).toMatchObject({
      digest: packed.digest,
      sha256: packed.sha256,
    });
    expect((await run("inspect", artifact)).stdout).toContain(`sha256:${packed.sha256}`);
    const known = `sha256:${packed.sha256}`;
    const unpacked = await run(
      "unpack",
      artifact,
      at("command.safetensors"),
      "--digest",
      known.toUpperCase().replace("SHA", "sha"),
    );
    expect(unpacked.code).toBe(0);
    expect(unpacked.stdout).toContain(known);
    const refused = await run("unpack", artifact, at("other.safetensors"), "--digest", "0123456789abcdef");
    expect(refused.code).toBe(6);
    expect(refused.stderr).toMatch(/DIGEST_MISMATCH/);
    await run("pack", model, at("plain.twire"));
    const plain = await run("unpack", at("plain.twire"), at("other.safetensors"), "--integrity", "sha256");
    expect(plain.code).toBe(7);
    expect((await readdir(folder)).filter((name) => name.startsWith("other"))).toEqual([]);
    expect(json(await run("unpack", at("plain.twire"), at("p.safetensors"), "--json")).sha256).toBeNull();
    expect((await run("unpack", artifact, at("q.safetensors"), "--digest", "no")).code).toBe(2);
  });
});
