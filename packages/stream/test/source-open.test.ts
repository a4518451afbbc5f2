import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import {
  defaultCodecs,
  PortableBackend,
  resolveLimits,
  serializeShardIndex,
  type TensorInfo,
} from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { artifactSource } from "../src/source/artifact.js";
import { fromTensors } from "../src/source/declared.js";
import { isDecodedArtifact } from "../src/source/decoded.js";
import { openSource } from "../src/source/open.js";
import { type EncodedSource, isEncodedSource, type ModelSource } from "../src/source/source.js";
import { artifactFrames } from "./artifact-file.js";
import { pattern, safetensorsFile } from "./source-reading.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-open-"));
});
afterEach(() => rm(folder, { recursive: true }));

const settings = { backend: new PortableBackend(), registry: defaultCodecs, limits: resolveLimits() };
const at = (name: string): string => join(folder, name);

interface Options {
  readonly codec?: string;
  readonly policy?: readonly [];
  readonly chunkBytes?: number;
}

// biome-ignore lint/suspicious/noExplicitAny: callers of JavaScript pass what they like.
async function opened(source: any, options: Options = {}): Promise<ModelSource | EncodedSource> {
  return openSource(source, options as object, settings);
}

/** What kind of source a path gives: its tensors' names, and whether it is a raw file or encoded. */
async function names(source: string): Promise<string> {
  const found = await opened(source);
  try {
    const { kind, tensors } = await found.open();
    const form = isEncodedSource(found) ? "encoded" : kind;
    return `${form}: ${tensors.map(({ name }) => name)}`;
  } finally {
    await found.close();
  }
}

const info = (name: string): TensorInfo => ({ name, dtype: "F32", shape: [4] });
const put = (name: string, content: string | Uint8Array): Promise<void> => writeFile(at(name), content);
const model = (tensor: string): Uint8Array => safetensorsFile([info(tensor)]);
const artifact = (): Uint8Array =>
  artifactFrames({ tensors: [{ ...info("a"), data: pattern(16) }], chunkBytes: 65536 }).bytes;

async function tfjs(name: string): Promise<void> {
  const weights = [{ name: "t", dtype: "float32", shape: [4] }];
  await put("weights.bin", pattern(16));
  await put(name, JSON.stringify({ weightsManifest: [{ paths: ["weights.bin"], weights }] }));
}

describe("a path", () => {
  test("is known by its name, or, for JSON, by its content", async () => {
    await put("m.safetensors", model("s"));
    expect(await names(at("m.safetensors"))).toBe("model: s");
    await put("x.index.json", serializeShardIndex([["s", "m.safetensors"]], {}));
    expect(await names(at("x.index.json"))).toBe("model: s");
    await put("a.twire", artifact());
    expect(await names(at("a.twire"))).toBe("encoded: a");
    await tfjs("any.json");
    expect(await names(at("any.json"))).toBe("model: t");
    await put("plain.json", '{"some":{"weightsManifest":1}}');
    expect(await names(at("plain.json"))).toBe("raw: plain.json");
    await put("not.json", Uint8Array.of(0xff));
    expect(await names(at("not.json"))).toBe("raw: not.json");
    await put("file.bin", "text");
    expect(await names(at("file.bin"))).toBe("raw: file.bin");
    await put("torn.json", '{"weightsManifest":[');
    await expect(names(at("torn.json"))).rejects.toMatchObject({ code: "SOURCE_INVALID" });
  });

  test("that is not there is named", async () => {
    await expect(opened(at("x.safetensors"))).rejects.toMatchObject({
      code: "SOURCE_READ",
      message: `"${at("x.safetensors")}" cannot be opened: there is no such file (ENOENT)`,
    });
  });
});

describe("a directory", () => {
  test("gives its index, else model.safetensors, else its only safetensors file, else model.json", async () => {
    await mkdir(at("sub.safetensors"));
    folder = at("sub.safetensors");
    await tfjs("model.json");
    expect(await names(folder)).toBe("model: t");
    await put("only.safetensors", model("only"));
    expect(await names(folder)).toBe("model: only");
    await put("model.safetensors", model("m"));
    expect(await names(folder)).toBe("model: m");
    await put("model.safetensors.index.json", serializeShardIndex([["only", "only.safetensors"]], {}));
    expect(await names(folder)).toBe("model: only");
    folder = join(folder, "..");
  });

  test("without a model says what was looked for", async () => {
    await put("readme.md", "");
    const nothing = `directory "${folder}" holds no model: looked for model.safetensors.index.json, model.safetensors, one *.safetensors, model.json; name the file`;
    await expect(opened(folder)).rejects.toMatchObject({ code: "SOURCE_INVALID", message: nothing });
    await put("b.safetensors", "");
    await put("a.safetensors", "");
    await expect(opened(folder)).rejects.toMatchObject({
      code: "SOURCE_INVALID",
      message: expect.stringMatching(
        /it has 2 \*\.safetensors and no index: name one of them, "a.safetensors"/,
      ),
    });
  });
});

