import { describe, expect, it } from "vitest";
import {
  type Codec,
  type CodecSpec,
  DYNAMIC8,
  DYNAMIC8_MIDPOINTS,
  defaultCodecs,
  FP4,
  FP4_CODES,
  FP4_THRESHOLDS,
  NF4,
  NF4_THRESHOLDS,
  xxh64,
} from "../src/index.js";
import { pseudoRandom } from "../src/testing/index.js";
import { fenced, hex, hexOf, page, rows, section } from "./pages.js";

const codecs = page("codecs.md");
const names = defaultCodecs.names();
const linear = names.filter((name) => /^linear\d$/.test(name));

function bits(values: readonly number[]): string[] {
  const words = new Uint32Array(Float32Array.from(values).buffer);
  return [...words].map((word) => word.toString(16).padStart(8, "0"));
}

/** A spec as the command and this page write it: `linear4:mode=affine,block=64`. */
function specOf(text: string): CodecSpec {
  const [name, parameters] = text.split(":") as [string, string | undefined];
  const entries = (parameters?.split(",") ?? []).map((entry): [string, unknown] => {
    const [key, value] = entry.split("=") as [string, string];
    if (value === "true") return [key, true];
    return [key, ["block", "scale", "weight"].includes(key) ? Number(value) : value];
  });
  return defaultCodecs.resolve({ name, ...Object.fromEntries(entries) });
}

/** The payload of a chunk at the beginning of a tensor named `w`. */
function payloadOf(codec: Codec, spec: CodecSpec, values: Float32Array): Uint8Array {
  const payload = new Uint8Array(codec.payloadBytes(spec, "F32", values.length));
  const source = new Uint8Array(values.buffer);
  const at = { tensor: xxh64(new TextEncoder().encode("w")), first: 0 };
  return payload.subarray(0, codec.encode(spec, "F32", values.length, source, payload, at).bytes);
}

function roundTrip(spec: CodecSpec, values: Float32Array): { bytes: number; back: Float32Array } {
  const codec = defaultCodecs.get(spec.name);
  const payload = payloadOf(codec, spec, values);
  const back = new Float32Array(values.length);
  codec.decode(spec, "F32", values.length, payload, "F32", new Uint8Array(back.buffer));
  return { bytes: payload.length, back };
}

describe("docs/codecs.md: which codec to take", () => {
  const table = rows(section(codecs, "## Which codec to take"));

  /** Blocks of 32 with a 1 in front of values from −1 to 1. */
  const sweep = Float32Array.from({ length: 32 * 500 }, (_, i) =>
    i % 32 === 0 ? 1 : -1 + (2 * (i - Math.floor(i / 32) - 1)) / (31 * 500 - 1),
  );
  const random = pseudoRandom(1);
  const normal = Float32Array.from({ length: 2 ** 20 }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    return 0.02 * radius * Math.cos(2 * Math.PI * random());
  });

  it("has every codec", () => {
    expect(new Set(table.map(([spec]) => spec!.split(":")[0]))).toEqual(new Set(names));
  });

  it.each(table)("%s: %s bits, off by at most %s, by %s on normal weights", (text, cost, worst, usual) => {
    const spec = specOf(text!);
    const { bytes, back } = roundTrip(spec, normal);
    expect(Math.abs((8 * bytes) / normal.length - Number(cost))).toBeLessThan(0.01);
    let off = 0;
    let all = 0;
    normal.forEach((value, i) => {
      off += (back[i]! - value) ** 2;
      all += value ** 2;
    });
    const relative = 100 * Math.sqrt(off / all);
    if (usual === "0") expect(relative).toBe(0);
    else expect(Math.abs(relative / Number.parseFloat(usual!) - 1)).toBeLessThan(0.02);
    // adaquant's bound is of a chunk, and a formula.
    if (text === "adaquant") return;
    const block = spec.block === undefined ? {} : { block: spec.name === "blockwise8" ? 64 : 32 };
    const swept = roundTrip({ ...spec, ...block }, sweep).back;
    const ofValue = worst!.endsWith("of the value");
    const found = sweep.reduce((largest, value, i) => {
      const error = Math.abs(swept[i]! - value) / (ofValue ? Math.abs(value) : 1);
      return Math.max(largest, error);
    }, 0);
    expect(100 * found).toBeLessThanOrEqual(Number.parseFloat(worst!));
    // And no bound that is not reached: but for scales that all lie far from their mean, which here they do not.
    if (!spec.nested) expect(100 * found).toBeGreaterThanOrEqual(0.98 * Number.parseFloat(worst!));
  });
});

