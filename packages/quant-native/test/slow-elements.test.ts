import { type CodecSpec, defaultCodecs } from "@tensorwire/core";
import { encodeFloats, pseudoRandom } from "@tensorwire/core/testing";
import { expect, it } from "vitest";
import { FOUND } from "../src/addon.js";
import { nativeSpec } from "../src/native-spec.js";
import { built, describeNative } from "./instruction-sets.js";

const ELEMENTS = 1 << 16;
const SPECS: readonly CodecSpec[] = [
  { name: "float16" },
  { name: "bfloat16" },
  { name: "blockwise8" },
  { name: "float4" },
  { name: "normfloat4" },
  { name: "normfloat4", nested: true },
  { name: "linear8" },
  { name: "linear3", mode: "affine" },
  { name: "linear4", rounding: "stochastic", seed: "0123456789abcdef" },
  { name: "linear4", scale: 0.01 },
];

const random = pseudoRandom(5);
const normal = () => 0.02 * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const grid = Float32Array.from({ length: ELEMENTS }, normal);
const bits = new Uint32Array(grid.buffer);
for (let i = 0; i < ELEMENTS; i++) bits[i]! &= 0xffff0000;

const ORDINARY: Record<string, (i: number) => number> = {
  "a normal distribution": normal,
  "values of bfloat16": (i) => grid[i]!,
  "whole numbers of 127ths": () => Math.round(normal() * 2000) / 127,
  "constant blocks": (i) => (i >> 12) / 64 - 0.1,
  zeros: () => 0,
  "mostly zeros": () => (random() < 0.99 ? 0 : normal()),
  "tiny weights": () => normal() * 1e-30,
  "large weights": () => normal() * 1e5,
};

describeNative("the scalar kernels' share", () => {
  const encoded = (spec: CodecSpec, isa: number, values: Float32Array): number => {
    const codec = defaultCodecs.get(spec.name);
    const native = nativeSpec(codec, codec.resolve(spec))!;
    const target = new Uint8Array(codec.payloadBytes(codec.resolve(spec), "F32", values.length));
    const source = encodeFloats("F32", values);
    const { options } = native;
    const shape = [isa, codec.id, native.block, 3, values.length] as const;
    built!.encode(...shape, source, target, undefined, options, undefined, 7n, 0);
    return built!.found[FOUND.slow]!;
  };

  it.each(SPECS)("of ordinary data is nothing: %o", (spec) => {
    for (const [label, value] of Object.entries(ORDINARY)) {
      const values = Float32Array.from({ length: ELEMENTS }, (_, i) => value(i));
      built!.isas.forEach((isa, index) => {
        expect(encoded(spec, index, values), `${isa}: ${label}`).toBe(0);
      });
    }
  });

  it("of a block with a NaN is that block", () => {
    const values = Float32Array.from({ length: ELEMENTS }, normal);
    values[5000] = Number.NaN;
    built!.isas.forEach((isa, index) => {
      const vector = isa !== "scalar";
      expect(encoded({ name: "blockwise8" }, index, values), isa).toBe(vector ? 4096 : 0);
      expect(encoded({ name: "linear8" }, index, values), isa).toBe(vector ? 256 : 0);
    });
  });
});
