import { expect } from "vitest";
import { built } from "./instruction-sets.js";

/** What stands beside the views of `guarded`. */
export const UNTOUCHED = 0xa5;

export const CALLS = [
  "encode",
  "decode",
  "accumulate",
  "inspect",
  "hash",
  "pack",
  "unpack",
  "makeFrame",
  "openFrame",
  "cancel",
  "addressOffset",
] as const;
export type Call = (...args: unknown[]) => unknown;

/** The addon, without the TypeScript that calls it: whatever is wrong with its arguments it has to notice itself. */
export const addon = built as unknown as Record<(typeof CALLS)[number], Call>;

/** 256 bytes amid others, to see what is written beside them. */
export function guarded(bytes = 256) {
  const all = new Uint8Array(bytes + 512).fill(UNTOUCHED);
  return { all, view: all.subarray(256, 256 + bytes) };
}

export function refused(name: keyof typeof addon, args: unknown[], code = "INVALID_ARGUMENT"): void {
  let thrown: unknown;
  try {
    addon[name](...args);
  } catch (error) {
    thrown = error;
  }
  const said = args.map((arg) => (typeof arg === "object" ? arg?.constructor.name : String(arg)));
  expect(thrown, `${name} of ${said.join(", ")}`).toMatchObject({ code });
}

/** As src/native-spec.ts writes them. */
export function options(flags: number, scale = 0, weight = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(24));
  view.setUint32(0, flags, true);
  view.setFloat32(4, scale, true);
  view.setFloat64(16, weight, true);
  return new Uint8Array(view.buffer);
}
