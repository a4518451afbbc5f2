import { pseudoRandom } from "@tensorwire/core/testing";
import { afterAll, expect, it } from "vitest";
import { type GpuBuffer, MAP_READ, USAGE } from "../../src/gpu/web-gpu.js";
import { reciprocalOf } from "../../src/gpu/wgsl/exact-division.js";
import { EXACT_FLOAT } from "../../src/gpu/wgsl/exact-float.js";
import { describeGpu } from "./test-device.js";

/** What each operation gives of two floats, and what it should. Both operands of a sum are doubles: rounding twice changes nothing. */
const OPERATIONS = {
  product: (a: number, b: number) => a * b,
  sum: (a: number, b: number) => a + b,
  quotient: (a: number, b: number) => a / b,
};

const INTERESTING = [
  0, 0x80000000, 1, 0x80000001, 2, 3, 0x7fffff, 0x800000, 0x800001, 0x1000000, 0x200000, 0x200001, 0x3f800000,
  0x3f800001, 0x3f7fffff, 0xbf800000, 0x40000000, 0x33800000, 0x33800001, 0x4b000000, 0x4b000001, 0x4b7fffff,
  0x7e800000, 0x7effffff, 0x7f000000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
];

describeGpu("arithmetic by integers", (device) => {
  const buffers: GpuBuffer[] = [];
  afterAll(() => {
    for (const buffer of buffers) buffer.destroy();
  });

  const buffer = (size: number, usage: number): GpuBuffer => {
    const made = device.createBuffer({ size, usage });
    buffers.push(made);
    return made;
  };

  /** Runs `expression` of `a`, `b` and the index `i` for each pair. */
  async function run(
    pairs: Uint32Array<ArrayBuffer>,
    declarations: string,
    expression: string,
  ): Promise<Uint32Array> {
    const count = pairs.length / 2;
    const code = `${EXACT_FLOAT}
      @group(0) @binding(0) var<storage, read> pairs: array<vec2<u32>>;
      @group(0) @binding(1) var<storage, read_write> results: array<u32>;
      ${declarations}
      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        for (var i = id.x; i < ${count}u; i += ${64 * 256}u) {
          let a = pairs[i].x;
          let b = pairs[i].y;
          results[i] = ${expression};
        }
      }`;
    const input = buffer(pairs.byteLength, USAGE.STORAGE | USAGE.COPY_DST);
    const output = buffer(4 * count, USAGE.STORAGE | USAGE.COPY_SRC);
    const readback = buffer(4 * count, USAGE.MAP_READ | USAGE.COPY_DST);
    device.queue.writeBuffer(input, 0, pairs);
    const layout = device.createBindGroupLayout({
      entries: [
        { binding: 0, visibility: 4, buffer: { type: "read-only-storage" } },
        { binding: 1, visibility: 4, buffer: { type: "storage" } },
      ],
    });
    const pipeline = await device.createComputePipelineAsync({
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: device.createShaderModule({ code }), entryPoint: "main" },
    });
    const group = device.createBindGroup({
      layout,
      entries: [
        { binding: 0, resource: { buffer: input } },
        { binding: 1, resource: { buffer: output } },
      ],
    });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(256);
    pass.end();
    encoder.copyBufferToBuffer(output, 0, readback, 0, 4 * count);
    device.queue.submit([encoder.finish()]);
    await readback.mapAsync(MAP_READ, 0, 4 * count);
    return new Uint32Array(readback.getMappedRange(0, 4 * count));
  }

  /** The first pair whose result is not the nearest float; any NaN is as good as any other. */
  function firstWrong(
    pairs: Uint32Array,
    results: Uint32Array,
    operation: (a: number, b: number, i: number) => number,
  ): string | undefined {
    const floats = new Float32Array(pairs.buffer);
    const expected = new Float32Array(1);
    const bits = new Uint32Array(expected.buffer);
    for (let i = 0; i < results.length; i++) {
      expected[0] = operation(floats[2 * i]!, floats[2 * i + 1]!, i);
      if (results[i] === bits[0]) continue;
      if (Number.isNaN(expected[0]) && (results[i]! & 0x7fffffff) > 0x7f800000) continue;
      const hex = [pairs[2 * i]!, pairs[2 * i + 1]!, results[i]!, bits[0]!].map((word) => word.toString(16));
      return `pair ${i}: ${hex[0]}, ${hex[1]} gives ${hex[2]}, not ${hex[3]}`;
    }
    return undefined;
  }

  /** Every interesting float with every other one, and any others: of any size, and of sizes that are near each other. */
  function pairs(count: number): Uint32Array<ArrayBuffer> {
    const random = pseudoRandom(5);
    const word = () => (random() * 2 ** 32) >>> 0;
    const words = INTERESTING.flatMap((a) => INTERESTING.flatMap((b) => [a, b]));
    while (words.length < 2 * count) {
      const a = word();
      const near = (a & 0x7f800000) + Math.floor(random() * 54 - 27) * 0x800000;
      const exponent = Math.max(0, Math.min(0x7f000000, near));
      words.push(a, random() < 0.5 ? word() : ((word() & 0x807fffff) | exponent) >>> 0);
    }
    return Uint32Array.from(words);
  }

  for (const [name, operation] of Object.entries(OPERATIONS)) {
    it(`rounds every ${name} to the nearest`, async () => {
      const operands = pairs(400_000);
      if (name === "quotient") {
        // Divisors are counts and whole numbers of levels: above zero and finite.
        for (let i = 1; i < operands.length; i += 2) {
          const magnitude = operands[i]! & 0x7fffffff;
          operands[i] = magnitude === 0 || magnitude >= 0x7f800000 ? 0x3f800000 : magnitude;
        }
      }
      expect(firstWrong(operands, await run(operands, "", `${name}(a, b)`), operation)).toBeUndefined();
    });
  }

  // Every significand there is, and each with a guess that is up to four units off.
  it("corrects the reciprocal of every significand, whatever the device's division gave", async () => {
    const operands = new Uint32Array(2 * 2 ** 23);
    // At exponents whose reciprocals are ordinary, and where they become subnormal, or infinite.
    const exponents = [1, 2, 100, 127, 200, 252, 253, 254];
    for (let i = 0; i < 2 ** 23; i++) operands[2 * i] = (exponents[(i >> 3) % 8]! << 23) | i;
    const declarations = `var<private> injected: i32;
      ${reciprocalOf("injected")}
      fn tried(a: u32, i: u32) -> u32 { injected = i32(i % 9u) - 4; return reciprocal(a); }`;
    const results = await run(operands, declarations, "tried(a, i)");
    expect(firstWrong(operands, results, (a) => 1 / a)).toBeUndefined();
  });

  it("knows reciprocals of subnormals, of powers of two, and of what has none", async () => {
    const random = pseudoRandom(9);
    const special = [0, 1, 0x200000, 0x200001, 0x1fffff, 0x7f800000];
    const powers = Array.from({ length: 254 }, (_, i) => (i + 1) << 23);
    const subnormals = Array.from({ length: 50_000 }, () => Math.floor(random() * 0x800000));
    const operands = Uint32Array.from([...special, ...powers, ...subnormals].flatMap((bits) => [bits, 0]));
    const results = await run(operands, reciprocalOf(), "reciprocal(a)");
    expect(firstWrong(operands, results, (a) => 1 / a)).toBeUndefined();
  });
});
