import { appendFileSync, copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PortableBackend } from "@tensorwire/core";
import { expect, test } from "vitest";
import { listen, memoryChannelPair, receiveModel, type StreamOptions, streamModel } from "../src/index.js";
import { artifactSource } from "../src/source/artifact.js";
import { BrokenLine } from "./broken-line.js";
import { killed } from "./journal-fixture.js";
import { backend, registry } from "./packing-fixture.js";
import { folder, listing } from "./sink-fixture.js";

// A part file without a journal is what a process leaves that was killed before its first checkpoint, or of which the journal
// was lost.

const CHUNK = 32_768;

/** Many small tensors, and one of several chunks; some of its runs pack well. */
function model(shift = 0) {
  const values = Float32Array.from({ length: 200_000 }, (_, i) =>
    i % 9000 < 6000 ? 0 : Math.sin(i + shift),
  );
  const small = Array.from(
    { length: 1500 },
    (_, i) => [`t${i}`, { dtype: "U8", shape: [200], data: new Uint8Array(200).fill(i) }] as const,
  );
  return { ...Object.fromEntries(small), values: { dtype: "F32" as const, shape: [200_000], data: values } };
}

interface Call extends StreamOptions {
  readonly breaksAfter?: number;
  readonly shift?: number;
}

async function transfer(to: string, { breaksAfter, shift, ...options }: Call = {}) {
  const [a, b] = memoryChannelPair(10_007);
  const line = new BrokenLine(a, breaksAfter ?? Number.POSITIVE_INFINITY);
  const common = { registry, backend, windowBytes: 4 * CHUNK };
  const sending = streamModel(model(shift), line, {
    ...common,
    chunkBytes: CHUNK,
    minElements: 0,
    ...options,
  });
  const { done } = receiveModel(b, { ...common, to });
  const [sent, received] = await Promise.allSettled([sending, done]);
  await Promise.all([a.close(), b.close()]);
  return { sent, received, sentBytes: line.sentBytes };
}

/** The file that an undisturbed transfer gives. */
async function undisturbed(options?: StreamOptions): Promise<Buffer> {
  const path = join(folder(), "model.twire");
  const { received } = await transfer(path, options);
  expect(received.status).toBe("fulfilled");
  return readFileSync(path);
}

const named: readonly [string, StreamOptions][] = [
  ["as it is", {}],
  ["at four bits, packed", { codec: "normfloat4", compress: "auto" }],
  ["in a codec that this library does not have", { codec: "declining" }],
  ["with SHA-256", { codec: "float16", integrity: "sha256" }],
];

test.each(named)(
  "whatever of it was written, the same call goes on from its whole frames: %s",
  async (_, options) => {
    const whole = await undisturbed(options);
    const source = artifactSource(join(folder(), "none"));
    await source.close();
    const sizes = [
      whole.length,
      whole.length - 1,
      whole.length - 60,
      Math.floor(whole.length / 2),
      5000,
      300,
      0,
    ];
    let before = Number.POSITIVE_INFINITY;
    for (const size of sizes) {
      const at = folder();
      const path = join(at, "model.twire");
      writeFileSync(`${path}.part`, whole.subarray(0, size));
      // Also what a file system made of the end of it when the power failed.
      if (size % 2) appendFileSync(`${path}.part`, Buffer.alloc(5000));
      // Below the manifest nothing tells whose it is: the lock of the process that died does.
      if (size <= 5000) writeFileSync(`${path}.part.lock`, "");
      killed(at);
      const { sent, received } = await transfer(path, options);
      expect(received, `${size} bytes`).toMatchObject({ status: "fulfilled" });
      expect(listing(at)).toEqual(["model.twire"]);
      expect(readFileSync(path).equals(whole), `${size} bytes`).toBe(true);
      const resumed = (received as PromiseFulfilledResult<{ resumedBytes: number }>).value.resumedBytes;
      if (size === whole.length) expect(resumed).toBe(1500 * 200 + 800_000);
      expect(resumed).toBeLessThanOrEqual(before);
      if (size === Math.floor(whole.length / 2)) expect(resumed).toBeGreaterThan(0);
      before = resumed;
      expect(sent.status).toBe("fulfilled");
    }
  },
);

