import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { encodeHead, journalHead } from "../src/journal/head.js";
import { FORGOTTEN_TOGETHER_BYTES } from "../src/journal/journal.js";
import { NotedChunks } from "../src/journal/noted-chunks.js";
import { encodeRecord } from "../src/journal/record.js";
import { modelOfChunks } from "./journal-fixture.js";

const page = readFileSync(new URL("../../../docs/journal.md", import.meta.url), "utf8");

it("docs/journal.md has the bytes that are written", () => {
  const block = /^```journal\n(.*?)^```$/ms.exec(page)![1]!;
  const documented = Buffer.from(block.replace(/#.*$/gm, "").replace(/\s/g, ""), "hex");
  const [manifest, layout] = [new Uint8Array(32).fill(0xaa), new Uint8Array(32).fill(0xbb)];
  const head = encodeHead({ manifest, layout, chunks: 1, version: "v1" }, "xxh64");
  const noted = new NotedChunks("xxh64");
  noted.add(0, { codec: 0, hash: 0x0a7df3cc5c0be171n });
  const before = Buffer.from(head).readBigUInt64LE(head.length - 8);
  const { bytes } = encodeRecord(
    {
      mixed: false,
      files: [{ name: "f", dev: 1n, ino: 2n, birthNs: 3n, size: 5 }],
      noted: noted.bytes,
      runs: noted.runs,
      forgotten: [],
      tail: new Uint8Array(0),
    },
    before,
  );
  expect(Buffer.concat([head, bytes]).toString("hex")).toBe(documented.toString("hex"));
});

it("docs/journal.md has the numbers of the code", () => {
  expect(page).toContain(`up to ${FORGOTTEN_TOGETHER_BYTES.toLocaleString("en-US")} source bytes`);
});

it("docs/journal.md says what of a layout is hashed: parts that are divided otherwise are another one", () => {
  const of = (...parts: string[]): string =>
    Buffer.from(journalHead(modelOfChunks(1), parts).layout).toString("hex");
  expect(of("raw")).toBe(createHash("sha256").update("3:raw").digest("hex"));
  expect(of("ab", "c")).not.toBe(of("a", "bc"));
});
