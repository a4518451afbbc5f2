// Every float there is, through the kernels of every instruction set: blockwise8, float4 and normfloat4 over all of
// [-1, 1] in blocks whose scale is 1, against their definition, thresholds compared one by one; float16 and bfloat16 over
// all 2^32 patterns, against the reference codecs. A few minutes, most of them the reference's.
//
//   node scripts/exhaustive.mjs [--sample] [<addon>]      (--sample: one run of floats in 512, for CI)
import { parseArgs } from "node:util";
import {
  bfloat16,
  DYNAMIC8_MIDPOINTS,
  FP4_CODES,
  FP4_THRESHOLDS,
  float16,
  NF4_THRESHOLDS,
} from "@tensorwire/core";
import { FOUND, loadAddon } from "../dist/addon.js";

const {
  values: { sample = false },
  positionals: [path],
} = parseArgs({ options: { sample: { type: "boolean" } }, allowPositionals: true });

const F32 = 3;
const BLOCK = 4096;
const BLOCKS = 256;
const ONE = 0x3f800000;
const SIGN = 0x80000000;
const STRIDE = sample ? 512 : 1;

const word = new DataView(new ArrayBuffer(4));
const floatOf = (bits) => {
  word.setUint32(0, bits);
  return word.getFloat32(0);
};
const bitsOf = (value) => {
  word.setFloat32(0, value);
  return word.getUint32(0);
};

const count = (thresholds, passed) => thresholds.reduce((sum, t, i) => sum + (passed(t, i) ? 1 : 0), 0);

/** Codecs of blocks, as bitsandbytes defines a code. */
const BLOCK_CODECS = [
  {
    name: "blockwise8",
    id: 3,
    thresholds: DYNAMIC8_MIDPOINTS,
    // A tie goes to the even code.
    code: (x) => count(DYNAMIC8_MIDPOINTS, (t, i) => (i % 2 === 0 ? x > t : x >= t)),
  },
  {
    name: "float4",
    id: 4,
    thresholds: [0, ...FP4_THRESHOLDS, ...FP4_THRESHOLDS.map((t) => -t)],
    code: (x) => (x < 0 ? 8 : 0) + FP4_CODES[count(FP4_THRESHOLDS, (t) => Math.abs(x) > t)],
  },
  {
    name: "normfloat4",
    id: 5,
    thresholds: NF4_THRESHOLDS,
    code: (x) => count(NF4_THRESHOLDS, (t) => x > t),
  },
];

const addon = loadAddon(path);
if (addon instanceof Error) throw addon;

function differs(where, isa, i, bits) {
  throw new Error(
    `${addon.isas[isa]}: ${where} of 0x${bits.toString(16).padStart(8, "0")} differs (element ${i})`,
  );
}

function compare(where, isa, found, expected, bitsAt) {
  if (Buffer.compare(found, expected) === 0) return;
  const i = expected.findIndex((byte, k) => byte !== found[k]);
  differs(where, isa, i, bitsAt(i));
}

const words = new Uint32Array(BLOCK * BLOCKS);
const source = new Uint8Array(words.buffer);
const codes = new Uint8Array(words.length);
const target = new Uint8Array(source.length);

/** Patterns at which a code changes, of one sign, ascending. */
function changes({ thresholds, code }, sign) {
  const near = thresholds
    .filter((t) => (sign === 0 ? t >= 0 : t <= 0))
    .flatMap((t) => {
      const bits = bitsOf(Math.abs(t));
      return [bits, bits + 1];
    });
  const starts = [...new Set([0, ...near])].filter((bits) => bits <= ONE).sort((a, b) => a - b);
  return starts.map((bits) => ({ bits, code: code(floatOf((sign | bits) >>> 0)) }));
}

/** All magnitudes up to 1, of one sign: each block has a 1 in front, and 4095 of them in ascending order. */
function exhaustBlocks(sign) {
  const runs = BLOCK_CODECS.map((codec) => changes(codec, sign));
  const portion = (BLOCK - 1) * BLOCKS;
  let floats = 0;
  for (let first = 0, turn = 0; first <= ONE; first += portion, turn++) {
    if (turn % STRIDE !== 0) continue;
    for (let b = 0, bits = first; b < BLOCKS; b++) {
      words[b * BLOCK] = ONE;
      // Beyond 1 there is nothing to look at: 0 again.
      for (let i = 1; i < BLOCK; i++, bits++) words[b * BLOCK + i] = bits <= ONE ? (sign | bits) >>> 0 : 0;
    }
    floats += Math.min(portion, ONE + 1 - first);
    BLOCK_CODECS.forEach((codec, c) => {
      const zero = codec.code(0);
      for (let b = 0, bits = first; b < BLOCKS; b++, bits += BLOCK - 1) {
        const block = codes.subarray(b * BLOCK, (b + 1) * BLOCK);
        block.fill(zero);
        block[0] = codec.code(1);
        let r = runs[c].findLastIndex((run) => run.bits <= bits);
        for (let at = bits; at < bits + BLOCK - 1 && at <= ONE; r++) {
          const end = Math.min(runs[c][r + 1]?.bits ?? ONE + 1, bits + BLOCK - 1);
          block.fill(runs[c][r].code, 1 + at - bits, 1 + end - bits);
          at = end;
        }
      }
      let expected = codes;
      if (codec.id !== 3) {
        expected = new Uint8Array(codes.length / 2);
        for (let i = 0; i < expected.length; i++) expected[i] = (codes[2 * i] << 4) | codes[2 * i + 1];
      }
      addon.isas.forEach((_, isa) => {
        addon.encode(isa, codec.id, BLOCK, F32, words.length, source, target);
        const { found } = addon;
        compare(
          `${codec.name} code`,
          isa,
          target.subarray(found[FOUND.scaleBytes], found[FOUND.bytes]),
          expected,
          (i) => words[codec.id === 3 ? i : 2 * i],
        );
      });
    });
  }
  return floats;
}

/** All patterns, NaN and infinity too. */
function exhaustHalves() {
  const expected = new Uint8Array(2 * words.length);
  let floats = 0;
  for (let first = 0, turn = 0; first < 2 ** 32; first += words.length, turn++) {
    if (turn % STRIDE !== 0) continue;
    for (let i = 0; i < words.length; i++) words[i] = first + i;
    floats += words.length;
    for (const codec of [float16, bfloat16]) {
      const { nonFinite, clamped } = codec.encode(
        { name: codec.name },
        "F32",
        words.length,
        source,
        expected,
      );
      addon.isas.forEach((_, isa) => {
        addon.encode(isa, codec.id, 0, F32, words.length, source, target);
        const { found } = addon;
        if (found[FOUND.nonFinite] !== nonFinite || found[FOUND.clamped] !== clamped)
          differs(`${codec.name}'s count`, isa, 0, first);
        compare(codec.name, isa, target.subarray(0, found[FOUND.bytes]), expected, (i) => words[i >> 1]);
      });
    }
  }
  return floats;
}

const blocks = exhaustBlocks(0) + exhaustBlocks(SIGN);
const halves = exhaustHalves();
console.log(
  `${addon.isas.join(", ")}: ${blocks} floats of [-1, 1] in blocks, and ${halves} as 16-bit floats, as they are defined`,
);
