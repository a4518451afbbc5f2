import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TensorwireError } from "@tensorwire/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { positionOf } from "../src/cli/position.js";
import { printable } from "../src/cli/printable.js";
import { ProgressLines } from "../src/cli/progress-lines.js";
import { errorText } from "../src/cli/report.js";
import { formatSeconds, formatSize, parseSize } from "../src/cli/sizes.js";
import { modelDigest } from "../src/index.js";
import type { ProgressEvent } from "../src/session/progress.js";
import { CliProcess, COMMAND, json, makeModel, run } from "./cli-process.js";

const KEYS = [
  ...[
    "tensors",
    "chunks",
    "sourceBytes",
    "wireBytes",
    "codeBytes",
    "scaleBytes",
    "fallbackChunks",
    "declinedChunks",
    "packedChunks",
    "clamped",
  ],
  ...["resumedBytes", "retries", "seconds", "peakRssBytes", "codecs", "digest", "sha256", "confirmed"],
];

let folder: string;
let model: string;
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-report-"));
  model = at("model.safetensors");
  await makeModel(model, [{ name: "w", dtype: "F32", shape: [512, 1024] }]);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("--json", () => {
  test("prints one object with these keys, in every command that moves a model", async () => {
    const receiver = new CliProcess(["receive", "--listen", "0", "--out", at("j.safetensors"), "--json"]);
    const all = [
      await run("send", model, await receiver.url(), "--json", "--codec", "blockwise8"),
      await receiver.ended,
      await run("pack", model, at("j.twire"), "--json"),
      await run("unpack", at("j.twire"), at("k.safetensors"), "--json"),
    ];
    for (const ended of all) {
      expect(ended.code).toBe(0);
      expect(ended.stdout.split("\n")).toHaveLength(2);
      const summary = json(ended);
      expect(Object.keys(summary)).toEqual(KEYS);
      expect(summary).toMatchObject({
        tensors: 1,
        sourceBytes: 4 * 512 * 1024,
        fallbackChunks: 0,
        resumedBytes: 0,
      });
      expect(summary.digest).toMatch(/^[0-9a-f]{16}$/);
      expect(summary.peakRssBytes).toBeGreaterThan(2 ** 20);
      for (const codec of Object.values(summary.codecs)) {
        expect(Object.keys(codec as object)).toEqual(["tensors", "sourceBytes", "wireBytes", "payloadBytes"]);
      }
    }
    const [sent, received] = all.map(json);
    expect(sent).toMatchObject({ codeBytes: 512 * 1024, scaleBytes: 512, confirmed: true });
    expect(sent!.codecs).toEqual(received!.codecs);
  });

  test("inspect", async () => {
    const shown = json(await run("inspect", model, "--json"));
    expect(shown).toEqual({
      path: model,
      kind: "model",
      tensors: [{ name: "w", dtype: "F32", shape: [512, 1024], bytes: 4 * 512 * 1024 }],
      metadata: { origin: "a test" },
      totals: { tensors: 1, elements: 512 * 1024, bytes: 4 * 512 * 1024 },
    });
  });

  test("inspect --model-digest: the same of a file and of an artifact that decodes to it", async () => {
    await run("pack", model, at("exact.twire"));
    const [file, artifact] = [model, at("exact.twire")].map((path) =>
      run("inspect", path, "--model-digest", "--json"),
    );
    const { modelDigest: digest } = json(await file!);
    expect(digest).toBe(await modelDigest(model));
    expect(json(await artifact!).modelDigest).toBe(digest);
    expect((await run("inspect", model, "--model-digest")).stdout).toContain(`model digest ${digest}`);
  });
});

describe("for people", () => {
  test("a summary, lines of progress elsewhere than on a terminal, and --quiet", async () => {
    const packed = await run("pack", model, at("people.twire"), "--codec", "normfloat4");
    expect(packed.stdout).toMatch(/^packed .*model\.safetensors: 1 tensor, 2\.00 MiB in .* s \(.*\/s\)$/m);
    expect(packed.stdout).toMatch(
      / in the artifact \(7\.1\dx smaller\): 256 KiB of codes, 32\.0 KiB of scales$/m,
    );
    expect(packed.stderr).toMatch(/^100 % 2\.00 MiB of 2\.00 MiB, /m);
    expect(packed.stderr).not.toContain("\x1b");
    const quiet = await run("unpack", at("people.twire"), at("people.safetensors"), "--quiet");
    expect(quiet).toEqual({ code: 0, signal: null, stdout: "", stderr: "" });
    const shown = await run("inspect", at("people.twire"));
    expect(shown.stdout).toMatch(
      /^w {2}F32 {2}\[512, 1024\] {2}2\.00 MiB {2}normfloat4:block=64 {2}288 KiB$/m,
    );
  });

  test("a bar on a terminal, which ends at 100 % and gives the cursor back", async () => {
    if (spawnSync("script", ["--version"]).error) return console.log("SKIPPED: needs script");
    const command = `${process.execPath} ${COMMAND} pack ${model} ${at("bar.twire")} --chunk 32K --window 64K`;
    const shown = await new Promise<string>((resolve) => {
      let output = "";
      const terminal = spawn("script", ["-qec", command, "/dev/null"]);
      terminal.stdout.on("data", (data) => void (output += data));
      terminal.on("close", () => resolve(output));
    });
    const percents = [...shown.matchAll(/[█░]{30} +(\d+) %/g)].map(([, percent]) => Number(percent));
    expect(percents.length).toBeGreaterThan(1);
    expect(percents).toEqual(percents.toSorted((a, b) => a - b));
    expect(percents.at(-1)).toBe(100);
    expect(percents[0]).toBeLessThan(100);
    expect(shown).toContain("\x1b[?25h");
    expect(shown).toMatch(/packed /);
  });

  test("a reader of the output that has left, and closed streams, are no crash", async () => {
    const leaving = new CliProcess(["inspect", model, "--json"]);
    leaving.child.stdout!.destroy();
    leaving.child.stderr!.destroy();
    expect(await leaving.ended).toMatchObject({ code: 0, signal: null });
    const shell = spawnSync("sh", ["-c", `${COMMAND} pack ${model} ${at("closed.twire")} >&- 2>&-`]);
    expect(shell.status).toBe(0);
  });
});

