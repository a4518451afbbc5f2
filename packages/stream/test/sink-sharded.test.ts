import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseSafetensorsHeader, parseShardIndex, type TensorInfo, TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { PartFile } from "../src/sink/part-file.js";
import { shardedSafetensorsSink } from "../src/sink/sharded.js";
import type { SinkModel } from "../src/sink/sink.js";
import { dataOf, failure, folder, listing, modelOf, pour, smallDisk, TOTALS } from "./sink-fixture.js";

const gone = new TensorwireError("CHANNEL_CLOSED", "the peer went away");

const infos: readonly TensorInfo[] = [
  { name: "a", dtype: "F32", shape: [100, 100] },
  { name: "b", dtype: "F32", shape: [50, 100] },
  { name: "empty", dtype: "F32", shape: [0, 4] },
  { name: "large", dtype: "BF16", shape: [100_000] },
  { name: "scalar", dtype: "F64", shape: [] },
  { name: "tail", dtype: "U8", shape: [50_000] },
  { name: "none", dtype: "F32", shape: [0] },
];
const maxShardBytes = 60_000;
const shards = [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`);
const all = [...shards, "model.safetensors.index.json"];

async function write(path: string, model: SinkModel, options: { overwrite?: boolean } = {}): Promise<void> {
  const sink = shardedSafetensorsSink(path, { maxShardBytes, ...options });
  try {
    await sink.open(model);
    await pour(sink, model, dataOf(model));
    await sink.finish(TOTALS);
  } catch (error) {
    await sink.abort(error as TensorwireError);
    throw error;
  }
}

/** Reads the shards back as their index says. */
function read(at: string, index: string): Map<string, { info: TensorInfo; bytes: Uint8Array }> {
  const { weightMap, files, metadata } = parseShardIndex(readFileSync(join(at, index), "utf8"));
  const found = new Map<string, { info: TensorInfo; bytes: Uint8Array }>();
  let total = 0;
  for (const name of files) {
    const file = readFileSync(join(at, name));
    const begin = 8 + Number(file.readBigUInt64LE());
    const header = parseSafetensorsHeader(file.subarray(8, begin), file.length);
    expect(header.metadata?.get("format")).toBe("pt");
    for (const { info, ...place } of header.tensors) {
      expect(weightMap.get(info.name)).toBe(name);
      found.set(info.name, { info, bytes: file.subarray(begin + place.begin, begin + place.end) });
    }
    total += header.dataBytes;
  }
  expect([...weightMap.keys()].sort()).toEqual([...found.keys()].sort());
  expect(metadata).toEqual({ total_size: total });
  return found;
}

const metadata = { format: "pt" };

describe("a sharded model", () => {
  test.each([
    ["a folder", "", "model"],
    ["a folder that is not there yet", "new/", "model"],
    ["an index", "net.safetensors.index.json", "net"],
    ["a file", "net.safetensors", "net"],
  ])("goes to %s", async (_, path, stem) => {
    const at = folder();
    const model = modelOf(infos, { metadata });
    await write(join(at, path) + (path === "" ? "/" : ""), model);
    const into = path.endsWith("/") ? join(at, path) : at;
    expect(listing(into)).toEqual(all.map((name) => name.replace("model", stem)));
    const found = read(into, `${stem}.safetensors.index.json`);
    const data = dataOf(model);
    infos.forEach((info, i) => {
      expect(found.get(info.name)!.info).toEqual(info);
      expect(Buffer.compare(found.get(info.name)!.bytes, data[i]!)).toBe(0);
    });
  });

  test("is one shard where everything fits, and where there is nothing", async () => {
    const at = folder();
    await write(`${at}/`, modelOf([], { metadata }));
    expect(listing(at)).toEqual(["model-00001-of-00001.safetensors", "model.safetensors.index.json"]);
  });

  test("has shards for empty tensors that stand alone", async () => {
    const at = folder();
    // Each after a tensor that fills more than its shard.
    const model = modelOf(
      [
        { name: "large", dtype: "U8", shape: [100_000] },
        { name: "empty", dtype: "U8", shape: [0] },
        { name: "larger", dtype: "U8", shape: [200_000] },
        { name: "last", dtype: "U8", shape: [0] },
      ],
      { metadata },
    );
    await write(`${at}/`, model);
    expect(listing(at).length).toBe(5);
    expect([...read(at, "model.safetensors.index.json").keys()]).toEqual([
      "large",
      "empty",
      "larger",
      "last",
    ]);
  });

  test("of many small shards keeps few files open", async () => {
    const at = folder();
    const many = Array.from(
      { length: 60 },
      (_, i): TensorInfo => ({ name: `w${i}`, dtype: "U8", shape: [60_000] }),
    );
    const model = modelOf(many, { metadata });
    const sink = shardedSafetensorsSink(`${at}/`, { maxShardBytes });
    const open = (): number =>
      readdirSync("/proc/self/fd").filter((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`).startsWith(at);
        } catch {
          return false;
        }
      }).length;
    let most = 0;
    const write = sink.write.bind(sink);
    sink.write = (chunk, bytes) => {
      most = Math.max(most, open());
      return write(chunk, bytes);
    };
    await sink.open(model);
    await pour(sink, model, dataOf(model));
    // Two shards and the index.
    expect(most).toBeLessThanOrEqual(3);
    expect(listing(at).some((name) => name.endsWith(".safetensors"))).toBe(false);
    await sink.finish(TOTALS);
    expect(open()).toBe(0);
    expect(listing(at).length).toBe(61);
    expect(read(at, "model.safetensors.index.json").size).toBe(60);
  });
});

