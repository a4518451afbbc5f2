import { createHash } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ChannelPeer } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { bearerTokens } from "../src/index.js";
import { folder } from "./door-fixture.js";

describe("bearerTokens", () => {
  const peer: ChannelPeer = { address: "127.0.0.1:1", private: true };
  const sha256 = createHash("sha256").update("second").digest("hex");

  test("knows tokens, or their digests, with what their principals may do", async () => {
    for (const tokens of [
      { a: { token: "first", publish: true }, b: { sha256, fetch: ["x/*"] } },
      new Map([
        ["a", { token: "first", publish: true }],
        ["b", { sha256, fetch: ["x/*"] }],
      ]),
    ]) {
      const authorize = await bearerTokens(tokens);
      expect(await authorize("first", peer)).toEqual({ name: "a", publish: true });
      expect(await authorize("second", peer)).toEqual({ name: "b", fetch: ["x/*"] });
      for (const credential of [undefined, "", "firs", "firstx", "FIRST", sha256, "a"]) {
        expect(await authorize(credential, peer)).toBe(undefined);
      }
    }
  });

  test("reads a file again when it changes, and lets nobody in while it cannot be used", async () => {
    const path = join(await folder(), "tokens.json");
    await writeFile(path, JSON.stringify({ a: { token: "first" } }));
    const authorize = await bearerTokens(path);
    expect(await authorize("first", peer)).toEqual({ name: "a" });
    await writeFile(path, JSON.stringify({ a: { token: "another" } }));
    expect(await authorize("first", peer)).toBe(undefined);
    expect(await authorize("another", peer)).toEqual({ name: "a" });
    await writeFile(path, "{");
    await expect(Promise.resolve(authorize("another", peer))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await rm(path);
    await expect(Promise.resolve(authorize("another", peer))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await writeFile(path, JSON.stringify({ a: { token: "third" } }));
    expect(await authorize("third", peer)).toEqual({ name: "a" });
  });

  test("refuses lists that are none", async () => {
    const lists: unknown[] = [
      { a: {} },
      { a: { token: "x", sha256 } },
      { a: { token: "" } },
      { a: { sha256: "abc" } },
      { a: { token: "x", publish: "all" } },
      { a: { token: "x", admin: true } },
      { a: { token: "x" }, b: { token: "x" } },
      { "": { token: "x" } },
      [],
      "no such file",
    ];
    for (const list of lists) {
      await expect(bearerTokens(list as never), JSON.stringify(list)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
  });
});
