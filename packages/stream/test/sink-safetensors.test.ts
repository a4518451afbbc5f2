import { existsSync, openSync, readdirSync, readFileSync, readSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseSafetensorsHeader, SAFETENSORS_PREFIX_BYTES, TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { rawFileSink } from "../src/sink/raw-file.js";
import { safetensorsSink } from "../src/sink/safetensors.js";
import type { SinkModel } from "../src/sink/sink.js";
import { dataOf, failure, folder, listing, modelOf, noise, pour, smallDisk, TOTALS } from "./sink-fixture.js";

const fixtures = new URL("../../core/test/fixtures/safetensors/", import.meta.url);
const gone = new TensorwireError("CHANNEL_CLOSED", "the peer went away");

/** A safetensors file as a transfer would bring it. */
function arriving(file: Uint8Array, chunkBytes?: number): { model: SinkModel; data: Uint8Array[] } {
  const headerBytes = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const begin = SAFETENSORS_PREFIX_BYTES + headerBytes;
  const header = parseSafetensorsHeader(file.subarray(SAFETENSORS_PREFIX_BYTES, begin), file.length);
  const model = modelOf(
    header.tensors.map(({ info }) => info),
    {
      metadata: Object.fromEntries(header.metadata ?? []),
      header: { format: "safetensors", text: header.text },
      ...(chunkBytes && { chunkBytes }),
    },
  );
  return {
    model,
    data: header.tensors.map((entry) => file.subarray(begin + entry.begin, begin + entry.end)),
  };
}

/** A safetensors file with this header's text, padded as it is. */
function fileOf(text: string, data: Uint8Array): Buffer {
  const json = Buffer.from(text);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([prefix, json, data]);
}

describe("a safetensors file", () => {
  const names = readdirSync(fixtures).filter((name) => name.endsWith(".safetensors"));

  test.each(names)("%s comes out byte for byte", async (name) => {
    const file = readFileSync(new URL(name, fixtures));
    const path = join(folder(), "copy.safetensors");
    const { model, data } = arriving(file);
    const sink = safetensorsSink(path);
    await sink.open(model);
    await pour(sink, model, data);
    await sink.finish(TOTALS);
    expect(readFileSync(path).equals(file)).toBe(true);
  });

  test("keeps order, spelling, escapes and padding of the header", async () => {
    const text =
      '{ "b" : {"shape":[3],"data_offsets":[0,3],"dtype":"U8"} ,"__metadata__":{"z":"\\u00e9","a":""},' +
      '"e":{"dtype":"F32","shape":[0,4],"data_offsets":[3,3]},"\\u0061":{"dtype":"I16","shape":[],"data_offsets":[3,5]}}  \n ';
    const file = fileOf(text, Uint8Array.of(1, 2, 3, 4, 5));
    const path = join(folder(), "copy.safetensors");
    const { model, data } = arriving(file);
    const sink = safetensorsSink(path);
    await sink.open(model);
    await pour(sink, model, data);
    await sink.finish(TOTALS);
    expect(readFileSync(path).equals(file)).toBe(true);
  });

  test("of tensors from elsewhere has a header of its own", async () => {
    const path = join(folder(), "model.safetensors");
    const infos = [
      { name: "scalar", dtype: "F32", shape: [] },
      { name: "1", dtype: "BF16", shape: [70_001] },
      { name: "empty", dtype: "F32", shape: [0, 4] },
      { name: "wide", dtype: "F64", shape: [9, 5000] },
      { name: "last", dtype: "BOOL", shape: [0] },
    ] as const;
    const model = modelOf(infos, { metadata: { from: "memory", 1: "one" } });
    const data = dataOf(model);
    const sink = safetensorsSink(path);
    await sink.open(model);
    await pour(sink, model, data);
    await sink.finish(TOTALS);
    const { model: read, data: found } = arriving(readFileSync(path));
    expect(read.manifest.tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape }))).toEqual(infos);
    expect([...read.manifest.metadata]).toEqual([...model.manifest.metadata]);
    found.forEach((bytes, i) => void expect(Buffer.compare(bytes, data[i]!)).toBe(0));
  });

  test("whose dtypes change has a header of its own, and every chunk in its new place", async () => {
    const text = JSON.stringify({
      a: { dtype: "F32", shape: [50_000], data_offsets: [0, 200_000] },
      n: { dtype: "I32", shape: [3], data_offsets: [200_000, 200_012] },
    });
    const { model } = arriving(fileOf(text, noise(200_012, 1)));
    const converted: SinkModel = { ...model, dtypes: ["BF16", "I32"] };
    const path = join(folder(), "model.safetensors");
    const data = dataOf(converted);
    const sink = safetensorsSink(path);
    await sink.open(converted);
    await pour(sink, converted, data);
    await sink.finish(TOTALS);
    const { model: read, data: found } = arriving(readFileSync(path));
    expect(read.manifest.tensors.map(({ dtype }) => dtype)).toEqual(["BF16", "I32"]);
    found.forEach((bytes, i) => void expect(Buffer.compare(bytes, data[i]!)).toBe(0));
    expect(read.manifest.header!.text).not.toContain("__metadata__");
  });

  test("without tensors is a header", async () => {
    const path = join(folder(), "model.safetensors");
    const sink = safetensorsSink(path);
    await sink.open(modelOf([]));
    await sink.finish(TOTALS);
    expect(readFileSync(path, "latin1")).toBe("\x08\0\0\0\0\0\0\0{}      ");
  });

  test("has its chunks in place past 2^32, and takes no more disk than they do", async () => {
    const path = join(folder(), "huge.safetensors");
    const MiB = 1024 * 1024;
    const size = 5 * 1024 * MiB;
    const infos = [
      { name: "huge", dtype: "I8", shape: [size] },
      { name: "after", dtype: "F32", shape: [1000] },
    ] as const;
    const model = modelOf(infos, { chunkBytes: 4 * MiB });
    const sink = safetensorsSink(path);
    await sink.open(model);
    const chunks = [...model.plan.walk()];
    expect(chunks.length).toBe(1281);
    // The first, those around 2^31 and 2^32, the last, and the one of the tensor after it.
    const some = [0, 511, 512, 1023, 1024, 1279, 1280].map((ordinal) => chunks[ordinal]!);
    await Promise.all(some.map((chunk) => sink.write(chunk, noise(chunk.bytes, chunk.ordinal))));
    await sink.finish(TOTALS);
    const { size: written, blocks } = statSync(path);
    const file = openSync(path, "r");
    const prefix = Buffer.alloc(8);
    readSync(file, prefix, 0, 8, 0);
    const begin = 8 + Number(prefix.readBigUInt64LE());
    expect(written).toBe(begin + size + 4000);
    expect(blocks * 512).toBeLessThan(32 * MiB);
    for (const { ordinal, bytes, tensor, offset } of some) {
      const found = Buffer.alloc(bytes);
      readSync(file, found, 0, bytes, begin + (tensor === 0 ? offset : size));
      expect(found.equals(noise(bytes, ordinal))).toBe(true);
    }
  });
});

