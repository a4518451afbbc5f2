import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  artifactSource,
  type ProgressEvent,
  receiveModel,
  streamModel,
  transferModel,
} from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { failure, folder, listing } from "./sink-fixture.js";
import { CHUNK, model, small, sourceOf, weights } from "./transfer-model-fixture.js";

checksLoans();

describe("a transfer within the process", () => {
  test("packs, packs anew with another codec, and unpacks, with one summary and one progress", async () => {
    const at = folder();
    const events: ProgressEvent[] = [];
    const onProgress = (event: ProgressEvent): void => void events.push(event);
    const packed = await transferModel(model, join(at, "m.twire"), {
      ...small,
      codec: "blockwise8",
      onProgress,
    });
    expect(packed).toMatchObject({
      ...{ tensors: 2, chunks: 41, sourceBytes: weights.byteLength + 20, confirmed: true, retries: 0 },
      codecs: { blockwise8: { tensors: 1 }, none: { tensors: 1 } },
    });
    expect(events.filter(({ phase }) => phase === "done")).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ phase: "done", durableBytes: packed.sourceBytes, tensors: 2 });
    const again = await transferModel(join(at, "m.twire"), join(at, "n.twire"), {
      ...small,
      codec: "linear4",
    });
    expect(again.codecs).toMatchObject({ linear4: { tensors: 1 } });
    const copied = await transferModel(join(at, "m.twire"), join(at, "copy.twire"), small);
    expect(copied.digest).toBe(packed.digest);
    expect(readFileSync(join(at, "copy.twire")).equals(readFileSync(join(at, "m.twire")))).toBe(true);
    const exact = await transferModel(model, join(at, "exact.twire"), small);
    const unpacked = await transferModel(join(at, "exact.twire"), join(at, "m.safetensors"), small);
    expect(unpacked.digest).toBe(exact.digest);
    const data = readFileSync(join(at, "m.safetensors"));
    expect(data.subarray(-weights.byteLength - 20).includes(Buffer.from(weights.buffer))).toBe(true);
    expect(listing(at)).toEqual(["copy.twire", "exact.twire", "m.safetensors", "m.twire", "n.twire"]);
  });

  test("is what sending to the path of an artifact is", async () => {
    const at = folder();
    const options = { ...small, codec: "normfloat4" } as const;
    const [sent, moved] = [
      await streamModel(model, join(at, "sent.twire"), options),
      await transferModel(model, join(at, "moved.twire"), options),
    ];
    expect([sent.digest, sent.confirmed]).toEqual([moved.digest, true]);
    expect(readFileSync(join(at, "sent.twire")).equals(readFileSync(join(at, "moved.twire")))).toBe(true);
    for (const peers of [{ retry: true }, { dial: { token: "secret-token" } }]) {
      const error = await failure(streamModel(model, join(at, "x.twire"), { ...small, ...peers }));
      expect(error.code).toBe("INVALID_ARGUMENT");
    }
    expect(listing(at)).toEqual(["moved.twire", "sent.twire"]);
  });

  test("counts what a codec declined, which only the end that encodes knows", async () => {
    const declines = {
      w: { dtype: "F32", shape: [8192], data: new Float32Array(8192).fill(1e-30) },
    } as const;
    const [a, b] = [folder(), folder()];
    const alone = await transferModel(declines, join(a, "m.twire"), { codec: "adaquant", ...small });
    const source = artifactSource(join(a, "m.twire"));
    expect((await transferModel(source, join(b, "m.twire"), small)).declinedChunks).toBe(0);
    expect(alone.declinedChunks).toBe(alone.fallbackChunks);
  });
});

describe("after an interruption", () => {
  test("the same call goes on, into the same file", async () => {
    const at = folder();
    const path = join(at, "m.twire");
    await transferModel(
      sourceOf(60, () => {}, { version: "one" }),
      join(at, "undisturbed.twire"),
      small,
    );
    for (const until of [15, 40]) {
      const controller = new AbortController();
      const source = sourceOf(
        60,
        ({ ordinal }) => {
          if (ordinal === until) controller.abort();
        },
        { version: "one" },
      );
      await failure(transferModel(source, path, { ...small, signal: controller.signal }));
      expect(listing(at)).toEqual(["m.twire.part", "m.twire.part.journal", "undisturbed.twire"]);
    }
    const read: number[] = [];
    const source = sourceOf(60, ({ ordinal }) => void read.push(ordinal), { version: "one" });
    const summary = await transferModel(source, path, small);
    expect(summary.resumedBytes).toBeGreaterThan(0);
    expect(read).toEqual(Array.from({ length: read.length }, (_, i) => 60 - read.length + i));
    expect(summary.resumedBytes).toBe((60 - read.length) * CHUNK);
    expect(readFileSync(path).equals(readFileSync(join(at, "undisturbed.twire")))).toBe(true);
    expect(listing(at)).toEqual(["m.twire", "undisturbed.twire"]);
  });

  test("resume: false leaves nothing", async () => {
    const at = folder();
    const controller = new AbortController();
    const source = sourceOf(60, ({ ordinal }) => {
      if (ordinal === 40) controller.abort();
    });
    await failure(
      transferModel(source, join(at, "m.twire"), { ...small, resume: false, signal: controller.signal }),
    );
    expect(listing(at)).toEqual([]);
  });
});

test("an artifact of a function's choice; iterating over one that is received as before", async () => {
  const at = folder();
  await transferModel(model, ({ tensors }) => join(at, `${tensors.length}.twire`), small);
  const names: string[] = [];
  for await (const { name } of receiveModel(join(at, "2.twire"), small)) names.push(name);
  expect(names).toEqual(["weights", "ids"]);
});
