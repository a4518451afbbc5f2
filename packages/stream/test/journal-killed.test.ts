import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { xxh64 } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { safetensorsSink } from "../src/sink/safetensors.js";
import { heldBy, INTERRUPTION, modelOfChunks } from "./journal-fixture.js";
import { cleanup, folder, listing } from "./sink-fixture.js";

const CHUNKS = 300;
const KILLS = 25;
const built = new URL("../dist/", import.meta.url);
const runs = existsSync(new URL("index.js", built));
if (!runs) console.log("SKIPPED: needs npm run build");

/**
 * A process that receives: whatever is held of another state it forgets and writes anew. It says what it held, and after each
 * checkpoint how many chunks it has noted in all.
 */
const RECEIVER = `
  const [path, state, chunks] = process.argv.slice(1);
  const { safetensorsSink } = await import(process.env.BUILT + "index.js");
  const { ChunkPlan, encodeManifest, xxh64 } = await import("@tensorwire/core");
  const info = { name: "tensor", dtype: "U8", shape: [chunks * 32768] };
  const manifest = { kind: "model", chunkBytes: 32768, metadata: new Map(), tensors: [{ ...info, codec: { name: "none" } }] };
  const plan = new ChunkPlan([info], 32768);
  const sink = safetensorsSink(path);
  const say = (words) => process.stdout.write(words + "\\n");
  try {
    await sink.open({ manifest, plan, bytes: encodeManifest(manifest), dtypes: ["U8"], version: state });
  } catch (error) {
    say(error.code + " " + error.message);
    process.exit(1);
  }
  const { resumable } = sink;
  const held = new Map(resumable.held.flatMap(({ first, chunks }) => chunks.map((digest, i) => [first + i, digest.hash])));
  say("held " + held.size);
  let noted = held.size;
  let checkpoint;
  for (const chunk of plan.walk()) {
    // Every fourth chunk is another one in each state.
    const bytes = new Uint8Array(chunk.bytes).fill(chunk.ordinal % 4 ? 1 : Number(state));
    new DataView(bytes.buffer).setUint32(0, chunk.ordinal);
    const hash = xxh64(bytes);
    if (held.get(chunk.ordinal) === hash) continue;
    if (held.has(chunk.ordinal)) {
      await resumable.forget(chunk);
      noted--;
    }
    await sink.write(chunk, bytes);
    resumable.note(chunk, { codec: 0, hash });
    noted++;
    // As chunks come from a peer.
    if (process.env.PACE) await new Promise((resolve) => setTimeout(resolve, 1));
    if (chunk.ordinal % 10 || checkpoint) continue;
    const now = noted;
    checkpoint = resumable.checkpoint().then(() => {
      say("durable " + now);
      checkpoint = undefined;
    });
  }
  if (process.env.STAY) {
    await resumable.checkpoint();
    say("whole");
    setInterval(() => {}, 1000);
  } else {
    await checkpoint;
    await sink.finish({ digest: 0n, chunks: 0, sourceBytes: 0, clamped: 0 });
    say("finished");
  }`;

interface Receiver {
  readonly child: ChildProcess;
  readonly lines: string[];
  readonly exited: Promise<void>;
  /** Resolves when it has said something. */
  readonly spoke: Promise<void>;
}

function receiver(path: string, state: number, env: Record<string, string> = {}): Receiver {
  const args = ["--input-type=module", "-e", RECEIVER, path, String(state), String(CHUNKS)];
  const child = spawn(process.execPath, args, {
    cwd: new URL("..", import.meta.url),
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, BUILT: built.href, ...env },
  });
  cleanup(() => child.kill("SIGKILL"));
  const lines: string[] = [];
  let rest = "";
  const spoke = new Promise<void>((resolve) => {
    child.stdout!.on("data", (data) => {
      const parts = (rest + String(data)).split("\n");
      rest = parts.pop()!;
      lines.push(...parts);
      if (lines.length) resolve();
    });
    child.once("exit", () => resolve());
  });
  const exited = new Promise<void>((resolve) => child.once("close", () => resolve()));
  return { child, lines, exited, spoke };
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What is held now, each chunk compared with what is in the file. */
async function verified(path: string): Promise<number[]> {
  const model = modelOfChunks(CHUNKS, { version: "of the test" });
  const sink = safetensorsSink(path);
  await sink.open(model);
  const { held } = sink.resumable!;
  if (held.length) {
    const file = openSync(`${path}.part`, "r");
    const head = new Uint8Array(8);
    readSync(file, head, 0, 8, 0);
    const begin = 8 + Number(new DataView(head.buffer).getBigUint64(0, true));
    const bytes = new Uint8Array(32_768);
    for (const { first, chunks } of held) {
      chunks.forEach(({ hash }, i) => {
        readSync(file, bytes, 0, bytes.length, begin + (first + i) * bytes.length);
        expect(xxh64(bytes), `chunk ${first + i}`).toBe(hash);
      });
    }
  }
  const ordinals = heldBy(sink.resumable!);
  await sink.abort(INTERRUPTION);
  return ordinals;
}

