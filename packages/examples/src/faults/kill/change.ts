import { open, readFile, rename, writeFile } from "node:fs/promises";
import type { Draws } from "../draws.js";

/** What becomes of a source between two attempts. */
export const CHANGES = ["nothing", "nothing", "nothing", "replaced", "changed in place"] as const;
export type Change = (typeof CHANGES)[number];

const REGION_BYTES = 512 * 1024;

/** A header's end is at a multiple of 8, and so of a float. */
async function dataBegin(path: string): Promise<number> {
  const file = await open(path);
  try {
    const length = Buffer.alloc(8);
    await file.read(length, 0, 8, 0);
    return 8 + Number(length.readBigUInt64LE());
  } finally {
    await file.close();
  }
}

export async function changeSource(path: string, change: Change, draws: Draws): Promise<void> {
  if (change === "replaced") return replace(path);
  if (change === "changed in place") return changeInPlace(path, draws);
}

/** Another model of the same shapes: every value is where another one was. */
async function replace(path: string): Promise<void> {
  const begin = await dataBegin(path);
  const file = await readFile(path);
  const data = file.subarray(begin);
  const shift = 4 * 1021;
  const turned = Buffer.concat([file.subarray(0, begin), data.subarray(shift), data.subarray(0, shift)]);
  await writeFile(`${path}.new`, turned);
  await rename(`${path}.new`, path);
}

/** Some of it, as a training run does that writes over its checkpoint. */
async function changeInPlace(path: string, draws: Draws): Promise<void> {
  const begin = await dataBegin(path);
  const file = await open(path, "r+");
  try {
    const { size } = await file.stat();
    for (let times = draws.between(1, 4); times > 0; times--) {
      const at = begin + 4 * draws.below((size - begin - REGION_BYTES) / 4);
      const values = new Float32Array(REGION_BYTES / 4).map((_, i) => Math.sin(i + at) / 50);
      await file.write(new Uint8Array(values.buffer), 0, REGION_BYTES, at);
    }
  } finally {
    await file.close();
  }
}