describe("what cannot be written", () => {
  const model = modelOf([{ name: "w", dtype: "F32", shape: [1000] }]);

  test("is refused before any data, and abort has nothing to undo", async () => {
    const at = folder();
    writeFileSync(join(at, "old.safetensors"), "old");
    const sink = safetensorsSink(join(at, "old.safetensors"));
    expect((await failure(sink.open(model))).code).toBe("TARGET_EXISTS");
    await sink.abort(gone);
    const huge = safetensorsSink(join(at, "huge.safetensors"));
    const shape = [2 ** 50];
    const error = await failure(
      huge.open(modelOf([{ name: "w", dtype: "I8", shape }], { chunkBytes: 2 ** 29 })),
    );
    expect(error.code).toBe("TARGET_FULL");
    await huge.abort(gone);
    expect(listing(at)).toEqual(["old.safetensors"]);
  });

  test("of a raw file says where raw files go, and the other way round", async () => {
    const at = folder();
    const raw = modelOf([{ name: "notes.txt", dtype: "U8", shape: [5] }], { kind: "raw" });
    const error = await failure(safetensorsSink(join(at, "x.safetensors")).open(raw));
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.message).toContain("raw file");
    const other = await failure(rawFileSink(join(at, "x.bin")).open(model));
    expect(other.code).toBe("INVALID_ARGUMENT");
    expect(other.message).toContain("*.safetensors");
    expect(listing(at)).toEqual([]);
  });

  test("leaves nothing when the transfer fails in the midst of it", async () => {
    const at = folder();
    const sink = safetensorsSink(join(at, "model.safetensors"));
    const large = modelOf([{ name: "w", dtype: "F32", shape: [4 * 1024 * 1024] }], {
      chunkBytes: 4 * 1024 * 1024,
    });
    const data = noise(4 * 1024 * 1024, 1);
    await sink.open(large);
    const writing = [0, 1, 2].map((i) => sink.write(large.plan.chunk(i), data)!);
    await sink.abort(gone);
    await Promise.allSettled(writing);
    expect(listing(at)).toEqual([]);
  });

  test("on a disk that fills is TARGET_FULL, at the latest at finish, and leaves nothing", async () => {
    const disk = smallDisk("size=3m");
    if (!disk) return;
    const small = modelOf(
      Array.from({ length: 20 }, (_, i) => ({ name: `w${i}`, dtype: "U8", shape: [128 * 1024] })),
      { chunkBytes: 128 * 1024 },
    );
    const sink = safetensorsSink(join(disk, "model.safetensors"));
    await sink.open(small);
    // Somebody else takes the room that was there at first.
    writeFileSync(join(disk, "other"), new Uint8Array(2 * 1024 * 1024));
    const pouring = pour(sink, small, dataOf(small)).then(() => sink.finish(TOTALS));
    expect((await failure(pouring)).code).toBe("TARGET_FULL");
    await sink.abort(gone);
    expect(listing(disk)).toEqual(["other"]);
  });
});

describe("a raw file", () => {
  test.each([0, 1, 32 * 1024, 1_000_003])("of %i bytes comes out as it was", async (size) => {
    const at = folder();
    const model = modelOf([{ name: "tokenizer.json", dtype: "U8", shape: [size] }], { kind: "raw" });
    const data = dataOf(model);
    const sink = rawFileSink(join(at, "tokenizer.json"));
    await sink.open(model);
    await pour(sink, model, data);
    expect(existsSync(join(at, "tokenizer.json"))).toBe(false);
    await sink.finish(TOTALS);
    expect(readFileSync(join(at, "tokenizer.json")).equals(data[0]!)).toBe(true);
    expect(listing(at)).toEqual(["tokenizer.json"]);
  });

  test("leaves nothing when the transfer fails", async () => {
    const at = folder();
    const model = modelOf([{ name: "file", dtype: "U8", shape: [100_000] }], { kind: "raw" });
    const sink = rawFileSink(join(at, "file"));
    await sink.open(model);
    await sink.write(model.plan.chunk(0), noise(32 * 1024, 1));
    await sink.abort(gone);
    expect(listing(at)).toEqual([]);
  });
});
