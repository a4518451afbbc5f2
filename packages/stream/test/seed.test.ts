import {
  type ChunkPosition,
  type CodecSpec,
  defaultCodecs,
  elementCount,
  PortableBackend,
  xxh64,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { memoryChannelPair, receiveModel, type StreamOptions, streamModel } from "../src/index.js";
import { seeded } from "../src/session/seed.js";
import { checksLoans } from "./loans-fixture.js";
import { collect } from "./transfer-fixture.js";
import { filled, move } from "./packing-fixture.js";

checksLoans();

const SEED = "00000000000000ff";
const stochastic = (more: Partial<CodecSpec> = {}): CodecSpec => ({
  name: "linear4",
  rounding: "stochastic",
  ...more,
});
const model = { "layer.weight": filled("F32", [3, 8191]), other: filled("F32", [5000]) };

/** The specs that a manifest announces. */
async function announced(options: StreamOptions): Promise<CodecSpec[]> {
  const [a, b] = memoryChannelPair();
  const received = receiveModel(b);
  const [manifest] = await Promise.all([
    received.manifest,
    collect(received),
    streamModel(model, a, options),
  ]);
  return manifest.tensors.map(({ codec }) => codec);
}

describe("a transfer's seed", () => {
  test("is drawn once for all of it, anew each time, and stands in the manifest", async () => {
    const [first, second] = [
      await announced({ codec: stochastic() }),
      await announced({ codec: stochastic() }),
    ];
    expect(first[0]!.seed).toMatch(/^[0-9a-f]{16}$/);
    expect(first[1]!.seed).toBe(first[0]!.seed);
    expect(second[0]!.seed).not.toBe(first[0]!.seed);
  });

  test("is the caller's where one is given, and a codec keeps its own", async () => {
    const policy = {
      rules: [{ match: "other", codec: stochastic({ seed: "a".repeat(16) }) }],
      codec: stochastic(),
    };
    const seeds = (await announced({ policy, seed: SEED })).map(({ seed }) => seed);
    expect(seeds).toEqual([SEED, "a".repeat(16)]);
  });

  test("is nobody's who does not draw", async () => {
    for (const codec of ["linear4", "normfloat4", "none"]) {
      for (const spec of await announced({ codec, seed: SEED })) expect(spec).not.toHaveProperty("seed");
    }
  });

  test("is 16 hexadecimal digits in lower case", async () => {
    for (const seed of ["", "ff", "00000000000000FF", "0x000000000000ff", 255 as never]) {
      const [a] = memoryChannelPair();
      await expect(streamModel(model, a, { seed })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  });

  test("one object of many tensors stays one object, which the manifest writes once", () => {
    const [one, none] = [stochastic(), { name: "none" }];
    const specs = seeded([one, none, one], undefined, undefined);
    expect(specs[2]).toBe(specs[0]);
    expect(specs[1]).toBe(none);
    expect(one).not.toHaveProperty("seed");
  });
});

test("an element's rounding depends on seed, name and index, and on nothing else", async () => {
  const arrived = [];
  for (const chunkBytes of [32768, 65536, 1 << 20]) {
    for (const compress of ["auto", "never"] as const) {
      arrived.push((await move(model, { codec: stochastic(), seed: SEED, chunkBytes, compress })).got);
    }
  }
  for (const [name, { dtype, shape, data }] of Object.entries(model)) {
    const spec = defaultCodecs.resolve(stochastic({ seed: SEED }));
    const codec = defaultCodecs.get(spec.name);
    const elements = elementCount(shape);
    const payload = new Uint8Array(codec.payloadBytes(spec, dtype, elements));
    codec.encode(spec, dtype, elements, data, payload, { tensor: xxh64(Buffer.from(name)), first: 0 });
    const whole = new Uint8Array(data.length);
    codec.decode(spec, dtype, elements, payload, dtype, whole);
    for (const got of arrived) expect(Buffer.compare(got.get(name)!.data, whole), name).toBe(0);
  }
});

test("a backend is told where each chunk lies, in tensors of names beyond ASCII too", async () => {
  const seen: (ChunkPosition | undefined)[] = [];
  const watched = new PortableBackend();
  const encode = watched.encode.bind(watched);
  const backend = Object.assign(watched, {
    encode: (job: Parameters<typeof encode>[0]) => {
      seen.push(job.at);
      return encode(job);
    },
  });
  const tensors = { "größe 漢": model["layer.weight"], b: model.other };
  const [a, b] = memoryChannelPair();
  const received = receiveModel(b);
  await Promise.all([
    streamModel(tensors, a, { codec: "blockwise8", chunkBytes: 32768, backend }),
    collect(received),
  ]);
  const [first, second] = ["größe 漢", "b"].map((name) => xxh64(Buffer.from(name)));
  expect(seen).toEqual([
    { tensor: first, first: 0 },
    { tensor: first, first: 8192 },
    { tensor: first, first: 16_384 },
    { tensor: second, first: 0 },
  ]);
});