test("a frame with a payload that is not what its record says is not gone on from, nor what is behind it", async () => {
  const whole = await undisturbed();
  const at = folder();
  const path = join(at, "model.twire");
  const damaged = Buffer.from(whole);
  // Well within the values, which come last.
  damaged[whole.length - 400_000]! ^= 1;
  writeFileSync(`${path}.part`, damaged);
  const { received } = await transfer(path);
  const { resumedBytes } = (received as PromiseFulfilledResult<{ resumedBytes: number }>).value;
  expect(resumedBytes).toBeGreaterThan(300_000);
  expect(resumedBytes).toBeLessThan(1_100_000 - 300_000);
  expect(readFileSync(path).equals(whole)).toBe(true);
});

test("what was recovered, and is interrupted again and again, goes on each time", async () => {
  const whole = await undisturbed();
  const at = folder();
  const path = join(at, "model.twire");
  writeFileSync(`${path}.part`, whole.subarray(0, 400_000));
  for (const breaksAfter of [250_000, 250_000, 250_000]) {
    const { received } = await transfer(path, { breaksAfter, version: "v1" });
    expect(received.status).toBe("rejected");
    expect(listing(at)).toEqual(["model.twire.part", "model.twire.part.journal"]);
  }
  const { received } = await transfer(path, { version: "v1" });
  const { resumedBytes } = (received as PromiseFulfilledResult<{ resumedBytes: number }>).value;
  expect(resumedBytes).toBeGreaterThan(400_000);
  expect(readFileSync(path).equals(whole)).toBe(true);
});

test("what was recovered, and interrupted, is asked of a peer at an address as if no version of it were held", async () => {
  const whole = await undisturbed();
  const at = folder();
  const path = join(at, "model.twire");
  writeFileSync(`${path}.part`, whole.subarray(0, 400_000));
  await transfer(path, { breaksAfter: 250_000, version: "v1" });
  expect(listing(at)).toEqual(["model.twire.part", "model.twire.part.journal"]);
  const listener = await listen({ url: "tcp://127.0.0.1:0" });
  const common = { registry, backend, windowBytes: 4 * CHUNK };
  const sending = streamModel(model(), listener, { ...common, chunkBytes: CHUNK, minElements: 0 });
  sending.catch(() => {});
  const { resumedBytes } = await receiveModel(listener.url, { ...common, to: path }).done.finally(() =>
    listener.close(),
  );
  expect(resumedBytes).toBeGreaterThan(300_000);
  await sending;
  expect(readFileSync(path).equals(whole)).toBe(true);
});

test("interrupted while that is still being verified, nothing of it is lost", async () => {
  const whole = await undisturbed();
  const at = folder();
  const path = join(at, "model.twire");
  writeFileSync(`${path}.part`, whole.subarray(0, 900_000));
  const controller = new AbortController();
  class Interrupted extends PortableBackend {
    override hash(payload: Uint8Array) {
      controller.abort();
      return super.hash(payload);
    }
  }
  const [a, b] = memoryChannelPair();
  const common = { registry, windowBytes: 4 * CHUNK };
  const sending = streamModel(model(), a, { ...common, chunkBytes: CHUNK, minElements: 0 });
  const options = { to: path, backend: new Interrupted(registry), signal: controller.signal };
  const [received] = await Promise.allSettled([receiveModel(b, { ...common, ...options }).done, sending]);
  expect(received).toMatchObject({ reason: { code: "ABORTED" } });
  expect(listing(at)).toEqual(["model.twire.part", "model.twire.part.journal"]);
  const again = await transfer(path);
  const { resumedBytes } = (again.received as PromiseFulfilledResult<{ resumedBytes: number }>).value;
  expect(resumedBytes).toBeGreaterThan(700_000);
  expect(readFileSync(path).equals(whole)).toBe(true);
});

