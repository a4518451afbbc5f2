import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ERROR_CODES } from "@tensorwire/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EXIT_CODES, exitCodeHelp, exitCodeOf } from "../src/cli/exit-code.js";
import { CliProcess, type Ended, json, makeModel, run } from "./cli-process.js";

let folder: string;
let model: string;
let artifact: string;
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-exit-"));
  model = at("model.safetensors");
  artifact = at("model.twire");
  await makeModel(model, [{ name: "w", dtype: "F32", shape: [64, 1024] }]);
  expect((await run("pack", model, artifact)).code).toBe(0);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("every error code has an exit code, which --help explains", async () => {
  const known = new Set<number>(Object.values(EXIT_CODES));
  for (const code of ERROR_CODES) {
    expect(known, code).toContain(exitCodeOf(code));
    expect(exitCodeOf(code), code).not.toBe(0);
  }
  const { code, stdout } = await run("--help");
  expect(code).toBe(0);
  expect(stdout).toContain(exitCodeHelp());
  for (const number of known) expect(stdout).toMatch(new RegExp(`^ +${number} `, "m"));
});

/** A failure's code everywhere it shows: exit code, line on stderr, JSON. */
function expectFailure(ended: Ended, exit: keyof typeof EXIT_CODES, code: string): void {
  expect(ended.stderr).toMatch(new RegExp(`^tensorwire: ${code}: `, "m"));
  expect(ended.code).toBe(EXIT_CODES[exit]);
  const { error } = json(ended);
  expect(Object.keys(error)).toEqual(["code", "message", "tensor", "chunk", "retryable", "peerCode"]);
  expect(error.code).toBe(code);
  // One object, and nothing of a stack.
  expect(ended.stdout.trimEnd().split("\n")).toHaveLength(1);
  expect(ended.stderr).not.toMatch(/^\s+at /m);
}

describe("usage", () => {
  const cases: Record<string, string[]> = {
    "no command": [],
    "an unknown command": ["frobnicate"],
    "an unknown option": ["inspect", "x", "--frobnicate"],
    "a missing argument": ["send"],
    "no peer": ["send", "MODEL"],
    "two peers": ["send", "MODEL", "ws://127.0.0.1:1", "--listen", "0"],
    "no output": ["receive", "ws://127.0.0.1:1"],
    "a URL that is none": ["send", "MODEL", "127.0.0.1:9000"],
    "a URL of another scheme": ["send", "MODEL", "ftp://127.0.0.1:1"],
    "a URL with a fragment": ["send", "MODEL", "ws://127.0.0.1:1/#x"],
    "a port that is none": ["send", "MODEL", "--listen", "localhost:99999"],
    "a size that is none": ["pack", "MODEL", "x.twire", "--chunk", "32MB"],
    "a chunk that the window does not take": ["pack", "MODEL", "x.twire", "--chunk", "4M", "--window", "4M"],
    "a window that is too small": ["pack", "MODEL", "x.twire", "--window", "1K"],
    "a count that is none": ["pack", "MODEL", "x.twire", "--min-elements", "-1"],
    "a codec's parameter that is none": ["pack", "MODEL", "x.twire", "--codec", "normfloat4:64"],
    "a codec's parameter that it does not take": [
      "pack",
      "MODEL",
      "x.twire",
      "--codec",
      "normfloat4:blocks=64",
    ],
    "a codec's word that is none": ["pack", "MODEL", "x.twire", "--codec", "linear4:mode=odd"],
    "a seed that is none": ["pack", "MODEL", "x.twire", "--seed", "12"],
    "a codec's seed that is none": [
      "pack",
      "MODEL",
      "x.twire",
      "--codec",
      "linear4:rounding=stochastic,seed=7",
    ],
    "packing at another time": ["pack", "MODEL", "x.twire", "--compress", "always"],
    "another wish for NaN": ["pack", "MODEL", "x.twire", "--non-finite", "drop"],
    "codec and policy": ["pack", "MODEL", "x.twire", "--codec", "none", "--policy", "p.json"],
    "a policy that is not there": ["pack", "MODEL", "x.twire", "--policy", "nowhere.json"],
    "raw and codec": ["pack", "MODEL", "x.twire", "--raw", "--codec", "float16"],
    "raw and residuals": ["pack", "MODEL", "x.twire", "--raw", "--residuals", "r"],
    "residuals named as an artifact": [
      "pack",
      "MODEL",
      "x.twire",
      "--codec",
      "linear4",
      "--residuals",
      "x.twire",
    ],
    "an artifact by another name": ["pack", "MODEL", "x.safetensors"],
    "an output dtype that is none": ["unpack", "x.twire", "y.safetensors", "--output-dtype", "I8"],
  };
  test.concurrent.each(Object.entries(cases))("%s", async (_, args) => {
    const given = args.map((arg) => (arg === "MODEL" ? model : arg));
    expectFailure(await run(...given, "--json"), "usage", "INVALID_ARGUMENT");
  });
});

