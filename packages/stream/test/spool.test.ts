import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  artifactSource,
  createModelServer,
  type ModelSource,
  receiveModel,
  streamModel,
  tensorsSource,
} from "../src/index.js";
import { makeModel } from "./cli-process.js";
import { at, CHUNKS, ELEMENTS, fetched, hasSpool, model, serving, spool } from "./spool-fixture.js";

hasSpool();

/** A source that counts how often it is opened and read. */
function counted(value = 1): { make: () => ModelSource; counts: { opened: number; read: number } } {
  const counts = { opened: 0, read: 0 };
  const make = (): ModelSource => {
    const source = tensorsSource(model(value));
    const { open, read } = source;
    source.open = () => {
      counts.opened++;
      return open.call(source);
    };
    source.read = (chunk, pool) => {
      counts.read++;
      return read.call(source, chunk, pool);
    };
    return source;
  };
  return { make, counts };
}

const PER_MODEL = Math.ceil((ELEMENTS * 4) / 32768);

describe("a model that is published from a spool", () => {
  test("is encoded once a codec, whoever asks meanwhile, and for nobody before", async () => {
    const server = await serving({ limits: { maxPeerTransfers: 64 } });
    const { make, counts } = counted(0.5);
    const codecs = ["normfloat4", "blockwise8"];
    const published = await server.publish("llama", make, { spool, codecs, ...CHUNKS });
    expect(published).toMatchObject({ version: 1, codecs, artifacts: [], readers: 0, earlier: [] });
    expect(counts.opened).toBe(0);
    const all = await Promise.all(Array.from({ length: 32 }, () => fetched(server.urlOf("llama"))));
    expect(counts).toEqual({ opened: 1, read: PER_MODEL });
    const { artifacts } = server.published("llama");
    expect(artifacts).toMatchObject([
      { codec: "normfloat4", path: join(spool, "llama", "1-normfloat4.twire") },
    ]);
    for (const { value, digest, codecs: used } of all) {
      expect({ value, digest, used }).toEqual({
        value: 0.5,
        digest: artifacts[0]!.digest,
        used: ["normfloat4"],
      });
    }
    expect((await fetched(server.urlOf("llama", { codec: "blockwise8" }))).codecs).toEqual(["blockwise8"]);
    expect(counts).toEqual({ opened: 2, read: 2 * PER_MODEL });
    await expect(fetched(server.urlOf("llama", { codec: "float16" }))).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("normfloat4, blockwise8"),
    });
    expect(server.names).toEqual(["llama"]);
    await expect.poll(() => server.published("llama").readers).toBe(0);
  });

  test("keeps versions that are being read or retained, and no others", async () => {
    const server = await serving();
    const publish = (value: number) =>
      server.publish("m", model(value), { spool, encode: "now", retention: { versions: 2 }, ...CHUNKS });
    const files = async () =>
      (await readdir(join(spool, "m"))).filter((name) => name.endsWith(".twire")).sort();
    for (const value of [1, 2]) await publish(value);
    expect((await fetched(server.urlOf("m"))).value).toBe(2);
    expect((await fetched(server.urlOf("m", { version: 1 }))).value).toBe(1);
    // Half way through the first version.
    const reading = receiveModel(server.urlOf("m", { version: 1 }), { windowBytes: 65536 });
    const chunks = reading.chunks()[Symbol.asyncIterator]();
    await chunks.next();
    for (const value of [3, 4]) await publish(value);
    expect(await files()).toEqual(["1-none.twire", "3-none.twire", "4-none.twire"]);
    expect(server.published("m")).toMatchObject({
      version: 4,
      earlier: [{ version: 3 }, { version: 1, readers: 1 }],
    });
    const seen = new Set<number>();
    for (let step = await chunks.next(); !step.done; step = await chunks.next()) {
      seen.add(new Float32Array(step.value.data.slice().buffer)[0]!);
    }
    await reading.done;
    expect([...seen]).toEqual([1]);
    await expect.poll(files).toEqual(["3-none.twire", "4-none.twire"]);
    await expect(fetched(server.urlOf("m", { version: 1 }))).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(server.unpublish("m")).toBe(true);
    await expect(fetched(server.urlOf("m"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect.poll(files).toEqual([]);
  });

  test("goes on in the version that a receiver began with, though there is a newer one", async () => {
    const server = await serving();
    await server.publish("m", model(1), { spool, encode: "now", ...CHUNKS });
    const to = at("m.safetensors");
    const abort = new AbortController();
    const first = receiveModel(server.urlOf("m"), {
      to,
      windowBytes: 65536,
      maxBytesPerSecond: 200_000,
      signal: abort.signal,
      onProgress: ({ sourceBytes }) => {
        if (sourceBytes > 100_000) abort.abort();
      },
    });
    await expect(first.done).rejects.toMatchObject({ code: "ABORTED" });
    await server.publish("m", model(2), { spool, encode: "now", ...CHUNKS });
    const { resumedBytes, digest } = await receiveModel(server.urlOf("m"), { to }).done;
    expect(resumedBytes).toBeGreaterThan(0);
    expect(server.published("m").earlier[0]!.artifacts[0]!.digest).toBe(digest);
    const bytes = await readFile(to);
    expect(bytes.readFloatLE(bytes.length - 4)).toBe(1);
    // Whoever begins anew has the new one.
    expect((await fetched(server.urlOf("m"))).value).toBe(2);
  });

  test("is found again after a restart, and what is of no version is removed", async () => {
    await makeModel(at("a.safetensors"), [{ name: "w", dtype: "F32", shape: [50, 1000] }]);
    const first = await createModelServer();
    const options = { spool, codec: "normfloat4" };
    await first.publish("a", at("a.safetensors"), { ...options, encode: "now" });
    const { artifacts } = first.published("a");
    await first.close();
    for (const name of ["1-float16.twire", "2-none.twire.part", "2-none.twire.part.journal"]) {
      await writeFile(join(spool, "a", name), "stray");
    }
    await writeFile(join(spool, "a", "notes.txt"), "of the owner");
    const second = await serving();
    const again = await second.publish("a", at("a.safetensors"), options);
    expect(again).toMatchObject({ version: 1, artifacts });
    expect(await readdir(join(spool, "a"))).toEqual([
      ".publication.json",
      ".publication.lock",
      "1-normfloat4.twire",
      "notes.txt",
    ]);
    expect((await fetched(second.urlOf("a"))).digest).toBe(artifacts[0]!.digest);
    // Another server cannot have the same spool.
    const other = await serving();
    await expect(other.publish("a", at("a.safetensors"), options)).rejects.toMatchObject({
      code: "TARGET_BUSY",
    });
    await makeModel(at("a.safetensors"), [{ name: "w", dtype: "F32", shape: [50, 999] }]);
    expect(await second.publish("a", at("a.safetensors"), options)).toMatchObject({ version: 2 });
    // Not what version 2 is.
    await makeModel(at("a.safetensors"), [{ name: "w", dtype: "F32", shape: [50, 998] }]);
    await expect(fetched(second.urlOf("a"))).rejects.toMatchObject({ peerCode: "SOURCE_CHANGED" });
  });

  test("is encoded from where an earlier server was interrupted", async () => {
    const first = await createModelServer({ windowBytes: 1 << 16 });
    const { make, counts } = counted(1);
    let stuck = true;
    const slowly = (): ModelSource => {
      const source = make();
      const { read } = source;
      source.read = async (chunk, pool) => {
        // Until it is told to stop.
        if (stuck && chunk.ordinal === PER_MODEL - 1) await new Promise(() => {});
        return read.call(source, chunk, pool);
      };
      return source;
    };
    const options = { spool, version: "of today", ...CHUNKS };
    await first.publish("m", slowly, options);
    const waiting = fetched(first.urlOf("m"));
    waiting.catch(() => {});
    await expect.poll(async () => (await readdir(join(spool, "m"))).join()).toContain("part.journal");
    await expect.poll(() => counts.read).toBe(PER_MODEL - 1);
    await first.close({ signal: AbortSignal.abort() });
    await expect(waiting).rejects.toMatchObject({ code: "SERVER_BUSY" });
    stuck = false;
    const second = await serving();
    expect(await second.publish("m", slowly, options)).toMatchObject({ version: 1, artifacts: [] });
    expect((await fetched(second.urlOf("m"))).value).toBe(1);
    expect(counts.read).toBeLessThan(2 * PER_MODEL - 1);
  });

  test("that can be read once has one codec, or is spooled exactly", async () => {
    const server = await serving();
    const { make, counts } = counted(0.25);
    const codecs = ["normfloat4", "float16"];
    await expect(server.publish("m", make(), { spool, codecs })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await server.publish("m", make(), { spool, codecs, spoolAs: "none", ...CHUNKS });
    for (const codec of codecs) {
      expect(await fetched(server.urlOf("m", { codec }))).toMatchObject({ value: 0.25, codecs: [codec] });
    }
    expect(counts).toEqual({ opened: 1, read: PER_MODEL });
    expect(await readdir(join(spool, "m"))).toContain("1-none.twire");
    await expect(fetched(server.urlOf("m", { codec: "none" }))).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("is not encoded again where it has lost something already, unless that is said", async () => {
    await streamModel(model(0.3), at("lossy.twire"), { codec: "normfloat4", ...CHUNKS });
    const server = await serving();
    const lossy = at("lossy.twire");
    await expect(server.publish("m", lossy, { spool, codec: "float16" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("transcode"),
    });
    await server.publish("m", lossy, { spool });
    expect((await fetched(server.urlOf("m"))).codecs).toEqual(["normfloat4"]);
    await server.publish("n", lossy, { spool, codec: "float16", transcode: true });
    expect((await fetched(server.urlOf("n"))).codecs).toEqual(["float16"]);
    // Of a function it shows when it is opened.
    await server.publish("o", () => artifactSource(lossy), { spool, codec: "float16" });
    await expect(fetched(server.urlOf("o"))).rejects.toMatchObject({ peerCode: "INVALID_ARGUMENT" });
  });

  test("that has no room is refused, and nothing is left of it", async () => {
    const server = await serving({ limits: { maxSpoolBytes: 300_000 } });
    await server.publish("m", model(1), { spool, ...CHUNKS });
    await server.publish("n", model(1), { spool, ...CHUNKS });
    expect((await fetched(server.urlOf("m"))).value).toBe(1);
    await expect(fetched(server.urlOf("n"))).rejects.toMatchObject({
      code: "PEER_FAILED",
      peerCode: "TARGET_FULL",
    });
    expect((await readdir(join(spool, "n"))).filter((name) => name.includes("twire"))).toEqual([]);
    server.unpublish("m");
    await expect.poll(() => fetched(server.urlOf("n")).catch(() => undefined)).toMatchObject({ value: 1 });
  });

  test("options that cannot be meant are refused", async () => {
    const server = await serving();
    for (const options of [
      { spool, codecs: [] },
      { spool, codecs: ["none", "none"] },
      { spool, codec: "none", codecs: ["none"] },
      { spool, retention: { versions: 0 } },
      { spool, retention: { maxAgeMs: -1 } },
    ]) {
      await expect(server.publish("m", model(), options)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    await expect(server.publish("m", model(), { spool: at("none") })).rejects.toMatchObject({
      code: "TARGET_WRITE",
    });
    server.publish("plain", model());
    await expect(fetched(server.urlOf("plain", { version: 1 }))).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(() => server.published("plain")).toThrow("spool");
  });
});