test("with a journal that is damaged, or of which only some is left", async () => {
  const whole = await undisturbed();
  for (const left of [0, 50, 120]) {
    const at = folder();
    const path = join(at, "model.twire");
    await transfer(path, { breaksAfter: 900_000, version: "v1" });
    const journal = readFileSync(`${path}.part.journal`);
    writeFileSync(`${path}.part.journal`, journal.subarray(0, left));
    const { received } = await transfer(path, { version: "v1" });
    expect(received, `${left} bytes left`).toMatchObject({ status: "fulfilled" });
    const { resumedBytes } = (received as PromiseFulfilledResult<{ resumedBytes: number }>).value;
    // What was collected for another frame was in the journal alone.
    expect(resumedBytes, `${left} bytes left`).toBeGreaterThan(200_000);
    expect(readFileSync(path).equals(whole)).toBe(true);
    expect(listing(at)).toEqual(["model.twire"]);
  }
});

test("where the source has changed since: fails once, and begins anew", async () => {
  const whole = await undisturbed();
  const at = folder();
  const path = join(at, "model.twire");
  await transfer(join(folder(), "other.twire"), { shift: 1 });
  writeFileSync(`${path}.part`, whole.subarray(0, 900_000));
  const { received } = await transfer(path, { shift: 1 });
  expect(received).toMatchObject({
    reason: { code: "SOURCE_CHANGED", message: expect.stringContaining("begin anew") },
  });
  expect(listing(at)).toEqual([]);
  const again = await transfer(path, { shift: 1 });
  expect(again.received).toMatchObject({ status: "fulfilled", value: { resumedBytes: 0 } });
});

test("a part file of another model, or of other software, is in the way as any other file is", async () => {
  const whole = await undisturbed();
  const at = folder();
  const path = join(at, "model.twire");
  const other = Buffer.from(whole);
  other[other.indexOf('"tensorwire"') + 1]! ^= 1;
  for (const bytes of [other, await undisturbed({ codec: "float16" }), Buffer.from("theirs")]) {
    writeFileSync(`${path}.part`, bytes);
    const { received } = await transfer(path);
    expect(received).toMatchObject({ reason: { code: "TARGET_EXISTS" } });
    expect(readFileSync(`${path}.part`).equals(bytes)).toBe(true);
  }
});

test("a truncated artifact says how to go on from it, and that does", async () => {
  const whole = await undisturbed();
  const at = folder();
  const path = join(at, "model.twire");
  writeFileSync(path, whole.subarray(0, whole.length - 100));
  const source = artifactSource(path);
  await expect(source.open()).rejects.toMatchObject({
    code: "SOURCE_INVALID",
    message: expect.stringMatching(/truncated: .* put \.part behind its name and run again what wrote it/),
  });
  await source.close();
  renameSync(path, `${path}.part`);
  const { received } = await transfer(path);
  expect(received).toMatchObject({ status: "fulfilled", value: { resumedBytes: 1_100_000 } });
  expect(readFileSync(path).equals(whole)).toBe(true);
});

test("with resume: false nothing is gone on from", async () => {
  const whole = await undisturbed();
  const at = folder();
  const path = join(at, "model.twire");
  copyFileSync(await written(whole), `${path}.part`);
  const [a, b] = memoryChannelPair(10_007);
  const sending = streamModel(model(), a, { registry, backend, chunkBytes: CHUNK, minElements: 0 });
  const { done } = receiveModel(b, { to: path, resume: false });
  const [, received] = await Promise.allSettled([sending, done]);
  await Promise.all([a.close(), b.close()]);
  expect(received).toMatchObject({ reason: { code: "TARGET_EXISTS" } });
  expect(existsSync(path)).toBe(false);
});

async function written(bytes: Buffer): Promise<string> {
  const path = join(folder(), "bytes");
  writeFileSync(path, bytes);
  return path;
}
