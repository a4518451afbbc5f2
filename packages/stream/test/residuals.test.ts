import { readdir, readFile, writeFile } from "node:fs/promises";
import {
  ChunkPlan,
  defaultCodecs,
  encodeHeld,
  encodeWant,
  FLAG_TO_SENDER,
  FrameType,
  type Manifest,
  PortableBackend,
  resolveLimits,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import {
  memoryChannelPair,
  receiveModel,
  safetensorsSource,
  streamModel,
  type TensorMap,
  tensorsSource,
} from "../src/index.js";
import { ErrorFeedback } from "../src/residuals/error-feedback.js";
import { ResidualFile } from "../src/residuals/residual-file.js";
import { ChunkEncoder } from "../src/session/chunk-encoder.js";
import { OutgoingPools } from "../src/session/outgoing-pools.js";
import { TransferLife } from "../src/session/transfer.js";
import { checksLoans } from "./loans-fixture.js";
import { at, folder, N, over, residualsOf, tensor, update, valuesOf } from "./residuals-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";
import { readWhole } from "./source-reading.js";

checksLoans();

const distance = (a: Float64Array, b: Float64Array): number =>
  Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0));

describe.each([
  ["F32", "normfloat4"],
  ["BF16", "linear2"],
  ["F16", "blockwise8"],
  ["F64", "linear4"],
] as const)("%s as %s", (dtype, codec) => {
  test("what was sent adds up to what was meant, where without feedback it drifts", async () => {
    const rounds = 12;
    const [meant, fed, plain] = [0, 0, 0].map(() => new Float64Array(N)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    const errors: [number, number][] = [];
    const add = (sum: Float64Array, values: Float64Array): void =>
      values.forEach((value, i) => void (sum[i]! += value));
    for (let round = 0; round < rounds; round++) {
      const w = tensor(dtype, update(round));
      add(meant, valuesOf(w));
      add(fed, await over({ w }, { codec, residuals: at("r") }));
      add(plain, await over({ w }, { codec }));
      errors.push([distance(fed, meant), distance(plain, meant)]);
    }
    // Bounded: what is missing is what the last payload left out, and that is in the file.
    const residuals = await residualsOf(at("r"));
    expect(
      distance(
        fed.map((value, i) => value + residuals[i]!),
        meant,
      ),
    ).toBeLessThan(1e-3 * errors[0]![1]);
    expect(Math.max(...errors.map(([fed]) => fed))).toBeLessThan(2.5 * errors[0]![1]);
    expect(errors.at(-1)![1]).toBeGreaterThan(4 * errors.at(-1)![0]);
    expect(await readdir(folder)).toEqual(["r"]);
  });
});

test("the file has the float tensors with a lossy codec, and what its first payload left out", async () => {
  const model: TensorMap = {
    w: tensor("F32", update(1)),
    small: tensor("F32", update(1).slice(0, 4095)),
    ids: { dtype: "I64", shape: [5000], data: new BigInt64Array(5000) },
    empty: { dtype: "F32", shape: [0], data: new Float32Array() },
  };
  const got = await over(model, { codec: "blockwise8", residuals: at("r"), compress: "auto" });
  const { info } = await readWhole(safetensorsSource(at("r")));
  expect(info.tensors).toEqual([{ name: "w", dtype: "F32", shape: [N] }]);
  expect([...info.metadata.keys()]).toEqual(["tensorwire.codec_plan"]);
  const left = Float64Array.from(update(1), (value, i) => Math.fround(value - got[i]!));
  expect(await residualsOf(at("r"))).toEqual(left);
});

test("a chunk that its codec cannot carry leaves nothing, and takes its residuals along", async () => {
  const options = { codec: "blockwise8", residuals: at("r") } as const;
  const first = await over({ w: tensor("F32", update(1)) }, options);
  const data = update(2);
  data[9000] = Number.NaN;
  const second = await over({ w: tensor("F32", data) }, options);
  const residuals = await residualsOf(at("r"));
  // The second of the chunks of 8192.
  expect(residuals.subarray(8192, 16_384).every((value) => value === 0)).toBe(true);
  expect(residuals.subarray(0, 8192).filter((value) => value !== 0).length).toBeGreaterThan(7000);
  for (const i of [8192, 8999, 9001, 16_383]) {
    expect(second[i]).toBe(Math.fround(data[i]! + Math.fround(update(1)[i]! - first[i]!)));
  }
  expect(Number.isNaN(second[9000])).toBe(true);
});

test("an artifact's residuals are replaced when it is complete, and a seed is no part of the plan", async () => {
  const w = tensor("F32", update(1));
  const options = {
    codec: { name: "linear4", rounding: "stochastic" },
    residuals: at("r"),
    overwrite: true,
  } as const;
  await streamModel({ w }, at("m.twire"), options);
  const first = await readFile(at("r"));
  const summary = await streamModel({ w }, at("m.twire"), options);
  expect(summary.confirmed).toBe(true);
  expect((await readFile(at("r"))).equals(first)).toBe(false);
  expect((await readdir(folder)).sort()).toEqual(["m.twire", "r"]);
});

test("what was left of a transfer that died is taken over; one that goes on is waited for by its user", async () => {
  await writeFile(at("r.next"), "half of it");
  await streamModel({ w: tensor("F32", update(1)) }, at("m.twire"), {
    codec: "blockwise8",
    residuals: at("r"),
  });
  expect((await readdir(folder)).sort()).toEqual(["m.twire", "r"]);

  const [out, back] = memoryChannelPair();
  const going = streamModel({ w: tensor("F32", update(1)) }, out, {
    codec: "blockwise8",
    residuals: at("r"),
  });
  const receiving = receiveModel(back);
  await receiving.manifest;
  const other = { codec: "blockwise8", residuals: at("r"), overwrite: true } as const;
  await expect(streamModel({ w: tensor("F32", update(1)) }, at("m.twire"), other)).rejects.toMatchObject({
    code: "TARGET_BUSY",
  });
  for await (const _ of receiving);
  await going;
});

test("what is encoded already has no residuals, and a file of something else is left alone", async () => {
  const model: TensorMap = { w: tensor("F32", new Float32Array(1 << 19).fill(0.1)) };
  await streamModel(model, at("m.twire"), { codec: "blockwise8" });
  await expect(streamModel(at("m.twire"), at("n.twire"), { residuals: at("r") })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining("encoded already"),
  });
  // With a codec it is decoded, and encoded anew.
  await streamModel(at("m.twire"), at("n.twire"), { codec: "normfloat4", residuals: at("r") });
  await receiveModel(at("m.twire"), { to: at("m.safetensors") }).done;
  const before = await readFile(at("m.safetensors"));
  for (const [wrong, code] of [
    ["m.safetensors", "SOURCE_INVALID"],
    ["m.twire", "INVALID_ARGUMENT"],
    // Where the artifact goes: whichever of the two came last would be left.
    ["o.twire", "INVALID_ARGUMENT"],
  ] as const) {
    await expect(
      streamModel(model, at("o.twire"), { codec: "blockwise8", residuals: at(wrong) }),
    ).rejects.toMatchObject({ code });
  }
  expect((await readFile(at("m.safetensors"))).equals(before)).toBe(true);
  expect(await readdir(folder)).not.toContain("o.twire");
});

