import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { apply, delta, fromTensors, modelDigest, rename, tensorsSource } from "../src/index.js";
import { artifactOf, f32, floats, hasFolder, valuesOf } from "./delta-fixture.js";

hasFolder();

describe("properties", () => {
  const element = fc.float({
    noNaN: true,
    noDefaultInfinity: true,
    min: Math.fround(-1e30),
    max: Math.fround(1e30),
  });
  const model = fc.uniqueArray(
    fc.record({
      name: fc.string({ maxLength: 4 }),
      values: fc.array(element, { maxLength: 40 }),
      tall: fc.boolean(),
    }),
    {
      selector: ({ name }) => name,
      maxLength: 5,
    },
  );

  test("the digest is of the tensors, whatever file, codec, chunk size or order has them", async () => {
    await fc.assert(
      fc.asyncProperty(model, async (of) => {
        const infos = of.map(({ name, values, tall }) => ({
          name,
          ...f32(values, tall ? [values.length, 1] : undefined),
        }));
        const map = new Map(infos.map(({ name, ...value }) => [name, value]));
        const digest = await modelDigest(map);
        expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
        const turned = new Map([...map].reverse());
        const path = await artifactOf("property.twire", tensorsSource(turned, { metadata: { a: "b" } }), {
          chunkBytes: 40_960,
          codec: "lossless",
          minElements: 0,
          overwrite: true,
        });
        expect(await modelDigest(path)).toBe(digest);
        expect(await modelDigest(turned, { chunkBytes: 32_768 })).toBe(digest);
        expect(await modelDigest(fromTensors(infos, infos))).toBe(digest);
        if (infos.length === 0) return;
        const other = new Map(map).set(infos[0]!.name, f32([...infos[0]!.data, 1]));
        expect(await modelDigest(other)).not.toBe(digest);
      }),
      { numRuns: 25 },
    );
  });

  test("a delta gives the model back within two roundings, through any nesting of names", async () => {
    await fc.assert(
      fc.asyncProperty(model, fc.infiniteStream(element), async (of, drawn) => {
        const one = new Map(of.map(({ name, values }) => [name, f32(values)]));
        const two = new Map(of.map(({ name, values }) => [name, f32(values.map(() => drawn.next().value))]));
        const back = rename(
          apply(
            two,
            rename(
              rename(delta(one, two), (name) => `x${name}`),
              (name) => name.slice(1),
            ),
          ),
          {},
        );
        const values = of.length ? await valuesOf(back) : new Map<string, Uint8Array>();
        for (const [name, { data }] of one) {
          floats(values.get(name)!).forEach((value, i) => {
            const y = two.get(name)!.data[i]!;
            const bound = 2 ** -24 * (Math.abs(data[i]! - y) + Math.abs(value));
            expect(Math.abs(value - data[i]!)).toBeLessThanOrEqual(bound);
          });
        }
      }),
      { numRuns: 40 },
    );
  });
});