describe("progress", () => {
  const event = (given: Partial<ProgressEvent>): ProgressEvent => ({
    ...{ phase: "transfer", totalBytes: 1000, sourceBytes: 0, acknowledgedBytes: 0, wireBytes: 0 },
    ...{
      durableBytes: 0,
      resumedBytes: 0,
      retries: 0,
      tensors: 0,
      totalTensors: 1,
      bytesPerSecond: 100,
      seconds: 1,
    },
    ...given,
  });

  test("is what the receiver acknowledged, and 100 % only with the receipt", () => {
    const sent = event({ sourceBytes: 1000, acknowledgedBytes: 250 });
    expect(positionOf(sent, "acknowledged")).toMatchObject({ bytes: 250, percent: 25 });
    expect(positionOf(event({ acknowledgedBytes: 1000 }), "acknowledged").percent).toBe(99);
    expect(positionOf(sent, "sent").percent).toBe(99);
    expect(positionOf(event({ phase: "done" }), "acknowledged")).toMatchObject({ bytes: 1000, percent: 100 });
    expect(positionOf(event({ totalBytes: 0 }), "acknowledged").percent).toBe(0);
    expect(positionOf(event({ totalBytes: 0, phase: "done" }), "acknowledged").percent).toBe(100);
  });

  test("lines: one for each tenth, at most one a second, and a sign of life", () => {
    const lines: string[] = [];
    const view = new ProgressLines("acknowledged", { note: (line) => void lines.push(line) });
    const at = (seconds: number, acknowledgedBytes: number) =>
      view.show(event({ seconds, acknowledgedBytes }));
    at(0.1, 10);
    at(0.9, 500);
    at(1.2, 550);
    at(5, 590);
    at(32, 599);
    view.show(event({ seconds: 32.1, phase: "done" }));
    expect(lines.map((line) => Number.parseInt(line, 10))).toEqual([1, 55, 59, 100]);
  });
});

test("sizes", () => {
  const sizes = {
    "65536": 65536,
    "4M": 4 << 20,
    "32MiB": 32 << 20,
    "1.5 KiB": 1536,
    "2g": 2 ** 31,
    "7B": 7,
    "1TiB": 2 ** 40,
  };
  for (const [text, bytes] of Object.entries(sizes)) expect(parseSize(text, "--chunk"), text).toBe(bytes);
  for (const text of ["", "0", "-1", "4MB", "4 X", "1e6", "0x10", "NaN", "9999999T", "1.0001K"]) {
    expect(() => parseSize(text, "--chunk"), text).toThrow(/--chunk takes a size/);
  }
  expect([0, 1023, 1024, 1048575, 1048576, 5 * 2 ** 30, 2 ** 50].map(formatSize)).toEqual([
    ...["0 B", "1023 B", "1.00 KiB", "1.00 MiB", "1.00 MiB", "5.00 GiB", "1024 TiB"],
  ]);
  expect([0.01, 12.34, 59.6, 61, 3700].map(formatSeconds)).toEqual([
    "0.01 s",
    "12.3 s",
    "1 min 0 s",
    "1 min 1 s",
    "1 h 1 min",
  ]);
});

test("a stranger's text cannot move the cursor or look like lines of ours", () => {
  expect(printable("a\x1b[2Jb\nc\u202e\u2028d é 漢")).toBe("a\\u{1b}[2Jb\\u{a}c\\u{202e}\\u{2028}d é 漢");
  const text = errorText(
    new TensorwireError("PEER_FAILED", "peer: \ntensorwire: ok\x07", { peerCode: "TARGET_FULL" }),
  );
  expect(text.split("\n")).toHaveLength(1);
});