describe("docs/codecs.md: parameters", () => {
  const table = rows(section(codecs, "## Parameters")).filter(([, parameter]) => parameter !== "none");
  const listed = (cell: string) => cell.replaceAll("`", "").split(", ");
  const namesOf = (cell: string) => listed(cell).flatMap((name) => (name === "linearN" ? linear : [name]));

  it("has every parameter that a codec takes, and no other", () => {
    const documented = new Map<string, string[]>(names.map((name) => [name, []]));
    for (const [cell, parameter] of table) {
      for (const name of namesOf(cell!)) documented.get(name)!.push(parameter!);
    }
    for (const [name, parameters] of documented) {
      const unknown = { name, surprise: 1 } as unknown as CodecSpec;
      const takes = parameters.length === 0 ? "no parameters" : parameters.join(", ");
      expect(() => defaultCodecs.resolve(unknown)).toThrow(`it takes ${takes}`);
    }
  });

  it("has their values and defaults", () => {
    for (const [cell, parameter, values, byDefault] of table) {
      for (const name of namesOf(cell!)) {
        const resolve = (value: unknown) =>
          defaultCodecs.resolve({ name, [parameter!]: value } as unknown as CodecSpec);
        const resolved = String(defaultCodecs.resolve(name)[parameter as keyof CodecSpec]);
        if (["seed", "scale"].includes(parameter!) || byDefault === "false")
          expect(resolved).toBe("undefined");
        else expect(resolved).toBe(byDefault);
        const [alternatives] = values!.split(";");
        if (parameter === "block") {
          const taken = listed(alternatives!).map(Number);
          for (let block = 1; block <= 8192; block++) {
            if (taken.includes(block)) expect(resolve(block)).toMatchObject({ block });
            else expect(() => resolve(block)).toThrow("takes a block of");
          }
        } else if (["mode", "rounding"].includes(parameter!)) {
          for (const value of listed(alternatives!))
            expect(resolve(value)).toMatchObject({ [parameter!]: value });
        } else if (parameter === "nested") {
          expect(listed(alternatives!)).toEqual(["true", "false"]);
          expect(resolve(true)).toMatchObject({ nested: true });
        }
      }
    }
  });
});

describe("docs/codecs.md: blocks", () => {
  it("has the tables bit for bit", () => {
    const words = (info: string) => fenced(codecs, info).trim().split(/\s+/);
    const upper = words("dynamic8");
    expect(upper).toEqual(bits(DYNAMIC8.slice(128)));
    expect(DYNAMIC8[127]).toBe(0);
    for (let k = 0; k < 127; k++) expect(DYNAMIC8[k]).toBe(-DYNAMIC8[254 - k]!);
    const midpoint = (i: number) => Math.fround(Math.fround(DYNAMIC8[i]! + DYNAMIC8[i + 1]!) * 0.5);
    expect(DYNAMIC8_MIDPOINTS).toEqual(Array.from({ length: 255 }, (_, i) => midpoint(i)));
    expect(words("nf4")).toEqual(bits(NF4));
    expect(words("nf4-thresholds")).toEqual(bits(NF4_THRESHOLDS));
    expect(words("fp4")).toEqual(bits(FP4.slice(0, 8)));
    expect(bits(FP4.slice(8))).toEqual(bits(FP4.slice(0, 8).map((value) => -value)));
    expect(words("fp4-thresholds")).toEqual(bits(FP4_THRESHOLDS));
    expect(codecs).toContain(`entry c of\n\`${FP4_CODES.join(" ")}\``);
  });

  it("has the codes of blocks whose scale has no reciprocal", () => {
    const table = rows(section(codecs, "## Blocks: `blockwise8`, `float4`, `normfloat4`"));
    expect(table.map(([name]) => name)).toEqual(["blockwise8", "float4", "normfloat4"]);
    for (const [name, above, below, zero] of table) {
      const spec = specOf(name!);
      const payload = payloadOf(defaultCodecs.get(name!), spec, Float32Array.of(1e-40, -1e-40, 0, 0));
      const codes = [...payload.subarray(4)];
      const wide = codes.length === 4 ? codes : codes.flatMap((pair) => [pair >> 4, pair & 15]);
      expect(wide).toEqual([above, below, zero, zero].map(Number));
    }
  });
});

describe("docs/codecs.md: test values", () => {
  const table = rows(section(codecs, "## Test values"));

  it("are there of every codec", () => {
    expect(new Set(table.map(([spec]) => spec!.split(":")[0]))).toEqual(new Set(names));
  });

  it.each(table)("%s of %s", (text, elements, payload) => {
    const spec = specOf(text!);
    const values = Float32Array.from(elements!.split(", ").map(Number));
    expect(hex(payloadOf(defaultCodecs.get(spec.name), spec, values))).toBe(hexOf(payload!));
  });
});