test("chunks that the peer has leave what they would have left", async () => {
  const w = tensor("F32", update(1));
  await over({ w }, { codec: "linear3", residuals: at("r") });
  const registry = defaultCodecs;
  const codec = registry.resolve("linear3");
  const manifest: Manifest = {
    kind: "model",
    tensors: [{ name: "w", dtype: "F32", shape: [N], codec }],
    metadata: new Map(),
    chunkBytes: 32_768,
  };
  const plan = new ChunkPlan(manifest.tensors, manifest.chunkBytes);
  const source = tensorsSource({ w });
  await source.open();
  const life = new TransferLife(undefined);
  const backend = new PortableBackend();
  const alignment = undefined;
  const found: Float64Array[] = [];
  for (const sent of [[0, 1, 2], [1], []]) {
    const file = await ResidualFile.open(at("r"), manifest, resolveLimits());
    const feedback = new ErrorFeedback(file, { manifest, plan, backend, alignment, jobs: life.jobs });
    const terms = { compress: false, nonFinite: "exact", lossless: false } as const;
    const settings = { manifest, plan, source, registry, backend, alignment, life, feedback, ...terms };
    const pools = new OutgoingPools(manifest, plan, registry, alignment);
    const encoder = new ChunkEncoder(settings, pools);
    for (const chunk of plan.walk()) {
      if (!sent.includes(chunk.ordinal)) await encoder.remake(chunk);
      else (await encoder.encode(chunk, await encoder.read(chunk))).loan.release();
    }
    expect([pools.loans, feedback.loans]).toEqual([0, 0]);
    await file.complete();
    found.push(await residualsOf(at("r.next")));
    await file.abort();
  }
  expect(found[1]).toEqual(found[0]);
  expect(found[2]).toEqual(found[0]);
  expect(found[0]).not.toEqual(await residualsOf(at("r")));
});

test("a peer that wants one chunk of three gets one; the residuals are those of all", async () => {
  const w = tensor("F32", update(1));
  const options = { codec: "blockwise8", chunkBytes: 32_768 } as const;
  await over({ w }, { ...options, residuals: at("all") });
  const [out, back] = memoryChannelPair();
  const peer = new ScriptedPeer(back);
  const sending = streamModel({ w }, out, { ...options, residuals: at("r"), version: "one" });
  await peer.hello("receive");
  await peer.hears(FrameType.MANIFEST);
  const towards = { flags: FLAG_TO_SENDER };
  for (const first of [0, 2]) {
    const held = { first, chunks: [{ codec: 3, hash: 7n }] };
    await peer.say(FrameType.HELD, encodeHeld(held, "xxh64"), towards);
  }
  const want = { windowBytes: 65_536, ranges: [{ first: 1, count: 1 }], sameVersion: true };
  await peer.say(FrameType.WANT, encodeWant(want), towards);
  const end = await peer.hears(FrameType.END);
  // Everything is made, and nothing replaced: nobody has confirmed.
  expect((await readdir(folder)).sort()).toEqual(["all", "r.next", "r.next.lock"]);
  await peer.say(FrameType.RECEIPT, end!, towards);
  expect((await sending).confirmed).toBe(true);
  expect(peer.chunks.map(({ record }) => record.firstElement)).toEqual([8192]);
  expect(await residualsOf(at("r"))).toEqual(await residualsOf(at("all")));
  await Promise.all([out.close(), back.close()]);
});
