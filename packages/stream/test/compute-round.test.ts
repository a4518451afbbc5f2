import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  aggregate,
  apply,
  artifactSource,
  cast,
  delta,
  listen,
  modelDigest,
  receiveModel,
  rename,
  type SourceLike,
  select,
  streamModel,
} from "../src/index.js";
import type { ModelSource } from "../src/source/source.js";
import { artifactOf, base, f32, floats, folder, hasFolder, trained, valuesOf } from "./delta-fixture.js";

hasFolder();

describe("a round", () => {
  // The server publishes at 4 bits. Its clients' base is what came of that, and not the server's own model.
  test("over sockets: the delta is of what both can decode, and comes back at 4 bits", async () => {
    const published = await artifactOf("round-7.twire", base, { codec: "normfloat4", chunkBytes: 65_536 });
    const received = join(folder, "round-7.safetensors");
    await send(artifactSource(published), { to: received });
    expect(await modelDigest(received)).toBe(await modelDigest(published));
    expect(await modelDigest(received)).not.toBe(await modelDigest(base));
    const update = join(folder, "update.twire");
    await send(delta(trained, received), { to: update }, { codec: "normfloat4", chunkBytes: 65_536 });
    // The server's own model is another base than the client had.
    const wrong = apply(base, update);
    await expect(wrong.open()).rejects.toMatchObject({ code: "BASE_MISMATCH" });
    await wrong.close();
    const next = join(folder, "round-8.safetensors");
    await send(apply(published, update), { to: next });
    const [got, want] = [floats((await valuesOf(next)).get("w")!), trained.w.data];
    const worst = got.reduce((most, value, i) => Math.max(most, Math.abs(value - want[i]!)), 0);
    const wholeAt4Bits = floats((await valuesOf(published)).get("w")!).reduce(
      (most, value, i) => Math.max(most, Math.abs(value - base.w.data[i]!)),
      0,
    );
    // What 4 bits leave out of a small step is small.
    expect(worst).toBeLessThan(wholeAt4Bits / 2);
    expect(Buffer.compare((await valuesOf(next)).get("ids")!, Buffer.from(trained.ids.data.buffer))).toBe(0);
  });

  test("nests: an applied delta of views of casts", async () => {
    const wide = cast(
      rename(base, (name) => `m.${name}`),
      "F64",
    );
    const narrow = cast(
      rename(trained, (name) => `m.${name}`),
      "F64",
    );
    const both = apply(
      wide,
      delta(
        narrow,
        cast(
          rename(base, (name) => `m.${name}`),
          "F64",
        ),
      ),
    );
    const values = await valuesOf(select(both, ["m.w"]));
    expect(Float32Array.from(new Float64Array(values.get("m.w")!.slice().buffer))).toEqual(trained.w.data);
  });

  test("of several clients: the mean of their deltas is a delta of the same base", async () => {
    const published = await artifactOf("r1.twire", base, { codec: "blockwise8", chunkBytes: 65_536 });
    const trainedBy = (step: number) => ({
      ...base,
      w: f32(base.w.data.map((x, i) => x + (step * (i % 17)) / 4096)),
    });
    const steps = { ada: 1, bob: 3 };
    const updates = await Promise.all(
      Object.entries(steps).map(async ([id, step]) => {
        const source = delta(trainedBy(step), published);
        return [
          id,
          await artifactOf(`${id}.twire`, source, { codec: "linear8", chunkBytes: 65_536 }),
        ] as const;
      }),
    );
    const mean = (): ModelSource => aggregate(Object.fromEntries(updates));
    const next = floats((await valuesOf(apply(published, mean()))).get("w")!);
    const worst = next.reduce(
      (most, x, i) => Math.max(most, Math.abs(x - base.w.data[i]! - (2 * (i % 17)) / 4096)),
      0,
    );
    expect(worst).toBeLessThan(2e-4);
    // One with another base is not averaged with them, and nobody takes its mean for a delta.
    const other = await artifactOf("eve.twire", delta(trainedBy(2), base), {
      codec: "linear8",
      chunkBytes: 65_536,
    });
    const mixed = apply(published, aggregate({ ...Object.fromEntries(updates), eve: other }));
    await expect(mixed.open()).rejects.toMatchObject({ code: "BASE_MISMATCH" });
    await mixed.close();
    // The whole way in one call: what has changed since the last model, of all clients, to whoever has that.
    const down = join(folder, "down.twire");
    const news = delta(apply(published, mean()), published);
    await send(news, { to: down }, { codec: "linear8" });
    const again = floats((await valuesOf(apply(published, down))).get("w")!);
    expect(again.reduce((most, x, i) => Math.max(most, Math.abs(x - next[i]!)), 0)).toBeLessThan(2e-4);
  });

  async function send(source: SourceLike, receiving: { to: string }, sending: object = {}): Promise<void> {
    const listener = await listen();
    try {
      const done = receiveModel(listener, receiving).done;
      const [sent] = await Promise.all([streamModel(source, listener.url, sending), done]);
      expect(sent.confirmed).toBe(true);
    } finally {
      await listener.close();
    }
  }
});
