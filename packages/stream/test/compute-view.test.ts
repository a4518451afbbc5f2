import { ChunkPlan } from "@tensorwire/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mappedRuns } from "../src/compute/chunk-runs.js";
import { rename, select } from "../src/index.js";
import type { EncodedSource, ModelSource } from "../src/source/source.js";
import { received } from "./view-fixture.js";

describe("properties of views", () => {
  const infos = fc.uniqueArray(
    fc.record({
      name: fc.string({ minLength: 1, maxLength: 8 }),
      length: fc.nat({ max: 20_000 }),
    }),
    { selector: ({ name }) => name, minLength: 1, maxLength: 8 },
  );
  const modelOf = (of: readonly { name: string; length: number }[]) =>
    new Map(
      of.map(({ name, length }, t) => {
        const data = Float32Array.from({ length }, (_, i) => i + t / 8);
        return [name, { dtype: "F32" as const, shape: [length], data }];
      }),
    );
  const read = async (source: ModelSource | EncodedSource) =>
    new Map(
      (await received(source, { chunkBytes: 32_768 })).map(({ name, data }) => [
        name,
        Buffer.from(data).toString("hex"),
      ]),
    );

  test("what renames back gives the model that was renamed", async () => {
    await fc.assert(
      fc.asyncProperty(infos, fc.string({ minLength: 1, maxLength: 3 }), async (of, prefix) => {
        const there = rename(modelOf(of), (name) => prefix + name);
        const back = rename(there as ModelSource, (name) => name.slice(prefix.length));
        expect(await read(back)).toEqual(await read(rename(modelOf(of), {})));
      }),
      { numRuns: 20 },
    );
  });

  test("two selections that leave nothing out have all of it between them, each tensor as it is", async () => {
    await fc.assert(
      fc.asyncProperty(infos, fc.nat(), async (of, cut) => {
        const model = modelOf(of);
        const renamed = [...model].map(
          ([, value], i) => [`${i < cut % (of.length + 1) ? "a" : "b"}.${i}`, value] as const,
        );
        const whole = new Map(renamed);
        const parts = await Promise.all(
          ["a.*", "b.*"].map((pattern) =>
            renamed.some(([name]) => name.startsWith(pattern[0]!))
              ? read(select(whole, [pattern]))
              : new Map(),
          ),
        );
        expect(new Map(parts.flatMap((part) => [...part]))).toEqual(await read(select(whole, ["*"])));
      }),
      { numRuns: 20 },
    );
  });

  test("runs are mapped chunk by chunk", () => {
    fc.assert(
      fc.property(
        infos,
        fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
        fc.infiniteStream(fc.boolean()),
        (of, kept, drawn) => {
          const all = of.map(({ name, length }) => ({ name, dtype: "F32" as const, shape: [length] }));
          const places = all.map((_, i) => i).filter((i) => kept[i]);
          const to = new ChunkPlan(all, 32_768);
          const from = new ChunkPlan(
            places.map((i) => all[i]!),
            32_768,
          );
          const wanted = Array.from({ length: from.chunks }, () => drawn.next().value);
          const runs = wanted.flatMap((is, first) => (is ? [{ first, count: 1 }] : []));
          const expected = [...from.walk(runs)].map(
            ({ tensor, index }) => to.range(places[tensor]!).first + index,
          );
          const got = [...to.walk(mappedRuns(runs, from, to, places))].map(({ ordinal }) => ordinal);
          expect(got).toEqual(expected);
        },
      ),
    );
  });
});