describe("source", () => {
  test("that is not there", async () => {
    expectFailure(
      await run("send", at("none.safetensors"), "ws://127.0.0.1:1", "--json"),
      "source",
      "SOURCE_READ",
    );
    expectFailure(await run("inspect", at("none.safetensors"), "--json"), "source", "SOURCE_READ");
  });

  test("that is not what it says", async () => {
    await writeFile(at("bad.safetensors"), "this is no safetensors file, whatever its name says");
    expectFailure(
      await run("pack", at("bad.safetensors"), at("bad.twire"), "--json"),
      "source",
      "SOURCE_INVALID",
    );
    expect(await readdir(folder)).not.toContain("bad.twire");
  });
});

describe("target", () => {
  test("that exists is refused, and replaced with --overwrite", async () => {
    await writeFile(at("there.safetensors"), "mine");
    await writeFile(at("there.twire"), "mine");
    expectFailure(
      await run("unpack", artifact, at("there.safetensors"), "--json"),
      "target",
      "TARGET_EXISTS",
    );
    expectFailure(await run("pack", model, at("there.twire"), "--json"), "target", "TARGET_EXISTS");
    // Refused before anybody waits for a peer.
    const receiver = await run("receive", "--listen", "0", "--out", at("there.safetensors"), "--json");
    expectFailure(receiver, "target", "TARGET_EXISTS");
    expect(await readFile(at("there.safetensors"), "utf8")).toBe("mine");
    expect(await readFile(at("there.twire"), "utf8")).toBe("mine");

    expect((await run("pack", model, at("there.twire"), "--overwrite")).code).toBe(0);
    expect((await run("unpack", at("there.twire"), at("there.safetensors"), "--overwrite")).code).toBe(0);
    expect((await readFile(at("there.safetensors"))).equals(await readFile(model))).toBe(true);
  });

  test("that cannot be written: the sender learns why, by the peer's code", async () => {
    await mkdir(at("folder.safetensors"));
    const receiver = new CliProcess([
      ...["receive", "--listen", "127.0.0.1:0", "--out", at("folder.safetensors"), "--json"],
    ]);
    const sent = await run("send", model, await receiver.url(), "--json");
    expectFailure(await receiver.ended, "target", "TARGET_WRITE");
    expectFailure(sent, "peer", "PEER_FAILED");
    expect(json(sent).error.peerCode).toBe("TARGET_WRITE");
  });
});

test("channel: nobody is there", async () => {
  const sent = await run("send", model, "ws://127.0.0.1:1", "--json");
  expectFailure(sent, "channel", "CHANNEL_OPEN");
  expect(json(sent).error.retryable).toBe(true);
});

test("integrity: bytes that are no stream of ours; a damaged artifact is a source that is not what it says", async () => {
  const receiver = new CliProcess(["receive", "-", "--out", at("garbage.safetensors"), "--json"]);
  receiver.child.stdin!.end("GET / HTTP/1.1\r\nHost: example\r\n\r\n".repeat(10));
  expectFailure(await receiver.ended, "integrity", "PROTOCOL");

  const damaged = await readFile(artifact);
  damaged[damaged.length - 5000]! ^= 1;
  await writeFile(at("damaged.twire"), damaged);
  const unpacked = await run("unpack", at("damaged.twire"), at("damaged.safetensors"), "--json");
  expectFailure(unpacked, "source", "SOURCE_INVALID");
  expect(json(unpacked).error).toMatchObject({ tensor: "w", chunk: 0 });
  expect(
    (await readdir(folder)).filter((name) => /^(garbage|damaged).*(safetensors|part)/.test(name)),
  ).toEqual([]);
});

describe("terms", () => {
  test("a limit", async () => {
    const out = at("large.safetensors");
    expectFailure(
      await run("unpack", artifact, out, "--max-model-bytes", "100K", "--json"),
      "terms",
      "LIMIT_EXCEEDED",
    );
    expect(await readdir(folder)).not.toContain("large.safetensors");
  });

  test("a codec that is not there", async () => {
    const packed = await run("pack", model, at("x.twire"), "--codec", "zip9", "--json");
    expectFailure(packed, "terms", "CODEC_UNSUPPORTED");
  });

  test("two senders", async () => {
    const first = new CliProcess(["send", model, "--listen", "127.0.0.1:0", "--json"]);
    const second = await run("send", model, await first.url(), "--json");
    expectFailure(second, "terms", "ROLE_CONFLICT");
    // The first still waits for a receiver.
    first.child.kill("SIGINT");
    expectFailure(await first.ended, "interrupted", "ABORTED");
  });
});

test("TENSORWIRE_DEBUG shows where an error comes from", async () => {
  const process = new CliProcess(["send", model, "ws://127.0.0.1:1"], { TENSORWIRE_DEBUG: "1" });
  const { stderr } = await process.ended;
  expect(stderr).toMatch(/^\s+at .*src\/channel\/websocket\.ts/m);
  expect(stderr).toContain("caused by");
});