describe("a value", () => {
  const value = { dtype: "F32", shape: [4], data: pattern(16) } as const;

  test("of tensors or a source is taken as it is", async () => {
    const sources = [new Map([["a", value]]), { a: value }, Object.assign(Object.create(null), { a: value })];
    for (const source of sources) {
      const found = (await opened(source)) as ModelSource;
      expect((await found.open()).tensors).toEqual([info("a")]);
      await found.close();
    }
    const declared = fromTensors([], []);
    expect(await opened(declared)).toBe(declared);
    const encoded = artifactSource("x.twire");
    expect(await opened(encoded)).toBe(encoded);
  });

  test.each<[string, unknown]>([
    ["array", [{ name: "w", ...value }]],
    ["set", new Set([value])],
    ["generator", (function* () {})()],
    ["async generator", (async function* () {})()],
    ["stream", Readable.from([])],
    ["object with an iterator", { *[Symbol.iterator]() {} }],
  ])("that is an %s is refused with the advice to declare its tensors", async (_, source) => {
    await expect(opened(source)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("fromTensors(infos, iterable)"),
    });
  });

  test.each<[string, unknown]>([
    ["undefined", undefined],
    ["null", null],
    ["number", 1],
    ["function", () => {}],
    ["class URL", new URL("file:///m.safetensors")],
    ["class Uint8Array", new Uint8Array(3)],
    ["class Promise", Promise.resolve({})],
  ])("that is %s is none", async (name, source) => {
    await expect(opened(source)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining(`${name} is no source`),
    });
  });
});

describe("an artifact with options", () => {
  beforeEach(() => put("a.twire", artifact()));

  test("is decoded for another codec, and else stays encoded", async () => {
    for (const options of [
      { codec: "none" },
      { policy: [] as const },
      { codec: "none", chunkBytes: 65536 },
    ]) {
      const found = await opened(at("a.twire"), options);
      expect(isDecodedArtifact(found)).toBe(true);
      await found.open();
      expect((found as { chunkBytes?: number }).chunkBytes).toBe(65536);
      await found.close();
    }
    for (const options of [{}, { chunkBytes: 65536 }]) {
      const found = await opened(at("a.twire"), options);
      expect(isEncodedSource(found)).toBe(true);
      expect(isDecodedArtifact(found)).toBe(false);
      await found.open();
      await found.close();
    }
  });

  test.each([{ chunkBytes: 32768 }, { codec: "float16", chunkBytes: 32768 }])(
    "keeps its chunk size: %o",
    async (options) => {
      for (const source of [at("a.twire"), artifactSource(at("a.twire"))]) {
        const found = await opened(source, options);
        await expect(found.open()).rejects.toMatchObject({
          code: "INVALID_ARGUMENT",
          message: expect.stringContaining("chunks of 65536 bytes"),
        });
        await found.close();
      }
    },
  );

  test("limits, registry and backend reach it", async () => {
    const found = await openSource(
      at("a.twire"),
      {},
      { ...settings, limits: resolveLimits({ maxChunkBytes: 1 }) },
    );
    await expect(found.open()).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    await found.close();
    let hashed = 0;
    const backend = Object.assign(new PortableBackend(), {
      hash: async () => {
        hashed++;
        return 0n;
      },
    });
    const source = (await openSource(at("a.twire"), {}, { ...settings, backend })) as EncodedSource;
    const { tensors, chunkBytes } = await source.open();
    const { ChunkPlan, BufferPool } = await import("@tensorwire/core");
    const reading = source.readEncoded(new ChunkPlan(tensors, chunkBytes).chunk(0), new BufferPool(1 << 20));
    await expect(reading).rejects.toMatchObject({ code: "SOURCE_INVALID" });
    expect(hashed).toBe(1);
    await source.close();
  });
});