describe("shards that cannot be written", () => {
  const model = modelOf(infos, { metadata });

  test.each(all)("are TARGET_EXISTS before any data where %s exists", async (name) => {
    const at = folder();
    writeFileSync(join(at, name), "old");
    const sink = shardedSafetensorsSink(`${at}/`, { maxShardBytes });
    expect((await failure(sink.open(model))).code).toBe("TARGET_EXISTS");
    await sink.abort(gone);
    expect(listing(at)).toEqual([name]);
    await write(`${at}/`, model, { overwrite: true });
    expect(listing(at)).toEqual(all);
    read(at, "model.safetensors.index.json");
  });

  test("are TARGET_BUSY where another receiver writes the same index", async () => {
    const at = folder();
    const other = await PartFile.open(join(at, "model.safetensors.index.json"));
    const error = await failure(write(`${at}/`, model));
    expect(error.code).toBe("TARGET_BUSY");
    await other.abort();
    expect(listing(at)).toEqual([]);
  });

  test.each(all)("leave nothing where %s appears meanwhile", async (name) => {
    const at = folder();
    const sink = shardedSafetensorsSink(`${at}/`, { maxShardBytes });
    await sink.open(model);
    await pour(sink, model, dataOf(model));
    writeFileSync(join(at, name), "theirs");
    const error = await failure(sink.finish(TOTALS));
    expect(error.code).toBe("TARGET_EXISTS");
    await sink.abort(error);
    expect(listing(at)).toEqual([name]);
    expect(readFileSync(join(at, name), "utf8")).toBe("theirs");
  });

  test("leave nothing when the transfer fails, wherever it stands", async () => {
    // The later the abort, the further a shard that is being opened has come.
    for (const ticks of [0, 2, 8]) {
      for (let stop = 0; stop <= model.plan.chunks; stop++) {
        const at = folder();
        const sink = shardedSafetensorsSink(join(at, "new/"), { maxShardBytes });
        await sink.open(model);
        const data = dataOf(model);
        const writing: (Promise<void> | undefined)[] = [];
        for (const chunk of model.plan.walk([{ first: 0, count: stop }])) {
          const { tensor, offset, bytes } = chunk;
          writing.push(sink.write(chunk, data[tensor]!.subarray(offset, offset + bytes)));
        }
        const settled = Promise.allSettled(writing);
        for (let tick = 0; tick < ticks; tick++) await new Promise((resolve) => setImmediate(resolve));
        await sink.abort(gone);
        expect(listing(at)).toEqual([]);
        await settled;
        expect(listing(at)).toEqual([]);
      }
    }
  });

  test("never stand beside an old index", async () => {
    const at = folder();
    await write(`${at}/`, model);
    const sink = shardedSafetensorsSink(`${at}/`, { maxShardBytes, overwrite: true });
    await sink.open(model);
    await pour(sink, model, dataOf(model));
    expect(listing(at)).toContain("model.safetensors.index.json");
    // Something that a rename does not replace.
    rmSync(join(at, shards[1]!));
    mkdirSync(join(at, shards[1]!));
    const error = await failure(sink.finish(TOTALS));
    expect(error.code).toBe("TARGET_WRITE");
    await sink.abort(error);
    expect(listing(at)).toEqual(shards.slice(1));
  });

  test("leave a folder that was there", async () => {
    const at = folder();
    mkdirSync(join(at, "there"));
    const sink = shardedSafetensorsSink(join(at, "there"), { maxShardBytes });
    await sink.open(model);
    await sink.abort(gone);
    expect(listing(at)).toEqual(["there"]);
  });

  test("are refused where the path names no sharded model, or a raw file comes", async () => {
    const at = folder();
    const sink = (path: string, bytes = maxShardBytes) =>
      shardedSafetensorsSink(path, { maxShardBytes: bytes });
    expect((await failure(sink(join(at, "model.bin")).open(model))).code).toBe("INVALID_ARGUMENT");
    expect((await failure(sink(join(at, ".safetensors")).open(model))).code).toBe("INVALID_ARGUMENT");
    expect((await failure(sink(`${at}/`, 0).open(model))).code).toBe("INVALID_ARGUMENT");
    expect((await failure(sink(join(at, "a/b/")).open(model))).code).toBe("TARGET_WRITE");
    const raw = modelOf([{ name: "x", dtype: "U8", shape: [1] }], { kind: "raw" });
    expect((await failure(sink(`${at}/`).open(raw))).code).toBe("INVALID_ARGUMENT");
    expect(listing(at)).toEqual([]);
  });

  test("are TARGET_FULL before any data where all of them do not fit", async () => {
    const disk = smallDisk("size=256k");
    if (!disk) return;
    expect((await failure(write(`${disk}/`, model))).code).toBe("TARGET_FULL");
    expect(listing(disk)).toEqual([]);
  });
});
