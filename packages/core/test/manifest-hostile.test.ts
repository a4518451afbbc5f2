import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeManifest, type Manifest } from "../src/index.js";
import { bare, bytesOf, errorOf, type Json, parse, written } from "./manifest-fixture.js";
import { sample } from "./manifest-samples.js";

describe("a manifest that anybody may have written", () => {
  /** Every place in a JSON value, as the keys that lead there. */
  function* places(json: Json, path: (string | number)[] = []): Generator<(string | number)[]> {
    yield path;
    if (typeof json !== "object" || json === null) return;
    for (const [key, value] of Object.entries(json)) yield* places(value, [...path, key]);
  }

  const at = (json: Json, path: readonly (string | number)[]): Json =>
    path.reduce((value, key) => value[key], json);

  function replaced(json: Json, path: readonly (string | number)[], value: Json): Json {
    if (path.length === 0) return value;
    at(json, path.slice(0, -1))[path.at(-1)!] = value;
    return json;
  }

  const kindOf = (json: Json): string =>
    json === null ? "null" : Array.isArray(json) ? "array" : typeof json;
  const VALUES: readonly Json[] = [
    null,
    true,
    0,
    -1,
    1.5,
    1e300,
    "",
    "x",
    [],
    [[]],
    {},
    { a: 1 },
    [0, "a", null],
  ];

  it.each([
    ["with a header", written],
    ["without", bare],
  ])("is refused with a wrong type in any place (%s)", (_what, make) => {
    let refused = 0;
    for (const path of places(make())) {
      for (const value of VALUES) {
        if (kindOf(value) === kindOf(at(make(), path))) continue;
        const error = errorOf(() => parse(bytesOf(replaced(make(), path, value))));
        expect(error, `${JSON.stringify(value)} at ${path.join(".")}`).toBeDefined();
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(400);
  });

  it("is refused, or read as what it says, with any value in any place", () => {
    const paths = [...places(written())];
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.array(fc.tuple(fc.nat(), fc.jsonValue({ maxDepth: 3 })), { minLength: 1, maxLength: 3 }),
        (withHeader, changes) => {
          let json = withHeader ? written() : bare();
          for (const [index, value] of changes) {
            const path = paths[index % paths.length]!;
            try {
              json = replaced(json, path, value);
            } catch {
              // An earlier change took the place away.
            }
          }
          check(bytesOf(json));
        },
      ),
      { numRuns: 500 },
    );
  });

  it("is refused, or read as what it says, with any bytes in any place", () => {
    const bytes = encodeManifest(sample());
    fc.assert(
      fc.property(
        fc.nat(bytes.length),
        fc.nat(4),
        fc.oneof(
          fc.uint8Array({ maxLength: 4 }),
          fc.string({ maxLength: 6 }).map((text) => Buffer.from(text)),
        ),
        (from, removed, added) => {
          check(Buffer.concat([bytes.subarray(0, from), added, bytes.subarray(from + removed)]));
        },
      ),
      { numRuns: 1000 },
    );
  });

  it("is refused where it ends anywhere too soon", () => {
    const bytes = encodeManifest(sample());
    for (let end = 0; end < bytes.length; end++) {
      expect(errorOf(() => parse(bytes.subarray(0, end)))?.code).toBe("MANIFEST_INVALID");
    }
  });

  /** Refused with one of the three codes, or a manifest that comes back as it is written again. */
  function check(bytes: Uint8Array): void {
    let parsed: Manifest | undefined;
    const error = errorOf(() => {
      parsed = parse(bytes).manifest;
    });
    if (error) expect(error.message.length).toBeLessThan(2000);
    else expect(parse(encodeManifest(parsed!)).manifest).toEqual(parsed);
  }
});
