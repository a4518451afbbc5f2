import { readdir } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { receiveModel, streamModel } from "../src/index.js";
import { at, folder, fulfilled, hasFolder, overTcp, rejected, STRONG, tensors } from "./integrity-fixture.js";

hasFolder();

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