describe.runIf(runs)("a receiver that is killed", () => {
  test(`has in its file what it holds, and at least what was durable: ${KILLS} times`, async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    let state = 1;
    let most = 0;
    let went = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      // The source changes now and then.
      if (kill % 5 === 4) state++;
      const { child, lines, exited, spoke } = receiver(path, state, { PACE: "1" });
      await spoke;
      await wait(Math.random() * 150);
      child.kill("SIGKILL");
      await exited;
      expect(lines[0]).toMatch(/^held \d+$/);
      if (lines.includes("finished") || existsSync(path)) break;
      const durable = lines.filter((line) => line.startsWith("durable ")).at(-1);
      const held = await verified(path);
      most = Math.max(most, held.length);
      if (held.length) went++;
      if (durable && lines[0] === "held 0")
        expect(held.length).toBeGreaterThanOrEqual(Number(durable.slice(8)));
    }
    console.log(
      `killed ${KILLS} times at most, ${went} times with chunks held, ${most} of ${CHUNKS} at most`,
    );
    expect(went).toBeGreaterThan(0);
    if (!existsSync(path)) {
      const last = receiver(path, state);
      await last.exited;
      expect(last.lines.at(-1)).toBe("finished");
    }
    expect(listing(at).filter((name) => !/\.part\.(lock|journal)$/.test(name))).toEqual([
      "model.safetensors",
    ]);
    const data = readFileSync(path).subarray(-CHUNKS * 32_768);
    for (let ordinal = 0; ordinal < CHUNKS; ordinal++) {
      const chunk = data.subarray(ordinal * 32_768, (ordinal + 1) * 32_768);
      expect(chunk.readUInt32BE(0)).toBe(ordinal);
      expect(
        chunk.subarray(4).every((byte) => byte === (ordinal % 4 ? 1 : state)),
        `chunk ${ordinal}`,
      ).toBe(true);
    }
  });

  test("keeps others off as long as it runs, whatever it holds, and leaves it to the next one", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    const first = receiver(path, 1, { STAY: "1" });
    while (!first.lines.includes("whole")) await wait(5);
    const journal = readFileSync(`${path}.part.journal`);
    const second = receiver(path, 1);
    await second.exited;
    expect(second.lines).toEqual([
      expect.stringMatching(`TARGET_BUSY process ${first.child.pid} is writing`),
    ]);
    expect(readFileSync(`${path}.part.journal`).equals(journal)).toBe(true);
    first.child.kill("SIGKILL");
    await first.exited;
    const third = receiver(path, 1);
    await third.exited;
    expect(third.lines).toEqual([`held ${CHUNKS}`, "finished"]);
    expect(listing(at)).toEqual(["model.safetensors"]);
  });

  test("is taken over by one of many that come at once", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    const first = receiver(path, 1, { STAY: "1" });
    while (!first.lines.includes("whole")) await wait(5);
    first.child.kill("SIGKILL");
    await first.exited;
    const others = [1, 2, 3, 4].map(() => receiver(path, 1, { STAY: "1" }));
    await Promise.all(others.map(({ spoke }) => spoke));
    expect(others.filter(({ lines }) => lines[0] === `held ${CHUNKS}`)).toHaveLength(1);
    expect(others.filter(({ lines }) => lines[0]!.startsWith("TARGET_BUSY"))).toHaveLength(3);
  });
});
