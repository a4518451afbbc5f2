import { readdir, readFile, writeFile } from "node:fs/promises";
import {
  encodeDataHead,
  encodeFrame,
  encodeTotals,
  FrameType,
  HEADER_BYTES,
  parseDataTable,
  parseTotals,
  xxh64,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { receiveModel, streamModel } from "../src/index.js";
import { at, folder, hasFolder, overTcp, rejected, STRONG, tensors } from "./integrity-fixture.js";

hasFolder();

describe("integrity sha256", () => {
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
